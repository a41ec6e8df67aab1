"""RandAugment against Pillow, operation by operation, with timm's level-to-argument rules written out again here."""

import math
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance, ImageOps

from genseg.data.augment import randaugment
from genseg.data.augment.randaugment import OPERATIONS, Draw, Warp, draw_operations, rand_augment

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-native-jpeg" / "images"
FILL = (124, 116, 104)
RECIPE = {"magnitude": 9.0, "magnitude_std": 0.5, "layers": 2, "prob": 0.5}


def _affine(image, matrix, resample):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=FILL)


def _enhance(enhancer, image, magnitude, sign):
    return enhancer(image).enhance(max(0.1, 1.0 + sign * (magnitude / 10.0) * 0.9))


def _posterize(image, magnitude):
    bits = 4 - int((magnitude / 10.0) * 4)
    if bits == 0:  # Pillow >= 13 refuses it; before, the mask was 0
        return Image.new("RGB", image.size)
    return ImageOps.posterize(image, bits)


def _solarize_add(image, magnitude):
    add = min(128, int((magnitude / 10.0) * 110))
    return image.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)


# timm/data/auto_augment.py, _RAND_INCREASING_TRANSFORMS with NAME_TO_OP and LEVEL_TO_ARG:
# name -> (image, magnitude, sign, resample) -> image.
REFERENCE = {
    "AutoContrast": lambda i, m, s, r: ImageOps.autocontrast(i),
    "Equalize": lambda i, m, s, r: ImageOps.equalize(i),
    "Invert": lambda i, m, s, r: ImageOps.invert(i),
    "Rotate": lambda i, m, s, r: i.rotate(s * (m / 10.0) * 30.0, resample=r, fillcolor=FILL),
    "PosterizeIncreasing": lambda i, m, s, r: _posterize(i, m),
    "SolarizeIncreasing": lambda i, m, s, r: ImageOps.solarize(i, 256 - min(256, int((m / 10.0) * 256))),
    "SolarizeAdd": lambda i, m, s, r: _solarize_add(i, m),
    "ColorIncreasing": lambda i, m, s, r: _enhance(ImageEnhance.Color, i, m, s),
    "ContrastIncreasing": lambda i, m, s, r: _enhance(ImageEnhance.Contrast, i, m, s),
    "BrightnessIncreasing": lambda i, m, s, r: _enhance(ImageEnhance.Brightness, i, m, s),
    "SharpnessIncreasing": lambda i, m, s, r: _enhance(ImageEnhance.Sharpness, i, m, s),
    "ShearX": lambda i, m, s, r: _affine(i, (1, s * (m / 10.0) * 0.3, 0, 0, 1, 0), r),
    "ShearY": lambda i, m, s, r: _affine(i, (1, 0, 0, s * (m / 10.0) * 0.3, 1, 0), r),
    "TranslateXRel": lambda i, m, s, r: _affine(i, (1, 0, s * (m / 10.0) * 0.45 * i.size[0], 0, 1, 0), r),
    "TranslateYRel": lambda i, m, s, r: _affine(i, (1, 0, 0, 0, 1, s * (m / 10.0) * 0.45 * i.size[1]), r),
}


def _drawn_image(height, width, seed):
    """Smooth coloured patches with a little noise, a black and a white corner."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.integers(20, 230, (5, 6, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    image[: height // 8, : width // 8] = 0
    image[-(height // 8) :, -(width // 8) :] = 255
    return image


MADE = {
    "drawn": _drawn_image(71, 96, 0),
    "square": _drawn_image(64, 64, 1),
    "noise": np.random.default_rng(2).integers(0, 256, (40, 33, 3), dtype=np.uint8),
    "narrow": np.random.default_rng(3).integers(90, 140, (50, 40, 3), dtype=np.uint8),
    "constant": np.full((17, 19, 3), (7, 200, 128), np.uint8),
    "two values": np.where(np.random.default_rng(4).random((30, 31, 1)) < 0.3, 3, 250).astype(np.uint8).repeat(3, 2),
    "two rows": np.random.default_rng(5).integers(0, 256, (2, 9, 3), dtype=np.uint8),
    "one pixel": np.full((1, 1, 3), 9, np.uint8),
}
MAGNITUDES = (0.0, 0.3, 2.5, 7.77, 9.0, 9.463, 10.0)


SLIDING = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


def _assert_equal_to_pillow(name, image, magnitude, sign, resample):
    """Value for value; bicubic moves along one axis, which are sums of float32 cut to integers, by 1 at most in few."""
    expected = np.asarray(REFERENCE[name](Image.fromarray(image), magnitude, sign, resample))
    before = image.copy()
    got = OPERATIONS[name](image, magnitude / 10.0, sign, Warp(FILL, resample))
    assert got.dtype == np.uint8
    what = f"{name} at magnitude {magnitude}, sign {sign}"
    if name in SLIDING and resample == Image.Resampling.BICUBIC:
        apart = np.abs(got.astype(int) - expected)
        assert apart.max() <= 1 and np.count_nonzero(apart) <= 1 + apart.size / 200, what
    else:
        np.testing.assert_array_equal(got, expected, err_msg=what)
    np.testing.assert_array_equal(image, before, err_msg=f"{name} changed its input")


def test_the_fifteen_operations_of_inc1_in_timms_order():
    assert list(OPERATIONS) == list(REFERENCE)
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("kind", MADE)
def test_equal_to_pillow_on_made_images(name, kind):
    for magnitude in MAGNITUDES:
        for sign in (1, -1):
            for resample in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
                _assert_equal_to_pillow(name, MADE[kind], magnitude, sign, resample)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="../shared/data/imagenet-native-jpeg is absent")
@pytest.mark.parametrize("name", REFERENCE)
def test_equal_to_pillow_on_photographs(name):
    rng = np.random.default_rng(0)
    for path in sorted(PHOTOGRAPHS.glob("*.JPEG"))[::25]:
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"))
        for sign in (1, -1):
            magnitude = float(np.clip(rng.normal(9, 0.5), 0, 10))
            _assert_equal_to_pillow(name, image, magnitude, sign, Image.Resampling.BICUBIC)


@settings(max_examples=150, deadline=None)
@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
    name=st.sampled_from([n for n in REFERENCE if not n.startswith(("Rotate", "Shear", "Translate"))]),
    magnitude=st.floats(0, 10),
    sign=st.sampled_from((1, -1)),
)
def test_colour_operations_are_bit_exact_on_any_image(image, name, magnitude, sign):
    _assert_equal_to_pillow(name, image, magnitude, sign, Image.Resampling.BICUBIC)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 900), min_size=256, max_size=256).filter(any))
def test_equalize_is_exact_for_any_histogram(counts):
    """The rounding of the histogram's step, the last entries' overflow included, only shows on larger images."""
    values = np.repeat(np.arange(256, dtype=np.uint8), counts)
    image = np.stack([values, values[::-1], np.roll(values, 7)], axis=-1)[None]
    _assert_equal_to_pillow("Equalize", image, 9.0, 1, Image.Resampling.BICUBIC)
    _assert_equal_to_pillow("AutoContrast", image, 9.0, 1, Image.Resampling.BICUBIC)


def test_non_contiguous_images_are_accepted():
    """A flip or a crop hands on a view with negative or long strides."""
    view = MADE["drawn"][4:60, ::-1]
    for name, operation in OPERATIONS.items():
        warp = Warp(FILL, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(
            operation(view, 0.9, -1, warp), operation(np.ascontiguousarray(view), 0.9, -1, warp), err_msg=name
        )


def test_what_comes_in_from_outside_has_the_fill_colour():
    white = np.full((40, 50, 3), 255, np.uint8)
    warp = Warp((10, 20, 30), Image.Resampling.BICUBIC)
    moved_left = OPERATIONS["TranslateXRel"](white, 0.9, 1, warp)
    assert (moved_left[:, -20:] == (10, 20, 30)).all() and (moved_left[:, :29] == 255).all()
    moved_down = OPERATIONS["TranslateYRel"](white, 0.9, -1, warp)
    assert (moved_down[:16] == (10, 20, 30)).all() and (moved_down[17:] == 255).all()
    assert (OPERATIONS["Rotate"](white, 0.9, 1, warp)[0, 0] == (10, 20, 30)).all()


# ---- the random part -------------------------------------------------------------------------------------------------

DRAWS = 40_000


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(7)
    return [draw_operations(rng, **RECIPE) for _ in range(DRAWS)]


def _assert_share(count, total, probability):
    """Within 5 standard deviations of the binomial."""
    assert abs(count - total * probability) < 5 * math.sqrt(total * probability * (1 - probability))


def test_each_of_two_operations_is_applied_with_probability_one_half(drawn):
    lengths = Counter(len(draws) for draws in drawn)
    assert set(lengths) == {0, 1, 2}
    for length, probability in ((0, 0.25), (1, 0.5), (2, 0.25)):
        _assert_share(lengths[length], DRAWS, probability)


def test_operations_are_drawn_uniformly_with_replacement_and_independently(drawn):
    names = Counter(draw.name for draws in drawn for draw in draws)
    total = sum(names.values())
    assert set(names) == set(OPERATIONS)
    for count in names.values():
        _assert_share(count, total, 1 / 15)
    pairs = Counter((draws[0].name, draws[1].name) for draws in drawn if len(draws) == 2)
    both = sum(pairs.values())
    expected = both / 225
    # Chi-square with 224 degrees of freedom: mean 224, standard deviation 21.2. Same-name pairs are among the 225
    # cells, so drawing without replacement would fail by hundreds.
    chi_square = sum((pairs[a, b] - expected) ** 2 / expected for a in OPERATIONS for b in OPERATIONS)
    assert 224 - 5 * 21.2 < chi_square < 224 + 5 * 21.2


def test_magnitudes_are_normal_9_half_clamped_at_10_and_drawn_per_operation(drawn):
    magnitudes = 10 * np.array([draw.level for draws in drawn for draw in draws])
    assert magnitudes.min() > 5 and magnitudes.max() == 10.0
    upper = 0.5 * math.erfc(2 / math.sqrt(2))  # P(N(9, 0.5) > 10) = 0.02275
    _assert_share(int((magnitudes == 10.0).sum()), len(magnitudes), upper)
    for quantile in (-1.5, -0.5, 0.0, 1.0):
        below = 0.5 * math.erfc(-quantile / math.sqrt(2))
        _assert_share(int((magnitudes < 9 + 0.5 * quantile).sum()), len(magnitudes), below)
    first, second = np.array([[draws[0].level, draws[1].level] for draws in drawn if len(draws) == 2]).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(len(first))


def test_the_sign_is_balanced_for_every_operation(drawn):
    signs = {name: [d.sign for draws in drawn for d in draws if d.name == name] for name in OPERATIONS}
    for values in signs.values():
        assert set(values) == {1, -1}
        _assert_share(values.count(1), len(values), 0.5)


def test_levels_stay_in_range_for_any_magnitude():
    rng = np.random.default_rng(0)
    draws = [d for _ in range(300) for d in draw_operations(rng, magnitude=5.0, magnitude_std=8.0, layers=3, prob=1.0)]
    levels = [d.level for d in draws]
    assert len(levels) == 900 and min(levels) == 0.0 and max(levels) == 1.0


def test_rand_augment_applies_the_drawn_operations_in_order():
    image = MADE["drawn"]
    changed = 0
    for seed in range(60):
        expected = Image.fromarray(image)
        for draw in draw_operations(np.random.default_rng(seed), **RECIPE):
            expected = REFERENCE[draw.name](expected, draw.level * 10, draw.sign, Image.Resampling.BICUBIC)
        got = rand_augment(image, np.random.default_rng(seed))
        if any(draw.name in SLIDING for draw in draw_operations(np.random.default_rng(seed), **RECIPE)):
            assert np.abs(got.astype(int) - np.asarray(expected)).mean() < 0.1  # later operations may stretch a 1
        else:
            np.testing.assert_array_equal(got, np.asarray(expected))
        assert got.shape == image.shape and got.dtype == np.uint8
        changed += not np.array_equal(got, image)
    assert 30 < changed < 55


def test_arguments_reach_the_operations(monkeypatch):
    one = [Draw("Rotate", 0.8, 1)]
    monkeypatch.setattr(randaugment, "draw_operations", lambda rng, **kwargs: one if kwargs == asked else [])
    asked = {"magnitude": 8.0, "magnitude_std": 0.1, "layers": 3, "prob": 0.7}
    got = rand_augment(MADE["drawn"], np.random.default_rng(0), **asked, fill=(1, 2, 3), interpolation="bilinear")
    expected = Image.fromarray(MADE["drawn"]).rotate(24.0, Image.Resampling.BILINEAR, fillcolor=(1, 2, 3))
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_the_default_fill_is_imagenets_mean_colour():
    assert tuple(round(255 * mean) for mean in (0.485, 0.456, 0.406)) == FILL
    image = np.full((8, 8, 3), 255, np.uint8)
    corners = {
        tuple(rand_augment(image, np.random.default_rng(s), prob=1.0, layers=1)[0, -1].tolist()) for s in range(60)
    }
    assert FILL in corners


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match=r"uint8 \[h w 3\]"):
        rand_augment(image, np.random.default_rng(0))


def test_other_interpolations_are_refused():
    with pytest.raises(ValueError, match="nearest"):
        rand_augment(MADE["square"], np.random.default_rng(0), interpolation="nearest")
