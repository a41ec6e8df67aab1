"""Transforms: exact where a plain version exists, image and mask together, any band count and dtype."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg.data.augment import resizing, transforms
from genseg.data.card import Band, DatasetCard
from genseg.errors import UserError

BANDS = (1, 2, 3, 4, 5, 6, 13)
DTYPES = ("uint8", "uint16", "int16", "float32")


def card_of(bands: int, dtype: str = "uint8", names: tuple[str, ...] = ()) -> DatasetCard:
    names = names or tuple(f"b{i}" for i in range(bands))
    return DatasetCard(
        "made", "segmentation", tuple(Band(n, mean=40.0 + i, low=0, high=250) for i, n in enumerate(names)),
        ("a", "b", "c"), (), 255, (0, 1, 2), {}, "none", True, dtype,
    )  # fmt: skip


def linked(size: tuple[int, int], bands: int, dtype: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A mask and an image whose every band is 50 * (id + 1): any wrong pairing shows."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 3, (size[0] // 8 + 1, size[1] // 8 + 1)), np.ones((8, 8), int))
    mask = mask[: size[0], : size[1]].astype(np.uint8)
    return np.repeat((50 * (mask[..., None] + 1)).astype(dtype), bands, axis=2), mask


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_keeps_bands_apart(bands, dtype):
    """Every band is resized as if it were alone, when growing, shrinking and doing one of each."""
    image = (np.random.default_rng(0).random((24, 30, bands)) * 250).astype(dtype)
    for height, width in ((48, 60), (12, 10), (40, 10), (12, 50), (24, 30)):
        out = resizing.resize(image, height, width)
        assert out.shape == (height, width, bands) and out.dtype == dtype
        for band in range(bands):
            alone = resizing.resize(image[..., band : band + 1], height, width)
            difference = np.abs(out[..., band : band + 1].astype(float) - alone)
            assert difference.max() <= (1e-3 if dtype == "float32" else 1)  # OpenCV rounds by channel count


def test_two_hundred_bands_are_scaled_and_mirrored():
    image, mask = linked((24, 30), 200, "uint16")
    image += np.arange(200, dtype=np.uint16)
    grown = resizing.resize(image, 48, 60, "bilinear")
    np.testing.assert_array_equal(grown[..., 150:151], resizing.resize(image[..., 150:151], 48, 60, "bilinear"))
    found, _ = transforms.random_flips(image, mask, np.random.default_rng(0), 1.0, 1.0)
    np.testing.assert_array_equal(found, image[::-1, ::-1])


def test_shrinking_averages():
    image = np.arange(64, dtype=np.float32).reshape(8, 8, 1)
    expected = image.reshape(4, 2, 4, 2).mean((1, 3))[..., None]
    np.testing.assert_allclose(resizing.resize(image, 4, 4), expected, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_nearest_mask_takes_the_pixel_under_each_centre(h, w, height, width):
    mask = np.random.default_rng(0).integers(0, 9, (h, w)).astype(np.uint8)
    out = resizing.resize_mask(mask, height, width)
    for y in range(height):
        for x in range(width):
            assert out[y, x] == mask[int((y + 0.5) * h / height + 1e-9), int((x + 0.5) * w / width + 1e-9)]


def test_crop_box_follows_the_stated_distribution():
    rng = np.random.default_rng(0)
    boxes = np.array([transforms.crop_box(100, 120, rng, (0.2, 0.8), (3 / 4, 4 / 3)) for _ in range(4000)])
    top, left, h, w = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 100).all() and (left + w <= 120).all()
    ratio = w / h
    assert ratio.min() > 0.73 and ratio.max() < 1.37
    assert abs(np.log(ratio).mean()) < 0.02  # log-uniform: symmetric about 1
    share = h * w / 12000
    assert share.min() > 0.19 and share.max() < 0.81 and abs(share.mean() - 0.5) < 0.03


def timm_crop(height, width, rng, scale, ratio):
    """timm/data/transforms.py RandomResizedCropAndInterpolation.get_params, which is torchvision's, with `rng` for Python's
    random: (top, left, h, w)."""
    draws = rng.random((10, 2))
    log = math.log(ratio[0]), math.log(ratio[1])
    for u, v in draws:
        target = (scale[0] + (scale[1] - scale[0]) * u) * height * width
        aspect = math.exp(log[0] + (log[1] - log[0]) * v)
        w, h = int(round(math.sqrt(target * aspect))), int(round(math.sqrt(target / aspect)))
        if w <= width and h <= height:
            return rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w, endpoint=True), h, w
    if width / height < min(ratio):
        w, h = width, int(round(width / min(ratio)))
    elif width / height > max(ratio):
        w, h = int(round(height * max(ratio))), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (100, 400), (1000, 90), (333, 250), (17, 19)])
def test_crop_boxes_are_timms(shape):
    """Ten tries, the same box from the same draws, and the same fallback (which long images often need)."""
    for seed in range(400):
        args = ((0.08, 1.0), (3 / 4, 4 / 3)) if seed % 2 else ((0.8, 1.0), (3 / 4, 4 / 3))
        found = transforms.crop_box(*shape, np.random.default_rng(seed), *args)
        assert found == timm_crop(*shape, np.random.default_rng(seed), *args)


def assert_pillows(found: np.ndarray, want: np.ndarray) -> None:
    """Within the bounds of `genseg.data.augment.simd`, of noise, which is the hardest."""
    apart = np.abs(found.astype(int) - np.asarray(want).astype(int))
    assert apart.mean() < 0.5 and apart.max() <= 24, (apart.mean(), apart.max())


@pytest.mark.parametrize("shape", [(375, 500), (170, 190), (100, 300)])
def test_bicubic_of_a_photograph_is_pillows_but_for_rounding(shape):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    want = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    apart = np.abs(resizing.resize(image, 224, 224, "bicubic").astype(int) - want)
    assert apart.mean() < 0.5 and np.percentile(apart, 99.9) <= 2


def test_training_crop_and_mirror_are_pillows():
    """Cut out first, then resized (timm RandomResizedCropAndInterpolation.__call__), then mirrored in half of the cases."""
    image = np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8)
    transform = transforms.classification_train(48, interpolation="bicubic")
    mirrored = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        top, left, h, w = timm_crop(180, 240, rng, (0.08, 1.0), (3 / 4, 4 / 3))
        want = Image.fromarray(image).crop((left, top, left + w, top + h)).resize((48, 48), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            want, mirrored = want.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored + 1
        found = transform({"image": image, "label": 3}, np.random.default_rng(seed))
        assert_pillows(found["image"], want)
    assert 10 < mirrored < 30


def test_crop_box_of_an_impossible_ratio_is_the_largest_central_one():
    assert transforms.crop_box(10, 100, np.random.default_rng(0), (0.9, 1.0), (3 / 4, 4 / 3)) == (0, 43, 10, 13)
    assert transforms.crop_box(100, 10, np.random.default_rng(0), (0.9, 1.0), (3 / 4, 4 / 3)) == (43, 0, 13, 10)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(5, 70), st.integers(5, 70), st.sampled_from((1, 4, 6)),
    st.sampled_from(("uint8", "float32")), st.booleans(),
)  # fmt: skip
def test_image_and_mask_move_together(seed, h, w, bands, dtype, turns):
    """Away from class borders, where resizing mixes values, each pixel still tells its class; padding is ignored."""
    image, mask = linked((h, w), bands, dtype, seed % 7)
    card = card_of(bands, dtype)
    transform = transforms.segmentation_train(
        card, (32, 32), scale=(0.6, 1.8), cat_max_ratio=0.75, horizontal_flip=0.5, vertical_flip=0.5, turns=turns
    )
    out = transform({"image": image, "label": mask}, np.random.default_rng(seed))
    assert out["image"].shape == (32, 32, bands) and out["image"].dtype == dtype and out["label"].shape == (32, 32)
    label = out["label"]
    ignored = label == 255
    assert (out["image"][ignored] == card.fill).all()
    # Two pixels from any border, also from that of the crop, beyond which another class may lie.
    kernel, constant = np.ones((5, 5)), cv2.BORDER_CONSTANT
    lowest = cv2.erode(label, kernel, borderType=constant, borderValue=0)
    inner = lowest == cv2.dilate(label, kernel, borderType=constant, borderValue=254)
    inner &= ~ignored
    assert np.allclose(out["image"][inner].astype(float), 50.0 * (label[inner][:, None] + 1), atol=1)


def test_flips_and_turns_are_exact_and_equally_likely():
    image, mask = linked((16, 16), 3, "uint8")
    seen = {}
    rng = np.random.default_rng(0)
    for _ in range(800):
        turned = transforms.random_turn(image, mask, rng)[1].tobytes()
        seen[turned] = seen.get(turned, 0) + 1
    assert set(seen) == {np.rot90(mask, k).tobytes() for k in range(4)} and min(seen.values()) > 150
    for horizontal, vertical, expected in ((1, 0, mask[:, ::-1]), (0, 1, mask[::-1]), (0, 0, mask)):
        flipped, flipped_mask = transforms.random_flips(image, mask, rng, horizontal, vertical)
        assert np.array_equal(flipped_mask, expected) and np.array_equal(flipped[..., 0], 50 * (expected + 1))


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.sampled_from((1, 3, 4, 5, 13)), st.sampled_from(DTYPES), st.data(),
)  # fmt: skip
def test_a_part_of_a_resized_image_is_that_part(old, new, bands, dtype, data):
    """Of noise, where any shift by a fraction of a pixel shows; the box anywhere, at the edges too."""
    image = (np.random.default_rng(0).random((*old, bands)) * 250).astype(dtype)
    top, left = (data.draw(st.integers(0, side - 1)) for side in new)
    box = resizing.Box(top, left, data.draw(st.integers(1, new[0] - top)), data.draw(st.integers(1, new[1] - left)))
    whole = resizing.resize(image, *new, "bilinear")
    part = resizing.resize_part(image, *new, box)
    assert part.dtype == whole.dtype and part.shape == (box.height, box.width, bands)
    apart = np.abs(part.astype(float) - box.of(whole)).max()
    assert apart <= (1e-3 if dtype == "float32" else 1)
    mask = image[..., 0].astype(np.uint8)
    assert np.array_equal(resizing.resize_mask(mask, *new, box), box.of(resizing.resize_mask(mask, *new)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from((3, 4, 6)), st.sampled_from(("uint8", "uint16")), st.sampled_from((0.0, 0.5))
)
def test_crops_are_those_of_the_whole_image(seed, bands, dtype, class_crops):
    """Against the same steps one after the other on whole arrays: equal draws, masks equal, images within 1."""
    rng = np.random.default_rng(seed)
    h, w = rng.integers(20, 90, 2)
    image, mask = (rng.random((h, w, bands)) * 250).astype(dtype), rng.integers(0, 4, (h, w)).astype(np.uint8)
    card = card_of(bands, dtype)
    out = transforms.segmentation_train(card, (40, 48), horizontal_flip=0, class_crops=class_crops)(
        {"image": image, "label": mask}, np.random.default_rng(seed)
    )
    rng = np.random.default_rng(seed)
    factor = rng.uniform(0.5, 2.0)
    grown = resizing.resize(image, max(1, round(h * factor)), max(1, round(w * factor)), "bilinear")
    ids = resizing.resize_mask(mask, *grown.shape[:2])
    whole = resizing.Scaled(grown, ids, *ids.shape)
    if class_crops and rng.random() < class_crops:
        crop = transforms.class_crop(whole, rng, 40, 48, 255)
    else:
        crop = transforms.random_crop(whole, rng, 40, 48, 0.75, 255)
    expected, label = transforms.pad(*crop, 40, 48, card.fill, 255)
    assert np.array_equal(out["label"], label)
    assert np.abs(out["image"].astype(int) - expected.astype(int)).max() <= 1


def as_is(image: np.ndarray, mask: np.ndarray) -> resizing.Scaled:
    return resizing.Scaled(image, mask, *mask.shape)


def test_crop_avoids_a_ruling_class_and_gives_up_after_ten():
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32] = 1
    mask[:, 60:] = 255
    image = mask[..., None]
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(100):
        _, part = transforms.random_crop(as_is(image, mask), rng, 16, 16, 0.75, 255)
        counts = np.bincount(part[part != 255], minlength=2)
        shares.append(counts.max() / counts.sum())
    free = [transforms.random_crop(as_is(image, mask), rng, 16, 16, 1.0, 255)[1] for _ in range(100)]
    mixed = [0 < np.mean(p[p != 255]) < 1 and max(np.mean(p[p != 255]), 1 - np.mean(p[p != 255])) < 0.75 for p in free]
    assert np.mean(np.array(shares) < 0.75) > 0.55 > 0.3 > np.mean(mixed)
    same = np.zeros((20, 20), np.uint8)
    assert transforms.random_crop(as_is(same[..., None], same), rng, 8, 8, 0.75, 255)[1].shape == (8, 8)


def test_ignored_pixels_are_no_class_that_rules_a_crop():
    """80 % ignored, the rest half and half: the first try is taken."""
    mask = np.full((40, 40), 255, np.uint8)
    mask[:, ::10], mask[:, 5::10] = 0, 1
    rng, once = np.random.default_rng(3), np.random.default_rng(3)
    transforms.random_crop(as_is(mask[..., None], mask), rng, 20, 20, 0.75, 255)
    once.integers(21), once.integers(21)
    assert rng.integers(1 << 30) == once.integers(1 << 30)


def plain_distortion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """mmsegmentation's PhotoMetricDistortion written out a pixel at a time, for RGB uint8, with OpenCV's HSV."""
    does = rng.random(4) < 0.5
    early = rng.random() < 0.5
    brightness, contrast, saturation = rng.uniform(-32, 32), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5)
    hue = int(rng.integers(-18, 18))

    def convert(value: int, alpha: float = 1.0, beta: float = 0.0) -> int:
        moved = np.float32(np.float32(value) * np.float32(alpha) + np.float32(beta))
        return int(min(max(moved, np.float32(0)), np.float32(255)))

    out = image.copy()
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            rgb = [int(v) for v in image[y, x]]
            if does[0]:
                rgb = [convert(v, beta=brightness) for v in rgb]
            if does[1] and early:
                rgb = [convert(v, alpha=contrast) for v in rgb]
            if does[2]:
                h, s, v = cv2.cvtColor(np.uint8([[rgb]]), cv2.COLOR_RGB2HSV)[0, 0].tolist()
                rgb = cv2.cvtColor(np.uint8([[[h, convert(s, alpha=saturation), v]]]), cv2.COLOR_HSV2RGB)[0, 0].tolist()
            if does[3]:
                h, s, v = cv2.cvtColor(np.uint8([[rgb]]), cv2.COLOR_RGB2HSV)[0, 0].tolist()
                rgb = cv2.cvtColor(np.uint8([[[(h + hue) % 180, s, v]]]), cv2.COLOR_HSV2RGB)[0, 0].tolist()
            if does[1] and not early:
                rgb = [convert(v, alpha=contrast) for v in rgb]
            out[y, x] = rgb
    return out


@pytest.mark.parametrize("seed", range(40))
def test_photometric_distortion_equals_the_plain_version(seed):
    rng = np.random.default_rng(1000 + seed)
    image = rng.integers(0, 256, (5, 6, 5), dtype=np.uint8)
    out = transforms.photometric_distortion(image, np.random.default_rng(seed), (3, 0, 2))
    assert np.array_equal(out[..., [3, 0, 2]], plain_distortion(image[..., [3, 0, 2]], np.random.default_rng(seed)))
    assert np.array_equal(out[..., [1, 4]], image[..., [1, 4]])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_photometric_distortion_of_other_dtypes_is_the_same_in_their_own_units(seed, dtype):
    eight = np.random.default_rng(seed).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    low, high = 100.0, 100.0 + 255 * 16
    other = (eight.astype(np.float32) * 16 + 100).astype(dtype)
    exact = transforms.photometric_distortion(eight, np.random.default_rng(seed), (0, 1, 2)).astype(float)
    out = transforms.photometric_distortion(other, np.random.default_rng(seed), (0, 1, 2), low, high)
    assert out.dtype == dtype and np.array_equal(out[..., 3], other[..., 3])
    # 8-bit HSV rounds hue to 2 degrees and saturation to 1/255: single dark pixels move by a few steps.
    difference = np.abs((out.astype(float) - 100) / 16 - exact)
    assert np.median(difference) < 1.5 and np.percentile(difference, 95) < 8


def test_all_eight_bit_draws_happen():
    image = np.full((4, 4, 3), (120, 80, 40), np.uint8)
    changed = [
        not np.array_equal(transforms.photometric_distortion(image, np.random.default_rng(s), (0, 1, 2)), image)
        for s in range(200)
    ]
    assert 0.88 < np.mean(changed) < 0.99  # 15 of 16


def test_distortion_follows_band_names_and_needs_them():
    card = card_of(4, names=("nir", "blue", "green", "red"))
    with pytest.raises(UserError, match="no band named red, green or blue"):
        transforms.segmentation_train(card_of(3), (8, 8), photometric=True)
    image, mask = linked((16, 16), 4, "uint8")
    transform = transforms.segmentation_train(card, (16, 16), scale=(1.0, 1.0), horizontal_flip=0, photometric=True)
    out = [transform({"image": image, "label": mask}, np.random.default_rng(s))["image"] for s in range(8)]
    assert all(np.array_equal(o[..., 0], image[..., 0]) for o in out)
    assert any(not np.array_equal(o, image) for o in out)


def test_turns_need_squares():
    with pytest.raises(UserError, match="square"):
        transforms.segmentation_train(card_of(3), (8, 16), turns=True)


def test_evaluation_crops_and_pads():
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    out = transforms.classification_eval(20, crop_share=1.0)({"image": image, "label": 7}, None)
    assert np.array_equal(out["image"], image[:, 5:25]) and out["label"] == 7
    assert transforms.classification_eval(14)({"image": image, "label": 7}, None)["image"].shape == (14, 14, 3)
    card = card_of(3)
    mask = np.zeros((20, 30), np.uint8)
    out = transforms.segmentation_eval(card, multiple=16)({"image": image, "label": mask}, None)
    assert out["image"].shape == (32, 32, 3) and np.array_equal(out["image"][:20, :30], image)
    assert (out["label"][:20, :30] == 0).all() and (out["label"] == 255).sum() == 32 * 32 - 600
    assert (out["image"][20:] == card.fill).all()
    with pytest.raises(UserError, match="big has 20 x 30"):
        transforms.segmentation_eval(card, size=(16, 32))({"image": image, "label": mask, "name": "big"}, None)


def torchvision_eval(picture, size, share):
    """Resize(int(size / share), BICUBIC) and CenterCrop(size), as torchvision/transforms/functional.py has them."""
    w, h = picture.size
    short = int(size / share)
    new_w, new_h = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    picture = picture.resize((new_w, new_h), Image.Resampling.BICUBIC)
    top, left = int(round((new_h - size) / 2.0)), int(round((new_w - size) / 2.0))
    return np.asarray(picture.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", BANDS)
def test_mirrors_of_any_bands(bands, dtype):
    image, mask = linked((9, 14), bands, dtype)
    image = image + np.arange(image.size, dtype=dtype).reshape(image.shape) % np.asarray(37, dtype)
    for part in (image, image[2:, 3:]):  # a crop is a view
        found, mirrored = transforms.random_flips(part, mask[2:, 3:], np.random.default_rng(0), 1.0, 1.0)
        np.testing.assert_array_equal(found, part[::-1, ::-1])
        np.testing.assert_array_equal(mirrored, mask[2:, 3:][::-1, ::-1])
        assert found.dtype == dtype and found.flags.c_contiguous


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (333, 500), (257, 300), (60, 61), (256, 256)])
def test_published_evaluation_is_torchvisions(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    transform = transforms.classification_eval(224, crop_share=0.875, interpolation="bicubic")
    want = torchvision_eval(Image.fromarray(image), 224, 0.875)
    assert_pillows(transform({"image": image, "label": 0}, None)["image"], want)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_bicubic_of_any_bands_is_pillows_band_by_band(bands, dtype):
    image = (np.random.default_rng(1).random((40, 50, bands)) * 250).astype(dtype)
    photograph = bands == 3 and dtype == "uint8"
    out = resizing.resize(image, 17, 23, "bicubic")
    assert out.dtype == image.dtype and out.shape == (17, 23, bands)
    for band in range(bands):
        plane = image[..., band] if dtype == "uint8" else image[..., band].astype("f4")
        want = np.asarray(Image.fromarray(plane).resize((23, 17), Image.Resampling.BICUBIC))
        want = np.clip(want, plane.min(), plane.max()) if dtype == "float32" else want
        np.testing.assert_allclose(out[..., band], want, atol=24 if photograph else 0.5 if dtype == "uint16" else 0)


def test_unknown_interpolation_and_bad_ranges_are_named():
    with pytest.raises(UserError, match="'nearest': choose one of area"):
        transforms.classification_train(32, interpolation="nearest")
    with pytest.raises(UserError, match="The scale of random crops is 0.9 to 0.2"):
        transforms.classification_train(32, scale=(0.9, 0.2))
    with pytest.raises(UserError, match="The ratio of random crops is 0 to 1"):
        transforms.classification_train(32, ratio=(0, 1))
    with pytest.raises(UserError, match="share of the shorter side is 1.2"):
        transforms.classification_eval(32, crop_share=1.2)
