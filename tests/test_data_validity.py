"""When a pixel holds a measurement, against plain NumPy; and what a score must not pass over in silence."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg.data import show
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, masks, rasters, validity
from genseg.data.records import storage
from genseg.data.sets.own import FolderSegmentation
from genseg.errors import UserError


def card_of(bands: tuple[Band, ...], dtype: str) -> DatasetCard:
    return DatasetCard("a", "segmentation", bands, ("x", "y"), (), 255, (0, 1), {}, "", True, dtype=dtype)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    stated=st.lists(st.sampled_from([None, 0, 255, -9999]), min_size=3, max_size=3),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]), nan=st.booleans(),
)  # fmt: skip
def test_validity_equals_a_loop_over_files(seed, sizes, stated, dtype, nan):
    if dtype in ("uint8", "uint16"):
        stated = [None if s == -9999 else s for s in stated]
    rng = np.random.default_rng(seed)
    files = [f for f, size in enumerate(sizes) for _ in range(size)]
    choices = [v for v in (0, 255, 7, -9999) if v >= 0 or dtype in ("int16", "float32")]
    image = rng.choice(choices, (6, 7, len(files))).astype(dtype)
    if nan and dtype == "float32":
        image[rng.random(image.shape) < 0.2] = np.nan
    bands = tuple(Band(f"b{i}", mean=3, nodata=stated[f]) for i, f in enumerate(files))
    card = card_of(bands, dtype)
    lacking = np.isnan(image) if dtype == "float32" else np.zeros(image.shape, bool)
    for file, nodata in enumerate(stated[: len(sizes)]):
        of_file = [i for i, f in enumerate(files) if f == file]
        if nodata is None:
            continue
        hit = image[..., of_file] == nodata
        if nodata == 0 or dtype.startswith("u"):
            hit[:] = hit.all(axis=2, keepdims=True)
        lacking[..., of_file] |= hit
    told = validity.of_files(bands, files, np.dtype(dtype))
    measured = validity.measured_pixels(image, told)
    np.testing.assert_array_equal(np.ones(image.shape, bool) if measured is None else measured, ~lacking)
    out = pipeline.filled(image, dataclasses.replace(card, bands=told))
    np.testing.assert_array_equal(out, np.where(lacking, np.array(3, dtype), image))
    assert out.dtype == image.dtype
    taken = rng.choice(len(files), rng.integers(1, len(files) + 1), replace=False).tolist()
    some = card_of(tuple(bands[i] for i in taken), dtype)
    np.testing.assert_array_equal(pipeline.filled(image, some, told, taken), out[..., taken])
    measured = validity.measured_pixels(image, told, taken)
    np.testing.assert_array_equal(
        np.ones((6, 7, len(taken)), bool) if measured is None else measured, ~lacking[..., taken]
    )


def test_a_hole_lacks_its_own_value_and_stays_in_the_score():
    card = card_of((Band("red", nodata=0), Band("thermal", mean=9, nodata=0, hole=True)), "uint8")
    image = np.array([[[5, 0], [0, 5], [0, 0], [5, 5]]], np.uint8)
    np.testing.assert_array_equal(
        validity.measured_pixels(image, card.bands)[0].all(axis=1), [True, False, False, True]
    )
    np.testing.assert_array_equal(pipeline.filled(image, card)[0, :, 1], [9, 5, 9, 5])


def test_a_constant_band_says_nothing():
    card = card_of(
        (Band("red", 100, 20, 0, 200), Band("alpha", 255, 0, 255, 255), Band("tiny", 1e-9, 1e-9, 0, 3e-9)), "uint8"
    )
    values = np.array([[120.0, 255.0, 0], [120.0, 254.0, 0]], np.float32)
    normal = (values - card.mean) / card.std
    np.testing.assert_allclose(normal[:, :2], [[1, 0], [1, 0]], atol=1e-12)
    assert [b.constant for b in card.bands] == [False, True, False]


# -------------------------------------------------------------------------------------------------------- preparing


def pairs(root, image, mask, dtype="uint8", suffix="png"):
    """A train and a val split of one pair each; image, mask: functions of the split."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        (root / split / "images" / f"a.{suffix}").write_bytes(image(split))
        Image.fromarray(mask(split)).save(root / split / "masks" / "a.png")
    return root


def picture(split: str, bands: int = 3) -> bytes:
    return codec.encode_image(np.random.default_rng(len(split)).integers(1, 200, (16, 16, bands), dtype=np.uint8))


def prepare(root, tmp_path, **options):
    options = {"classes": ("background", "building"), **options}
    plan = FolderSegmentation(str(root), **options).plan()
    return storage.write(plan, tmp_path / "data", progress=False)


def test_masks_of_0_and_255_are_noted(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    folder = prepare(pairs(tmp_path / "raw", picture, lambda split: mask), tmp_path)
    notes = DatasetCard.read(folder).notes
    assert len(notes) == 2 and all(
        "'building' (1 of 2 scored classes; 50.0% of the pixels are ignored)" in n for n in notes
    )
    assert [n.split(":")[0] for n in notes] == ["NEVER IN train", "NEVER IN val"]


def test_a_split_without_a_counted_pixel_is_refused_and_leaves_nothing(tmp_path):
    full = np.arange(256, dtype=np.uint8).reshape(16, 16) % 2
    root = pairs(tmp_path / "raw", picture, lambda split: full if split == "train" else np.full_like(full, 255))
    with pytest.raises(UserError, match="No pixel of the split 'val' counts"):
        prepare(root, tmp_path)
    assert not list((tmp_path / "data").iterdir())


def test_a_mask_whose_nodata_is_a_class_is_refused(tmp_path):
    import tifffile

    full = np.arange(256, dtype=np.uint8).reshape(16, 16) % 2
    root = pairs(tmp_path / "raw", picture, lambda split: full)
    for split in ("train", "val"):
        tifffile.imwrite(root / split / "masks" / "a.tif", full, extratags=[(42113, "s", 0, "0", True)])
    with pytest.raises(UserError, match=r"a\.tif states the nodata value 0, which is the id of the class 'background'"):
        prepare(root, tmp_path, mask_pattern="{split}/masks/{id}.tif")


def test_an_ignore_label_other_than_255_and_a_constant_band(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16) % 2
    mask[0] = 250

    def rgba(split: str) -> bytes:
        image = codec.decode_image(picture(split, 4), "x").copy()
        image[..., 3] = 255
        return codec.encode_image(image)

    options = {"bands": ("red", "green", "blue", "alpha"), "ignore_label": 250}
    folder = prepare(pairs(tmp_path / "raw", rgba, lambda split: mask), tmp_path, **options)
    split = pipeline.open_split(folder, "train")
    assert any(note.startswith("Constant in training") and "alpha (255)" in note for note in split.card.notes)
    assert show.sheet(split, 1).size[0] > 100


# -------------------------------------------------------------------------------------------------------- decoding


def test_grey_jpegs_have_one_band_and_serve_as_colour(tmp_path):
    import io

    buffer = io.BytesIO()
    grey = np.tile(np.arange(0, 240, 15, dtype=np.uint8), (16, 1))
    Image.fromarray(grey).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    alone = codec.decode_image(data, "x")
    assert alone.shape == (16, 16, 1) and codec.decode_rgb(data, "x").shape == (16, 16, 3)
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16) % 2
    root = pairs(tmp_path / "raw", lambda split: data, lambda split: mask, suffix="jpg")
    folder = prepare(root, tmp_path, image_pattern="{split}/images/{id}.jpg")
    example = pipeline.open_split(folder, "val").decode(0)
    np.testing.assert_array_equal(example["image"], np.repeat(alone, 3, axis=2))
    for split in ("train", "val"):
        (root / split / "images" / "a.png").write_bytes(picture(split))
    bands = ("red", "green", "blue", "heat")
    both = ("{split}/images/{id}.png", "{split}/images/{id}.jpg")
    folder = prepare(root, tmp_path, image_pattern=both, bands=bands)
    np.testing.assert_array_equal(pipeline.open_split(folder, "val").decode(0)["image"][..., 3:], alone)


def test_palette_masks_beyond_pillows_limit(monkeypatch):
    import io

    assert Image.MAX_IMAGE_PIXELS is None
    buffer = io.BytesIO()
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16) % 3, "P")
    picture.putpalette([9, 9, 9, 0, 0, 0, 200, 0, 0])
    picture.save(buffer, "PNG")
    np.testing.assert_array_equal(codec.decode_mask(buffer.getvalue(), "x"), np.arange(256).reshape(16, 16) % 3)


def test_ids_beyond_24_bits_are_named_as_they_are():
    ids = np.array([[0, 3_301_009_007]], np.uint32)
    found = codec.decode_mask(codec.encode_tiff(ids[..., None]), "x")
    np.testing.assert_array_equal(found, ids)
    with pytest.raises(UserError, match="holds the label 3301009007, which"):
        masks.renumber(found, (0, 1), 255, None, "x")
    np.testing.assert_array_equal(masks.renumber(found, (0, 3_301_009_007), 255, None, "x"), [[0, 1]])


def test_a_raster_is_what_its_bytes_say(tmp_path):
    image = np.random.default_rng(0).integers(0, 200, (16, 20, 3), dtype=np.uint8)
    (tmp_path / "a.gtiff").write_bytes(codec.encode_tiff(image))
    (tmp_path / "b.tif").write_bytes(codec.encode_png(image))
    for name in ("a.gtiff", "b.tif"):
        np.testing.assert_array_equal(rasters.Raster([tmp_path / name])[0:16, 0:20], image)
