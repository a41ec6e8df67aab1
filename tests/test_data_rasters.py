"""One scene stored in every way that GDAL reads gives the same pixels, records and windows; files say what is valid."""

import dataclasses
import multiprocessing
import threading
import warnings
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, gdal, maps
from genseg.data.files.rasters import Raster
from genseg.data.records import storage
from genseg.data.sets import ground
from genseg.data.sets.own import FolderSegmentation
from genseg.errors import UserError
from genseg.predict.network import Measured
from genseg.predict.scenes import scenes_of

RNG = np.random.default_rng(3)
IMAGE = (RNG.integers(0, 5, (37, 50, 1)) * 900 + RNG.integers(0, 300, (37, 50, 4))).astype(np.uint16)
WHERE = rasterio.Affine(10, 0, 700_000, 0, -10, 4_000_000)
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
FORMS = {
    "plain": {}, "one-strip": {"blockysize": 37, "compress": "deflate"}, "rows": {"blockysize": 1, "compress": "lzw"},
    "tiles": TILED, "planar": {**TILED, "interleave": "band", "compress": "zstd"}, "big": {"bigtiff": "yes"},
    "predictor": {**TILED, "compress": "deflate", "predictor": 2}, "endian": {"endianness": "big", "compress": "lzw"},
    "packbits": {"compress": "packbits", "interleave": "band"}, "lerc": {**TILED, "compress": "lerc"},
    "lzma": {"compress": "lzma"}, "cog": {"driver": "COG", "compress": "deflate", "blocksize": 128},
    "envi": {"driver": "ENVI", "interleave": "bil"}, "erdas": {"driver": "HFA"},
    "jpeg2000": {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "yes"}, "png": {"driver": "PNG"},
}  # fmt: skip
SUFFIXES = {"envi": "dat", "erdas": "img", "jpeg2000": "jp2", "png": "png"}


def write(path, pixels, crs="EPSG:32633", transform=WHERE, nodata=None, mask=None, alpha=None, **options):
    """A raster [h w c] by rasterio. mask: bool [h w], inside the file. alpha: the place of a band that is opacity."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = options.pop("driver", "GTiff")
    if driver in ("JP2OpenJPEG", "PNG", "COG"):  # made of whole files only
        write(path.with_name("made.tif"), pixels, crs, transform, nodata)
        rasterio.shutil.copy(path.with_name("made.tif"), path, driver=driver, **options)
        path.with_name("made.tif").unlink()
        return path
    profile = dict(height=pixels.shape[0], width=pixels.shape[1], count=pixels.shape[2], dtype=pixels.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", driver=driver, crs=crs, transform=transform, nodata=nodata, **profile, **options) as file,
        ):  # fmt: skip
            if alpha is not None:
                kinds = [ColorInterp.undefined] * pixels.shape[2]
                kinds[alpha] = ColorInterp.alpha
                file.colorinterp = kinds
            file.write(pixels.transpose(2, 0, 1))
            if mask is not None:
                file.write_mask(mask)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Form -> path of IMAGE stored so, a mosaic of two halves and a file in an archive among them."""
    root = tmp_path_factory.mktemp("forms")
    found = {n: write(root / f"{n}.{SUFFIXES.get(n, 'tif')}", IMAGE, **dict(o)) for n, o in FORMS.items()}
    halves = []
    for name, first, end in (("top", 0, 20), ("bottom", 20, 37)):
        shifted = WHERE @ rasterio.Affine.translation(0, first)
        halves.append((write(root / f"{name}.half.tif", IMAGE[first:end], transform=shifted), first, end))
    sources = lambda band: "".join(  # noqa: E731
        f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>{band}</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="50" ySize="{end - first}"/>'
        f'<DstRect xOff="0" yOff="{first}" xSize="50" ySize="{end - first}"/></SimpleSource>'
        for path, first, end in halves
    )
    bands = "".join(f'<VRTRasterBand dataType="UInt16" band="{b}">{sources(b)}</VRTRasterBand>' for b in range(1, 5))
    place = ", ".join(map(str, WHERE.to_gdal()))
    found["mosaic"] = root / "mosaic.vrt"
    found["mosaic"].write_text(
        f'<VRTDataset rasterXSize="50" rasterYSize="37"><SRS>EPSG:32633</SRS><GeoTransform>{place}</GeoTransform>'
        f"{bands}</VRTDataset>"
    )
    with zipfile.ZipFile(root / "in.zip", "w") as archive:
        archive.write(found["tiles"], "a/scene.tif")
    found["zip"] = gdal.address(f"/vsizip/{root}/in.zip/a/scene.tif", "a raster")
    np.save(root / "image.npy", IMAGE)
    return {**found, "npy": root / "image.npy"}


NAMES = [*FORMS, "mosaic", "zip", "npy"]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_a_scene_reads_alike(stored, name):
    raster = Raster([stored[name]])
    assert raster.shape == IMAGE.shape and raster.dtype == np.uint16
    for first, end, left, right in ((0, 16, 0, 50), (8, 24, 3, 20), (20, 37, 0, 50), (5, 6, 49, 50), (0, 37, 0, 50)):
        np.testing.assert_array_equal(raster[first:end, left:right], IMAGE[first:end, left:right])
    if name not in ("npy", "png"):
        assert raster.place.transform == WHERE and raster.place.crs.to_epsg() == 32633


def test_every_form_of_a_scene_gives_the_same_records_and_windows(stored, tmp_path):
    ids = (IMAGE[..., :1] // 900).astype(np.uint8)
    options = dict(
        split_lists={"train": "train.csv"}, splits=("train",), bands=("a", "b", "c", "d"), classes=tuple("vwxyz")
    )
    card = DatasetCard(
        name="made", task="segmentation", bands=tuple(Band(n, mean=7, nodata=0) for n in "abcd"), classes=("x",),
        palette=((0, 0, 0),), ignore_label=255, scored=(0,), splits={}, protocol="", synthetic=True, dtype="uint16",
    )  # fmt: skip
    write(tmp_path / "mask.tif", ids)
    seen = {}
    for name in NAMES:
        (tmp_path / "train.csv").write_text(f"image,mask\n{stored[name]},mask.tif\n")
        for patch in (0, 16):
            plan = FolderSegmentation(str(tmp_path), patch=patch, stride=patch, **options).plan()
            records, moments = plan.load("train", plan.items["train"][0])
            images = [codec.decode_image(r.image, "x").tobytes() for r in records]
            seen[name, patch] = (
                images,
                [r.label for r in records],
                [m.tobytes() for m in (moments.mean, moments.squares)],
            )
            assert seen[name, patch] == seen["plain", patch], name
        network = Measured(Raster([stored[name]]), card)
        windows = [network[top : top + 16, :].tobytes() for top in (0, 8, 16, 21)]
        seen[name] = windows, network.measured(0, 37) is None
        assert seen[name] == seen["plain"], name


@settings(max_examples=30, deadline=None)
@given(
    windows=st.lists(st.tuples(st.integers(0, 36), st.integers(1, 37)), min_size=1, max_size=8),
    name=st.sampled_from(NAMES),
)
def test_windows_in_any_order_equal_the_array(stored, windows, name):
    raster = Raster([stored[name]])
    for top, height in windows:
        np.testing.assert_array_equal(raster[top : top + height, :], IMAGE[top : top + height])


@pytest.mark.parametrize("name", ["one-strip", "tiles", "jpeg2000"])
def test_blocks_under_overlapping_windows_are_read_once(stored, name, monkeypatch):
    asked, read = [], gdal.File._read
    monkeypatch.setattr(gdal.File, "_read", lambda self, a, b, out: (asked.append((a, b)), read(self, a, b, out))[1])
    raster = Raster([stored[name]])
    for top in range(0, 22, 3):
        raster[top : top + 16, :]
    raster[21:37, :]
    rows = [row for a, b in asked for row in range(a, b)]
    assert rows == list(range(37))  # each once
    tall = raster._parts[0]._height
    assert all(a % tall == 0 for a, b in asked if a < b)


def test_a_file_is_opened_anew_in_a_forked_process(stored):
    raster = Raster([stored["tiles"]])
    raster[0:5, :]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put((raster._parts[0].first is not handle, raster[16:30, :])))
    handle = raster._parts[0]._files[0]
    child.start()
    anew, pixels = queue.get(timeout=60)
    child.join()
    assert anew and np.array_equal(pixels, IMAGE[16:30])


def test_damage_is_one_sentence_and_gdal_is_silent(stored, tmp_path, capfd):
    data = stored["predictor"].read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    (tmp_path / "junk.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    (tmp_path / "lost.vrt").write_text(stored["mosaic"].read_text())
    said = {}

    def read(name):
        with pytest.raises(UserError, match="cannot be decoded") as error:
            Raster([tmp_path / name])[0:37, :]
        said[name] = str(error.value)

    for name in ("cut.tif", "junk.jp2", "lost.vrt"):
        thread = threading.Thread(target=read, args=[name])
        thread.start()
        thread.join()
        assert name in said[name] and "\n" not in said[name]
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------------------------------------------------- validity


def network(image, path, **band):
    """The first bands of a file as a network takes them, and which pixels count: (values, bool [h w])."""
    bands = tuple(Band(f"b{i}", mean=9.0, **band) for i in range(image.shape[2]))
    card = DatasetCard(
        name="made", task="segmentation", bands=bands, classes=("x",), palette=((0, 0, 0),), ignore_label=255,
        scored=(0,), splits={}, protocol="", synthetic=True, dtype=str(image.dtype),
    )  # fmt: skip
    measured = Measured(Raster([path]), card, range(image.shape[2]))
    values = measured[0 : image.shape[0], :]
    counts = measured.measured(0, image.shape[0])
    return values, np.ones(image.shape[:2], bool) if counts is None else counts


@pytest.mark.parametrize("kind", ["internal", "beside", "alpha", "png", "transparent"])
def test_masks_and_alpha_say_which_pixels_count(tmp_path, kind):
    image = IMAGE[..., :3].astype(np.uint8) % 200 + 1
    valid = RNG.random(image.shape[:2]) < 0.7
    opacity = np.where(valid, 254, 0).astype(np.uint8)[..., None]
    path = tmp_path / "train" / "images" / "a.tif"
    if kind == "internal":
        write(path, image, mask=valid)
    elif kind == "beside":
        write(path, image)
        write(tmp_path / "m.tif", valid[..., None].astype(np.uint8) * 255, transform=None, crs=None)
        with rasterio.open(tmp_path / "m.tif", "r+") as file:
            file.update_tags(INTERNAL_MASK_FLAGS_1=2, INTERNAL_MASK_FLAGS_2=2, INTERNAL_MASK_FLAGS_3=2)
        (tmp_path / "m.tif").rename(f"{path}.msk")
    elif kind == "alpha":
        write(path, np.concatenate([image, opacity], axis=2), alpha=3)
    elif kind == "png":
        path.parent.mkdir(parents=True)
        Image.fromarray(np.concatenate([image, opacity], axis=2), "RGBA").save(path, "png")
    else:
        path.parent.mkdir(parents=True)
        image[~valid] = (0, 7, 0)
        Image.fromarray(image).save(path, "png", transparency=(0, 7, 0))
    values, counts = network(image, path)
    np.testing.assert_array_equal(counts, valid)
    np.testing.assert_array_equal(values, np.where(valid[..., None], image, 9))
    write(tmp_path / "train" / "masks" / "a.tif", np.zeros((*valid.shape, 1), np.uint8))
    options = dict(image_pattern="{split}/images/{id}.tif", mask_pattern="{split}/masks/{id}.tif", splits=("train",))
    plan = FolderSegmentation(str(tmp_path), classes=("x",), **options).plan()
    (record,), moments = plan.load("train", plan.items["train"][0])
    assert any(note.startswith("A BAND IS LEFT OUT") for note in plan.look()) == (
        kind in ("alpha", "png", "transparent")
    )
    np.testing.assert_array_equal(codec.decode_mask(record.label, "x"), np.where(valid, 0, 255))
    found = codec.decode_image(record.image, "x")
    np.testing.assert_array_equal(found[valid], image[valid])
    np.testing.assert_allclose(moments.mean, image[valid].mean(axis=0))
    np.testing.assert_array_equal(found[~valid], np.broadcast_to(np.rint(moments.mean), found[~valid].shape))


def test_opacity_that_is_named_as_a_band_is_data(tmp_path):
    path = write(tmp_path / "train" / "images" / "a.tif", np.where(IMAGE > 900, IMAGE, 0), alpha=3)
    values, counts = network(IMAGE, path)
    assert counts.all() and np.array_equal(values, np.where(IMAGE > 900, IMAGE, 0))
    write(tmp_path / "train" / "masks" / "a.tif", np.zeros((37, 50, 1), np.uint8))
    options = dict(image_pattern="{split}/images/{id}.tif", mask_pattern="{split}/masks/{id}.tif", splits=("train",))
    options |= dict(classes=("x",), bands=("red", "green", "blue", "nir"))
    plan = FolderSegmentation(str(tmp_path), **options).plan()
    (record,), _ = plan.load("train", plan.items["train"][0])
    assert not codec.decode_mask(record.label, "x").any()
    np.testing.assert_array_equal(codec.decode_image(record.image, "x"), np.where(IMAGE > 900, IMAGE, 0))


def test_a_mask_of_the_mask_file_takes_pixels_out(tmp_path):
    write(tmp_path / "train" / "images" / "a.tif", IMAGE[..., :1])
    valid = RNG.random((37, 50)) < 0.5
    write(tmp_path / "train" / "masks" / "a.tif", np.ones((37, 50, 1), np.uint8), mask=valid)
    options = dict(image_pattern="{split}/images/{id}.tif", mask_pattern="{split}/masks/{id}.tif", splits=("train",))
    plan = FolderSegmentation(str(tmp_path), classes=("x", "y"), bands=("b",), **options).plan()
    (record,), _ = plan.load("train", plan.items["train"][0])
    np.testing.assert_array_equal(codec.decode_mask(record.label, "x"), np.where(valid, 1, 255))


def test_tiles_never_written_are_nodata_in_statistics(tmp_path):
    path, nodata = tmp_path / "train" / "images" / "a.tif", -3.4028234663852886e38
    path.parent.mkdir(parents=True)
    image = RNG.uniform(500, 600, (32, 16, 1)).astype(np.float32)
    profile = dict(driver="GTiff", height=32, width=32, count=1, dtype="float32", **TILED)
    with rasterio.open(path, "w", nodata=nodata, sparse_ok=True, transform=WHERE, **profile) as file:
        file.write(image.transpose(2, 0, 1), window=Window(0, 0, 16, 32))
    write(tmp_path / "train" / "masks" / "a.tif", np.zeros((32, 32, 1), np.uint8), crs=None)
    options = dict(image_pattern="{split}/images/{id}.tif", mask_pattern="{split}/masks/{id}.tif", splits=("train",))
    folder = storage.write(
        FolderSegmentation(str(tmp_path), classes=("x",), bands=("dem",), **options).plan(),
        tmp_path / "d",
        progress=False,
    )
    split = pipeline.open_split(folder, "train")
    (band,) = split.card.bands
    np.testing.assert_allclose([band.mean, band.low, band.high], [image.mean(), image.min(), image.max()], rtol=1e-6)
    decoded = split.decode(0)
    assert (decoded["label"][:, 16:] == 255).all() and not decoded["label"][:, :16].any()
    np.testing.assert_allclose(decoded["image"][:, 16:], band.mean, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------------- places


def bilinear(coarse, fine, lacking):
    """[h w] -> [fine] by a loop: weighted means over measured neighbours; what is stored where the nearest lacks one."""
    out = np.empty(fine)
    for y, x in np.ndindex(*fine):
        at = [(p + 0.5) * c / f - 0.5 for p, c, f in zip((y, x), coarse.shape, fine, strict=True)]
        nearest = tuple(min(int((p + 0.5) * c / f), c - 1) for p, c, f in zip((y, x), coarse.shape, fine, strict=True))
        total = weight = 0.0
        for dy, dx in np.ndindex(2, 2):
            lower = [int(np.floor(a)) for a in at]
            share = np.prod([(a - b) if d else 1 - (a - b) for a, b, d in zip(at, lower, (dy, dx), strict=True)])
            place = tuple(int(np.clip(b + d, 0, c - 1)) for b, d, c in zip(lower, (dy, dx), coarse.shape, strict=True))
            if not lacking[place]:
                total, weight = total + share * coarse[place], weight + share
        out[y, x] = coarse[nearest] if lacking[nearest] else total / weight
    return out


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_coarser_bands_come_to_the_finest_grid(tmp_path, dtype):
    fine, coarse = IMAGE[:36, :50, :1].astype(dtype), IMAGE[:18, :25, 1:2].astype(dtype)
    coarse[3:5, 4:9], coarse[17, 24] = 7, 7
    transform = WHERE @ rasterio.Affine.scale(2)
    paths = [
        write(tmp_path / "coarse.tif", coarse, transform=transform, nodata=7, **TILED),
        write(tmp_path / "fine.tif", fine),
    ]
    raster = Raster(paths)
    assert raster.shape == (36, 50, 2) and raster.resampled == (paths[0],) and raster.place.transform == WHERE
    expected = bilinear(coarse[..., 0].astype(float), (36, 50), coarse[..., 0] == 7)
    whole = raster[0:36, :].copy()
    np.testing.assert_allclose(
        whole[..., 0], np.rint(expected) if dtype == "uint16" else expected, atol=0.5 if dtype == "uint16" else 1e-2
    )
    np.testing.assert_array_equal(whole[..., 1:], fine)
    for first, end in ((0, 7), (5, 20), (3, 4), (19, 36)):
        np.testing.assert_array_equal(raster[first:end, :], whole[first:end])


@pytest.mark.parametrize(
    ("dtype", "others", "nodata", "each"),
    [
        ("uint8", "uint8", 0, False), ("uint8", "uint8", 200, False), ("int16", "int16", 0, False),
        ("int16", "int16", -7, True), ("float32", "float32", 0, False), ("float32", "float32", -7, True),
        ("uint8", "float32", 0, False), ("uint8", "float32", 200, True),  # float32 is the scene's type
    ],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [None, 2])
def test_coarser_bands_have_one_meaning_of_nodata(tmp_path, dtype, others, nodata, each, alpha):
    """A value that could be measured lacks where all bands of the file hold it, opacity apart, another one in each band."""
    rng = np.random.default_rng(0)
    coarse = rng.choice(np.array([nodata, 20, 90, 140], dtype), (9, 11, 3))
    coarse[2:4, 3:6], coarse[5, 5] = nodata, [nodata, 20, 90]
    if alpha is not None:
        coarse[..., alpha] = 255
    fine = rng.integers(1, 100, (18, 22, 1)).astype(others)
    paths = [
        write(tmp_path / "coarse.tif", coarse, transform=WHERE @ rasterio.Affine.scale(2), nodata=nodata, alpha=alpha),
        write(tmp_path / "fine.tif", fine),
    ]
    whole = Raster(paths)[0:18, 0:22]
    bands = [band for band in range(3) if band != alpha]
    for band in bands:
        lacking = np.zeros((9, 11), bool)
        for y, x in np.ndindex(9, 11):
            lacking[y, x] = all(coarse[y, x, other] == nodata for other in ([band] if each else bands))
        expected = bilinear(coarse[..., band].astype(float), (18, 22), lacking)
        near = 1e-3 if dtype == "float32" else 0.501
        np.testing.assert_allclose(whole[..., band], expected, atol=near)
    assert (whole[5, 8, bands] == nodata).all()  # in the middle of what lacks
    picked = Raster(paths, [(1,), ()])[0:18, 0:22]  # the file's other bands count although they are not taken
    np.testing.assert_array_equal(picked[..., 0], whole[..., 0])


def test_a_coarser_file_lies_beside_any_file_of_the_grid_that_says_where(tmp_path):
    plain = write(tmp_path / "plain.tif", IMAGE[:36, :50, :2], crs=None, transform=None)
    unsaid = write(tmp_path / "unsaid.tif", IMAGE[:36, :50, :2], crs=None)
    placed = write(tmp_path / "placed.tif", IMAGE[:36, :50, 2:3])
    coarse = write(tmp_path / "coarse.tif", IMAGE[:18, :25, 3:], transform=WHERE @ rasterio.Affine.scale(2))
    for paths in ([plain, placed, coarse], [coarse, unsaid, placed], [placed, plain, coarse]):
        raster = Raster(paths)
        assert raster.place.transform == WHERE and raster.place.crs.to_epsg() == 32633
        assert raster.shape[:2] == (36, 50) and raster.resampled == (coarse,)
    with pytest.raises(UserError, match=r"differ in size .*does not say where it lies"):
        Raster([plain, coarse])


def test_other_ground_and_other_projections_are_refused(tmp_path):
    first = write(tmp_path / "a.tif", IMAGE)
    moved = write(tmp_path / "moved.tif", IMAGE, transform=WHERE @ rasterio.Affine.translation(3, 0))
    other = write(tmp_path / "other.tif", IMAGE, crs="EPSG:32634")
    cut = write(tmp_path / "cut.tif", IMAGE[::2, :20], transform=WHERE @ rasterio.Affine.scale(2))
    for path, said in (
        (moved, "lies elsewhere on the ground than"),
        (other, "EPSG:32634, but .*EPSG:32633"),
        (cut, "elsewhere"),
    ):
        with pytest.raises(UserError, match=rf"{path.name}.*{said}"):
            Raster([first, path])
    options = dict(
        image_pattern="{id}.tif", mask_pattern="m/{id}.tif", split_lists={"train": "t.txt"}, splits=("train",)
    )
    (tmp_path / "t.txt").write_text("a\n")
    write(tmp_path / "m" / "a.tif", np.zeros((37, 50, 1), np.uint8), crs="EPSG:32634")
    plan = FolderSegmentation(str(tmp_path), classes=("x",), bands=("a", "b", "c", "d"), **options).plan()
    with pytest.raises(UserError, match=r"m/a\.tif is in EPSG:32634, but .*a\.tif in EPSG:32633"):
        plan.load("train", plan.items["train"][0])


def test_files_of_other_scale_tags_are_refused(tmp_path):
    for name, scale in (("a", 1.0), ("b", 0.0001)):
        write(tmp_path / f"{name}.tif", IMAGE)
        write(tmp_path / "m" / f"{name}.tif", np.zeros((37, 50, 1), np.uint8))
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as file:
            file.scales = (scale,) * 4
    options = dict(
        image_pattern="{id}.tif", mask_pattern="m/{id}.tif", split_lists={"train": "t.txt"}, splits=("train",)
    )
    (tmp_path / "t.txt").write_text("a\nb\n")
    plan = FolderSegmentation(str(tmp_path), classes=("x",), bands=("a", "b", "c", "d"), **options).plan()
    plan.load("train", plan.items["train"][0])
    with pytest.raises(
        UserError, match=r"b\.tif states scale and offset \(0\.0001, 0\.0\).*first scene \(1\.0, 0\.0\)"
    ):
        plan.load("train", plan.items["train"][1])


def test_boxes_of_south_up_rotated_and_other_zones(tmp_path):
    up = rasterio.Affine(10, 0, 700_000, 0, 10, 4_000_000 - 370)
    turned = WHERE @ rasterio.Affine.rotation(90)
    paths = [
        write(tmp_path / "north.tif", IMAGE), write(tmp_path / "south.tif", IMAGE[::-1], transform=up),
        write(tmp_path / "turned.tif", IMAGE, transform=turned),
    ]  # fmt: skip
    (x0, x1), (y0, y1) = rasterio.warp.transform("EPSG:32633", "EPSG:32634", [700_000, 700_500], [4_000_000, 3_999_630])
    near = rasterio.transform.from_bounds(x0, y1, x1, y0, 50, 37)
    paths.append(write(tmp_path / "zone.tif", IMAGE, crs="EPSG:32634", transform=near))
    north, south, turned_box, zone = ground.bounds_of([[path] for path in paths])
    assert north == south == ground.Bounds(700_000, 3_999_630, 700_500, 4_000_000)
    assert dataclasses.astuple(turned_box) == pytest.approx((699_630, 3_999_500, 700_000, 4_000_000))
    assert abs(zone.west - north.west) < 40 and abs(zone.north - north.north) < 40
    assert "SPATIAL LEAK: of 1 val tiles 1 overlap" in ground.leaks({"train": [north], "val": [zone]})[0]
    assert "1 overlap" in ground.leaks({"train": [north], "val": [south]})[0]


def test_what_is_said_of_place_is_kept(tmp_path):
    write(tmp_path / "w.tif", IMAGE, crs=None, transform=None)
    (tmp_path / "w.tfw").write_text("0.5\n0\n0\n-0.5\n1000.25\n1999.75\n")
    assert maps.Place.of(tmp_path / "w.tif").transform == rasterio.Affine(0.5, 0, 1000, 0, -0.5, 2000)
    Image.fromarray(IMAGE[..., 0].astype(np.uint8)).save(tmp_path / "p.png")
    assert not maps.Place.of(tmp_path / "p.png").known and not scenes_of([str(tmp_path / "p.png")])[0].placed
    (tmp_path / "p.pgw").write_text("0.5\n0\n0\n-0.5\n1000.25\n1999.75\n")
    assert scenes_of([str(tmp_path / "p.png")])[0].placed
    points = [rasterio.control.GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 50), (37, 0))]
    path = write(tmp_path / "Überflug/höhe.tif", IMAGE, crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    place = Raster([path]).place
    with maps.cog(tmp_path / "map.tif", (37, 50), place, bands=("class",), nodata=255, tags={}) as writer:
        writer.write(np.zeros((37, 50), np.uint8))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert [(p.row, p.col, p.x, p.y) for p in file.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]
        assert file.gcps[1].to_epsg() == 4326
    national = rasterio.crs.CRS.from_wkt(
        rasterio.crs.CRS.from_epsg(32633).to_wkt().replace("WGS 84 / UTM zone 33N", "Höhensystem 33")
    )
    assert Raster([write(tmp_path / "n.tif", IMAGE, crs=national)]).place.crs is not None


def test_scenes_are_known_by_their_bytes(tmp_path, stored):
    (tmp_path / "scene.gtiff").write_bytes(stored["tiles"].read_bytes())
    (tmp_path / "picture.tif").write_bytes(codec.encode_png(IMAGE))
    (tmp_path / "notes.txt").write_text("no raster")
    (tmp_path / "scene.gtiff.ovr").write_bytes(stored["tiles"].read_bytes())
    found = {scene.name: scene.placed for scene in scenes_of([str(tmp_path)])}
    assert found == {"scene": True, "picture": False}
    np.testing.assert_array_equal(Raster([tmp_path / "picture.tif"])[0:37, :], IMAGE)


def test_addresses():
    for text, name in (
        ("https://host/a/b.tif", "/vsicurl/https://host/a/b.tif"), ("/vsicurl/https://host/b.tif",) * 2,
        ("s3://bucket/a.tif", "/vsis3/bucket/a.tif"), ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"), ("a/b.tif", "a/b.tif"),
    ):  # fmt: skip
        assert gdal.shown(gdal.address(text, "raster")) == name
    (scene,) = scenes_of(["https://host/a/b.tif:4,3,2"])
    assert scene.files == ((gdal.address("https://host/a/b.tif", "raster"), (4, 3, 2)),) and scene.name == "b"
