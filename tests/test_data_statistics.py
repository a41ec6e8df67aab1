"""Band statistics against plain NumPy: pooled over images of any size, over valid pixels only, without wild values."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.files import validity
from genseg.data.records import moments, storage
from genseg.data.records.storage import Moments
from genseg.data.sets.own import FolderSegmentation

DTYPES = ("uint8", "uint16", "int16", "float32")


def pooled(parts: list, measured: list | None = None) -> Moments:
    total = None
    for place, part in enumerate(parts):
        found = Moments.of(part, None if measured is None else measured[place])
        total = found if total is None else total + found
    return total


def ordinary(rng: np.random.Generator, dtype: str, shape: tuple) -> np.ndarray:
    centre, spread = {"uint8": (120, 30), "uint16": (9000, 2500), "int16": (-200, 900), "float32": (0.3, 0.1)}[dtype]
    low, high = (-9, 9) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.clip(rng.normal(centre, spread, shape), low, high).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), dtype=st.sampled_from(DTYPES), share=st.floats(0.2, 1),
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5), strip=st.integers(1, 500),
)  # fmt: skip
def test_pooled_statistics_are_those_of_all_valid_values_at_once(seed, dtype, share, sizes, strip):
    rng = np.random.default_rng(seed)
    parts = [ordinary(rng, dtype, (*size, 2)) for size in sizes]
    measured = [rng.random(part.shape) < share for part in parts]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(moments, "_STRIP", strip)
        total = pooled(parts, measured)
    found, wild = total.settled()
    for band in range(2):
        values = np.concatenate([p[..., band][m[..., band]] for p, m in zip(parts, measured, strict=True)])
        values = values.astype(np.float64)
        assert found.count[band] == values.size
        if not values.size:
            continue
        assert not wild  # ordinary values: exactly the numbers of all of them
        assert (found.mean[band], found.squares[band]) == (total.mean[band], total.squares[band])
        np.testing.assert_allclose(found.mean[band], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(found.squares[band] / values.size, values.var(), rtol=1e-5, atol=1e-12)
        assert (found.low[band], found.high[band]) == (values.min(), values.max())
        if dtype == "uint8":
            continue
        bins = total.bins[band]  # what is left when none is left out is the same again
        again = bins.all_but(np.zeros(len(bins.key), bool))
        np.testing.assert_allclose(again, (values.size, values.mean(), values.var() * values.size, values.min(), values.max()),
                                   rtol=1e-6, atol=1e-9)  # fmt: skip
        assert (np.diff(bins.key) > 0).all() and (bins.high[:-1] < bins.low[1:]).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), dtype=st.sampled_from(["uint16", "int16", "float32"]), count=st.integers(1, 15),
    size=st.sampled_from([5e4, 1e6, 1e12, 1e30, -1e30, -3.4e38]), spread=st.booleans(),
)  # fmt: skip
def test_a_handful_of_wild_values_changes_nothing(seed, dtype, count, size, spread):
    rng = np.random.default_rng(seed)
    image = ordinary(rng, dtype, (64, 64, 1))
    if dtype != "float32":
        image = np.clip(image // 10, -300, 1500).astype(dtype)
        size = 65535 if dtype == "uint16" else 32000
    where = rng.choice(image.size, count, replace=False)
    spoilt = image.copy()
    spoilt.ravel()[where] = np.float64(size) * (rng.uniform(0.5, 1, count) if spread else 1)
    rest = np.delete(image.ravel(), where).astype(np.float64)
    found, (wild,) = pooled([spoilt[:20], spoilt[20:]]).settled()
    assert (wild.band, wild.count, wild.total) == (0, count, image.size)
    assert wild.farthest == max(spoilt.ravel()[where].astype(np.float64), key=abs)
    np.testing.assert_allclose(found.mean[0], rest.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.squares[0], rest.var() * rest.size, rtol=1e-9)
    assert (found.count[0], found.low[0], found.high[0]) == (rest.size, rest.min(), rest.max())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 15), exponent=st.floats(-2, 17), sign=st.sampled_from([-1, 1]))
def test_no_handful_of_values_moves_the_mean_beyond_the_bound(seed, count, exponent, sign):
    """Wherever they lie, also where they are too near to be wild."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (64, 64, 1)).astype(np.float32)
    image.ravel()[rng.choice(image.size, count, replace=False)] = sign * 10**exponent
    found, _ = Moments.of(image).settled()
    plain = np.sort(image.ravel().astype(np.float64))
    bulk = plain[moments.FEW : -moments.FEW]
    width = (bulk[-1] - bulk[0]) * (1 + 2**-6)  # the bulk ends at the border of a bin
    most = count / image.size * (1 + moments.REACH) * width
    assert abs(found.mean[0] - bulk.mean()) < most + 0.05
    assert found.squares[0] / found.count[0] < 1.2 + most * (1 + moments.REACH) * width
    assert max(-found.low[0], found.high[0]) < (1 + moments.REACH) * width


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_and_nan_never_count(dtype):
    image = np.linspace(1, 2, 600, dtype=dtype).reshape(20, 30, 1)
    image[3, 4], image[5, 6], image[7, 8] = np.inf, -np.inf, np.nan
    found, wild = Moments.of(image).settled()
    rest = image[np.isfinite(image)]
    assert found.count[0] == 597 and not wild
    np.testing.assert_allclose(found.mean[0], rest.mean(dtype=np.float64))


def test_more_than_a_handful_is_data():
    """A rare bright thing is no fault: a percent of pixels far away stays in the numbers."""
    image = np.random.default_rng(0).normal(100, 5, (100, 100, 1)).astype(np.float32)
    image.ravel()[:100] = 5000
    found, wild = Moments.of(image).settled()
    assert not wild and found.high[0] == 5000


def test_eight_bits_are_never_wild_and_rare_values_of_a_flat_band_stay():
    image = np.zeros((100, 100, 1), np.uint8)
    image[0, 0] = 255
    for dtype in ("uint8", "int16", "float32"):
        found, wild = Moments.of(image.astype(dtype)).settled()
        assert not wild and found.high[0] == 255
    flat = np.ones((100, 100, 1), np.float32)
    flat[0, 0] = 1e12
    found, (wild,) = Moments.of(flat).settled()
    assert (wild.count, found.squares[0], found.high[0]) == (1, 0, 1)


# -------------------------------------------------------------------------------------------------------- preparing


def prepared(root, spoil) -> DatasetCard:
    """A float set of one band, two training tiles, the second spoilt."""
    rng = np.random.default_rng(4)
    for split, names in (("train", "ab"), ("val", "c")):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for name in names:
            image = rng.uniform(500, 600, (64, 64)).astype(np.float32)
            if name == "b":
                spoil(image)
            tifffile.imwrite(root / split / "images" / f"{name}.tif", image)
            Image.fromarray((image > 550).astype(np.uint8)).save(root / split / "masks" / f"{name}.png")
    plan = FolderSegmentation(
        str(root), image_pattern="{split}/images/{id}.tif", bands=("dem",), classes=("low", "high")
    ).plan()
    return storage.write(plan, root / "data", progress=False)


@pytest.mark.parametrize("value", [4e3, 1e9, 1e17])
def test_wild_values_are_left_out_and_noted(value, tmp_path):
    folder = prepared(tmp_path, lambda image: image.put([5, 700, 900], value))
    card = DatasetCard.read(folder)
    (note,) = card.notes
    assert note.startswith(f"Wild values are left out of the statistics: dem 3 of 8,192 (the farthest {value:g}")
    band = card.bands[0]
    assert 548 < band.mean < 552 and 28 < band.std < 30 and 500 <= band.low < band.high <= 600


@pytest.mark.parametrize("value", [1e30, 9.96921e36, -3.4028234663852886e38, 1e20])
def test_fill_values_that_no_file_states_are_no_measurement(value, tmp_path):
    """One of them in a batch would drive a whole network to NaN."""
    folder = prepared(tmp_path, lambda image: image.put([5, 700, 900], value))
    card = DatasetCard.read(folder)
    (note,) = card.notes
    assert note.startswith("FILL VALUES IN train: 3 values of 1e+18 or more in size")
    band = card.bands[0]
    assert 548 < band.mean < 552 and 28 < band.std < 30 and 500 <= band.low < band.high <= 600
    record = pipeline.open_split(folder, "train").decode(1)
    assert (record["label"].ravel()[[5, 700, 900]] == 255).all() and (record["label"] == 255).sum() == 3
    np.testing.assert_allclose(record["image"].ravel()[[5, 700, 900]], band.mean, rtol=1e-6)


def test_the_stated_fill_value_is_not_noted():
    card = DatasetCard("a", "segmentation", (Band("dem", nodata=-3.4028234663852886e38),), ("x",), (), 255, (0,), {}, "",
                       True, dtype="float32")  # fmt: skip
    image = np.full((4, 4, 1), np.float32(-3.4028234663852886e38))
    image[0] = 5
    assert validity.unstated(image, card) == 0
    image[1, 1] = 1e30
    assert validity.unstated(image, card) == 1
