"""Nodata of scenes of several files and of bands that are picked: training, prediction and labels see the same pixels."""

import dataclasses
import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from genseg.data.batches import joined, pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.compare_cards import card_for_network
from genseg.data.files.rasters import Raster
from genseg.data.records import storage
from genseg.data.sets import own
from genseg.predict.network import Measured

NAMES = ("red", "green", "blue", "nir", "thermal", "height")


def write(path, image: np.ndarray, nodata: float | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=image.shape[0], width=image.shape[1], count=image.shape[2], dtype=image.dtype,
        nodata=nodata, crs="EPSG:32632", transform=from_origin(5e5, 5e6, 1, 1), photometric="MINISBLACK", alpha="NO",
    ) as file:  # fmt: skip
        file.write(image.transpose(2, 0, 1))


def plan_of(root, image: np.ndarray, sizes, stated) -> own.FolderSegmentation:
    """Files of so many bands each, with these nodata values, as train and val; masks of two classes."""
    start = 0
    for file, (size, nodata) in enumerate(zip(sizes, stated, strict=True)):
        for split in ("train", "val"):
            write(root / f"{split}_{file}" / "a.tif", image[..., start : start + size], nodata)
        start += size
    mask = np.arange(image.shape[0] * image.shape[1]).reshape(*image.shape[:2], 1) % 2
    for split in ("train", "val"):
        write(root / f"{split}_mask" / "a.tif", mask.astype(np.uint8), None)
    return own.FolderSegmentation(
        str(root), tuple(f"{{split}}_{file}/{{id}}.tif" for file in range(len(sizes))), "{split}_mask/{id}.tif",
        bands=NAMES[: sum(sizes)], classes=("a", "b"),
    ).plan()  # fmt: skip


def prepared(root, image, sizes, stated) -> pipeline.Split:
    return pipeline.open_split(
        storage.write(plan_of(root, image, sizes, stated), root / "data", progress=False), "train"
    )


def files_of(root, sizes) -> list:
    return [root / f"train_{file}" / "a.tif" for file in range(len(sizes))]


def predicted(raster: Raster, card: DatasetCard, order=()) -> tuple[np.ndarray, np.ndarray]:
    """The pixels as the network takes them, and which get a class."""
    measured = Measured(raster, card, order)
    height, width = measured.shape[:2]
    values = np.concatenate([measured[row : row + 5, 0:width] for row in range(0, height, 5)])
    counts = measured.measured(0, height)
    return values, np.ones((height, width), bool) if counts is None else counts


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=2), dtype=st.sampled_from(["u1", "i2"]),
    stated=st.lists(st.sampled_from([None, 0, 255]), min_size=2, max_size=2),
)  # fmt: skip
def test_training_and_prediction_see_the_same_pixels(tmp_path_factory, seed, sizes, dtype, stated):
    root, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(seed)
    channels = sum(sizes)
    image = rng.choice(np.array([0, 7, 90, 255], dtype), (12, 16, channels), p=(0.45, 0.1, 0.1, 0.35))
    image[0, :2] = [[90], [7]]  # something is measured, and no band is constant
    stated = stated[: len(sizes)]
    files = np.repeat(range(len(sizes)), sizes)
    lacking = np.zeros(image.shape, bool)
    for file, nodata in enumerate(stated):
        if nodata is not None:
            hit = image[..., files == file] == nodata
            each = nodata != 0 and dtype == "i2"
            lacking[..., files == file] = hit if each else hit.all(axis=2, keepdims=True)
    split = prepared(root, image, sizes, stated)
    fill = split.card.fill
    example = split.decode(0)
    np.testing.assert_array_equal(example["image"], np.where(lacking, fill, image))
    np.testing.assert_array_equal(example["label"] == 255, lacking.any(axis=2))
    taken = rng.choice(channels, rng.integers(1, channels + 1), replace=False).tolist()
    for order in (list(range(channels)), taken):
        some = split.only([NAMES[i] for i in order])
        np.testing.assert_array_equal(some.decode(0)["image"], np.where(lacking, fill, image)[..., order])
        picks = [tuple(i - sum(sizes[:f]) + 1 for i in order if files[i] == f) for f in range(len(sizes))]
        given_files = [path for path, pick in zip(files_of(root, sizes), picks, strict=True) if pick]
        by_file = sorted(range(len(order)), key=lambda i: files[order[i]])  # of FILE:1,2+FILE:1
        for raster, card, places in (
            (Raster(files_of(root, sizes)), some.card, order),
            (Raster(given_files, [p for p in picks if p]), some.only([NAMES[order[i]] for i in by_file]).card, ()),
        ):
            values, counts = predicted(raster, card, places)
            names = [NAMES.index(band.name) for band in card.bands]
            np.testing.assert_array_equal(values, np.where(lacking, fill, image)[..., names])
            np.testing.assert_array_equal(counts, ~lacking[..., names].any(axis=2))


def water(dtype="uint8", side: int = 12) -> np.ndarray:
    """Red, green, blue and near infrared, which is 0 over water to the right; a black collar at the top."""
    image = np.random.default_rng(0).integers(40, 200, (side, side, 4)).astype(dtype)
    image[:, side // 2 :, 3] = 0
    image[:2] = 0
    return image


@pytest.mark.parametrize("tagged", [True, False])
def test_picked_bands_keep_their_zeros(tmp_path, tagged):
    image = water(side=700)  # stored in tiles, which are decoded in parts
    split = prepared(tmp_path, image, (4,), (0,))
    path = tmp_path / "train_0" / "a.tif"
    if not tagged:  # what the card says then counts for the whole file
        write(path, image, None)
    for names in (("nir",), ("nir", "red"), ("red", "green", "blue")):
        some, order = split.only(names), [NAMES.index(name) for name in names]
        expected = image[..., order].copy()
        expected[:2] = some.card.fill
        for found in (some, some.only(names[:1]), some.with_card(card_for_network(some.card, some.card))):
            pixels = found.decode(0)["image"]
            np.testing.assert_array_equal(pixels, expected[..., : pixels.shape[2]])
            assert pixels.flags.c_contiguous
            part = found.decode(0, whole=False)["image"].read(1, 300, 20, 200)
            np.testing.assert_array_equal(part, pixels[1:21, 300:500])
        for raster, places in ((Raster([path]), order), (Raster([path], [[i + 1 for i in order]]), ())):
            values, counts = predicted(raster, some.card, places)
            np.testing.assert_array_equal(values, expected)
            assert counts[2:].all() and not counts[:2].any()


def test_opacity_beside_the_bands_is_no_measurement(tmp_path):
    image = np.concatenate([water()[..., :3], np.full((12, 12, 1), 255, np.uint8)], axis=2)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=12, width=12, count=4, dtype="uint8", photometric="RGB", alpha="YES",
        nodata=0,
    ) as file:  # fmt: skip
        file.write(image.transpose(2, 0, 1))
    card = DatasetCard(
        "a",
        "segmentation",
        tuple(Band(n, 90, 20, 0, 255, 0.0) for n in NAMES[:3]),
        ("a", "b"),
        (),
        255,
        (0, 1),
        {},
        "",
        True,
    )
    for raster, order in ((Raster([tmp_path / "a.tif"]), (0, 1, 2)), (Raster([tmp_path / "a.tif"], [(1, 2, 3)]), ())):
        values, counts = predicted(raster, card, order)
        assert (values[:2] == 90).all() and not counts[:2].any() and counts[2:].all()


# ------------------------------------------------------------------------------------------------------ stored cards


def version_of(monkeypatch, root, image, sizes, stated) -> tuple[int, DatasetCard]:
    asked, real = [], own.fingerprint
    monkeypatch.setattr(own, "fingerprint", lambda *a, **o: (asked.append(o["version"]), real(*a, **o))[1])
    return plan_of(root, image, sizes, stated).card, asked[0]


@pytest.mark.parametrize(
    ("sizes", "stated", "dtype", "told"),
    [
        ((4,), (0,), "uint8", False), ((3, 1), (None, None), "uint8", False), ((3, 1), (0, None), "uint8", False),
        ((3, 1), (0, 255), "uint8", False), ((3, 1), (-9999, -9999), "int16", False), ((3, 1), (0, 0), "uint8", True),
        ((3, 1), (0, 0), "float32", True), ((2, 1, 1), (None, 255, 255), "uint16", True),
    ],
)  # fmt: skip
def test_data_without_need_of_it_stay_as_they_were_prepared(monkeypatch, tmp_path, sizes, stated, dtype, told):
    card, version = version_of(monkeypatch, tmp_path, water(dtype), sizes, stated)
    assert (version, '"file"' in card.to_json()) == ((4, True) if told else (3, False))
    assert DatasetCard.from_json(card.to_json()) == card
    if told:
        assert [band.file for band in card.bands] == np.repeat(range(len(sizes)), sizes).tolist()


@pytest.mark.parametrize(
    ("nodata", "coarse", "version"),
    [(0, (1, 2, 3), 5), (255, (1, 2, 3), 5), (None, (1, 2, 3), 3), (0, (3,), 3), (0, (), 3)],
)
def test_copies_whose_coarser_bands_lost_their_zeros_are_prepared_anew(monkeypatch, tmp_path, nodata, coarse, version):
    image, asked = water(), []
    plan_of(tmp_path, image, (4 - max(len(coarse), 1), max(len(coarse), 1)), (None, nodata))
    for split in ("train", "val") if coarse else ():
        with rasterio.open(
            tmp_path / f"{split}_1" / "a.tif", "w", driver="GTiff", height=6, width=6, count=len(coarse), dtype="uint8",
            nodata=nodata, crs="EPSG:32632", transform=from_origin(5e5, 5e6, 2, 2),
        ) as file:  # fmt: skip
            file.write(image[::2, ::2, list(coarse)].transpose(2, 0, 1))
    monkeypatch.setattr(own, "fingerprint", lambda *a, **o: asked.append(o["version"]))
    patterns = tuple(f"{{split}}_{number}/{{id}}.tif" for number in range(2))
    own.FolderSegmentation(str(tmp_path), patterns, "{split}_mask/{id}.tif", bands=NAMES[:4], classes=("a", "b")).plan()
    assert asked == [version]


def test_a_card_without_files_means_what_it_meant(tmp_path):
    image = np.random.default_rng(0).integers(40, 200, (12, 12, 4), dtype=np.uint8)
    image[:, :3, 3] = 0  # no thermal measurement there
    split = prepared(tmp_path, image, (3, 1), (0, 0))
    assert (split.decode(0)["image"][:, :3, 3] == split.card.fill[3]).all()
    raw = json.loads(split.card.to_json())
    for band in raw["bands"]:
        del band["file"]
    before = split.with_card(DatasetCard.from_json(json.dumps(raw)))
    np.testing.assert_array_equal(before.decode(0)["image"], image)


def test_the_files_are_those_of_the_data_not_of_the_network(tmp_path):
    image = np.random.default_rng(0).integers(40, 200, (12, 12, 4), dtype=np.uint8)
    image[:, :3, 3] = 0
    split = prepared(tmp_path, image, (3, 1), (0, 0))
    network = dataclasses.replace(
        split.card, bands=tuple(dataclasses.replace(b, mean=100.0, nodata=None, file=None) for b in split.card.bands)
    )
    fed = card_for_network(network, split.card)
    both = joined.JoinedSplit(network, "train", {"one": split, "two": split.with_card(fed)})
    for found in (split.with_card(fed), both, both.parts["two"]):
        assert (found.decode(0)["image"][:, :3, 3] == 100).all()
