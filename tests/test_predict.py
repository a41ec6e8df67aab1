"""Class maps of rasters of any form, from real checkpoints, through the command line's own function."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import tifffile
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import genseg
from genseg import checkpoints, nets, partition, predict, train, windows
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, maps, qgis, rasters
from genseg.errors import TryAgain, UserError
from genseg.predict import area, bands, polygons, run
from genseg.predict.network import Measured
from tests.data import made

CARD = DatasetCard(
    name="made", task="segmentation", bands=tuple(Band(f"b{i}") for i in range(3)), classes=("a", "b", "c"),
    palette=((10, 20, 30), (200, 0, 0), (0, 150, 255)), ignore_label=255, scored=(0, 1, 2), splits={}, protocol="",
    synthetic=True,
)  # fmt: skip
RGBN = ("red", "green", "blue", "nir")


# ------------------------------------------------------------------------------------------------------------ reading


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), bands=st.integers(1, 5), tiled=st.booleans(), apart=st.booleans(), pages=st.booleans(),
    compression=st.sampled_from([None, "deflate", "lzw"]), dtype=st.sampled_from(["uint8", "uint16", "float32", ">i2"]),
)  # fmt: skip
def test_rows_of_every_tiff_equal_a_whole_decoding(
    tmp_path_factory, seed, bands, tiled, apart, pages, compression, dtype
):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (rng.integers(1, 60), rng.integers(1, 60), bands)).astype(dtype)
    path = tmp_path_factory.mktemp("tiff") / "x.tif"
    layout = {"tile": (16, 32)} if tiled else {"rowsperstrip": int(rng.integers(1, 20))}
    with tifffile.TiffWriter(path, byteorder=">" if dtype == ">i2" else "<") as file:
        options = dict(compression=compression, photometric="minisblack", **layout)
        if pages or bands == 1:
            for band in range(bands):
                file.write(image[..., band], **options)
        elif apart:
            file.write(np.moveaxis(image, 2, 0), planarconfig="separate", **options)
        else:
            file.write(image, planarconfig="contig", **options)
    raster = rasters.Raster([path])
    np.testing.assert_array_equal(codec.decode_image(path.read_bytes(), "x"), image)
    assert raster.shape == image.shape and raster.dtype == image.dtype.newbyteorder("=")
    for _ in range(4):
        (a, b), (c, d) = (sorted(rng.integers(0, side + 1, 2)) for side in image.shape[:2])
        np.testing.assert_array_equal(raster[a:b, c:d], image[a:b, c:d])


@pytest.mark.parametrize("nodata", ["-7", "nan"])
def test_tiles_that_were_never_written_hold_nodata(tmp_path, nodata):
    tile = np.ones((16, 16), np.float32)
    tifffile.imwrite(
        tmp_path / "x.tif", iter([tile, None, None, 2 * tile]), shape=(32, 32), dtype=np.float32, tile=(16, 16),
        photometric="minisblack", extratags=[(42113, "s", 0, nodata, True)],
    )  # fmt: skip
    expected = np.full((32, 32, 1), float(nodata), np.float32)
    expected[:16, :16], expected[16:, 16:] = 1, 2
    np.testing.assert_array_equal(rasters.Raster([tmp_path / "x.tif"])[0:32, 0:32], expected)
    np.testing.assert_array_equal(codec.decode_image((tmp_path / "x.tif").read_bytes(), "x"), expected)


def test_bands_of_several_files_and_formats(tmp_path):
    image = made.scene(0, 4, "uint8", (20, 24), 3)[0]
    made.save_png(tmp_path / "rgb.png", image[..., :3])
    np.save(tmp_path / "heat.npy", image[..., 3])
    raster = rasters.Raster([tmp_path / "rgb.png", tmp_path / "heat.npy"])
    np.testing.assert_array_equal(raster[3:9, 2:24], image[3:9, 2:])
    picked = rasters.Raster([tmp_path / "rgb.png", tmp_path / "heat.npy"], [(3, 1), ()])
    assert picked.shape == (20, 24, 3)
    np.testing.assert_array_equal(picked[3:9, 2:24], image[3:9, 2:, [2, 0, 3]])
    with pytest.raises(UserError, match=r"heat\.npy has 1 band\(s\): there is no band 2"):
        rasters.Raster([tmp_path / "rgb.png", tmp_path / "heat.npy"], [(), (2,)])
    np.save(tmp_path / "heat.npy", image[1:, :, 3])
    with pytest.raises(UserError, match="differ in size"):
        rasters.Raster([tmp_path / "rgb.png", tmp_path / "heat.npy"])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0 not a tiff")
    with pytest.raises(UserError, match=r"x\.tif cannot be decoded"):
        rasters.Raster([path])
    path.write_bytes(codec.encode_tiff(made.scene(0, 3, "uint8", (200, 200), 3)[0])[:20000])
    with pytest.raises(UserError, match=r"x\.tif cannot be decoded"):
        rasters.Raster([path])[0:200, 0:200]


# ------------------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("size", [(5, 7), (300, 517)])
def test_class_maps_hold_ids_and_show_the_palette(tmp_path, size):
    ids = np.random.default_rng(0).integers(0, 3, size, dtype=np.uint8)
    ids[0, 0] = 255
    path, pieces = tmp_path / "m.png", [ids[:1], ids[1:4], ids[4:]]
    rasters.write_classes(path, pieces, CARD)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), ids)
        shown = np.asarray(picture.convert("RGB"))
    assert tuple(shown[0, 0]) == (0, 0, 0)
    np.testing.assert_array_equal(shown[ids == 2], [(0, 150, 255)] * int((ids == 2).sum()))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# ------------------------------------------------------------------------------------------------------ command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir: the demo's fine-tuning for one step, on 4 bands and 5 classes, with a network of four blocks."""
    root = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(root / "data")
    config.train.steps, config.train.warmup_steps, config.report.panels = 1, 0, 0
    config.model.head_channels, config.model.aux_channels = 16, 8
    config.augment.size = (32, 32)
    train.train(config.lock(), str(root / "run"))
    yield root / "run"
    patch.undo()


def reference(trained, image: np.ndarray, inference: windows.Inference) -> np.ndarray:
    """Class ids by one pass over all windows at once, with the checkpoint's network."""
    weights = checkpoints.load_weights(str(trained), ema=False)
    one = predict.Predictor(weights, inference, 8)
    rows = windows.class_rows(
        [(0, image)], one.score, inference=inference, classes=5, batch=8,
        fill=weights.card.fill,
    )  # fmt: skip
    return np.concatenate([ids for _, _, ids in rows])


def test_geotiff_in_geotiff_out(trained, tmp_path, capsys):
    image = made.scene(1, 4, "uint8", (75, 90), 5)[0]
    made.georeferenced(tmp_path / "in" / "scene.tif", image, 700_000.0, 4_000_000.0, 0.6)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", str(tmp_path / "in" / "scene.tif")]
    assert predict.main(argv) == 0
    assert "windows of 32 x 32 every 16 x 16 pixels, hann blending" in capsys.readouterr().out
    out = tmp_path / "out" / "scene_classes.tif"
    expected = reference(trained, image, windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32))
    np.testing.assert_array_equal(tifffile.imread(out), expected)
    with tifffile.TiffFile(out) as written, tifffile.TiffFile(tmp_path / "in" / "scene.tif") as given_file:
        for tag in (33550, 33922):
            assert written.pages[0].tags[tag].value == given_file.pages[0].tags[tag].value


def test_maps_of_one_scene_in_several_forms_are_equal(trained, tmp_path):
    image = made.scene(1, 4, "uint8", (40, 40), 5)[0] + 1
    valid = np.random.default_rng(0).random((40, 40)) < 0.8
    profile = dict(height=40, width=40, count=4, dtype="uint8", crs="EPSG:32633")
    where = rasterio.Affine(0.5, 0, 7e5, 0, -0.5, 4e6)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        for name, mask in (("scene.gtiff", None), ("masked.tif", valid)):
            with rasterio.open(tmp_path / name, "w", driver="GTiff", transform=where, **profile) as file:
                file.write(image.transpose(2, 0, 1))
                if mask is not None:
                    file.write_mask(mask)
    rasterio.shutil.copy(
        tmp_path / "scene.gtiff", tmp_path / "j.jp2", driver="JP2OpenJPEG", quality=100, reversible="yes"
    )
    tifffile.imwrite(tmp_path / "w.tif", image, photometric="minisblack", planarconfig="contig")
    (tmp_path / "w.tfw").write_text("0.5\n0\n0\n-0.5\n700000.25\n3999999.75\n")
    made.save_png(tmp_path / "p.tif", image)
    out = tmp_path / "out"
    names = ["scene.gtiff", "masked.tif", "j.jp2", "w.tif", "p.tif"]
    argv = [f"--checkpoint={trained}", f"--out={out}", "--batch=8", "--mode=whole", "--no-quicklook"]
    assert predict.main([*argv, *(str(tmp_path / name) for name in names)]) == 0
    maps_of = {}
    for name in ("scene", "masked", "j", "w"):
        with rasterio.open(out / f"{name}_classes.tif") as file:
            maps_of[name] = file.read(1)
            assert file.transform == where and (file.crs is None if name == "w" else file.crs.to_epsg() == 32633)
    np.testing.assert_array_equal(maps_of["masked"] == 255, ~valid)
    picture = np.asarray(Image.open(out / "p_classes.png"))
    assert picture.max() < 5
    for found in (maps_of["j"], maps_of["w"], picture):
        np.testing.assert_array_equal(found, maps_of["scene"])


def test_values_decide_and_not_the_type_that_they_are_stored_in(trained, tmp_path, capsys):
    image = made.scene(1, 4, "uint8", (40, 44), 5)[0]
    image[:7, :5] = 0
    profile = dict(driver="GTiff", height=40, width=44, count=4, nodata=0)
    types = ("uint8", "uint16", "int16", "int32", "float32", "float64")
    for dtype in types:
        with rasterio.open(tmp_path / f"{dtype}.tif", "w", dtype=dtype, **profile) as file:
            file.write(image.transpose(2, 0, 1).astype(dtype))
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", "--no-quicklook"]
    assert predict.main([*argv, *(str(tmp_path / f"{dtype}.tif") for dtype in types)]) == 0
    told = capsys.readouterr().out
    found = {dtype: tifffile.imread(tmp_path / "out" / f"{dtype}_classes.tif") for dtype in types}
    assert (found["uint8"][:7, :5] == 255).all() and len(np.unique(found["uint8"])) > 2
    for dtype in types:
        np.testing.assert_array_equal(found[dtype], found["uint8"], err_msg=dtype)
        note = (
            f"NOTE {tmp_path / dtype}.tif: its values are read as float32 and taken as they are, and training had uint8"
        )
        assert (note in told) == (dtype != "uint8"), dtype
    # What training took for an integer, a mean of 100.4 in its holes, is so in floats; values that no integer holds are kept.
    card = dataclasses.replace(CARD, dtype="uint16", bands=(Band("a", 100.4, 9, 70, 130, nodata=0),))
    seen = Measured(rasters.Raster([tmp_path / "float32.tif"], [(1,)]), card)
    np.testing.assert_array_equal(seen[0:40, 0:44][..., 0], np.where(image[..., 0] == 0, 100, image[..., 0]))
    with rasterio.open(tmp_path / "low.tif", "w", dtype="int16", **(profile | {"count": 1})) as file:
        file.write(np.full((1, 40, 44), -3, np.int16))
    assert (Measured(rasters.Raster([tmp_path / "low.tif"]), card)[0:40, 0:44] == -3).all()


def test_files_joined_by_plus_and_pixels_without_measurement(trained, tmp_path):
    image = made.scene(2, 4, "uint8", (40, 40), 5)[0]
    made.save_png(tmp_path / "rgb.png", image[..., :3])
    heat = image[..., 3].copy()
    heat[:9, :5] = 200
    tifffile.imwrite(tmp_path / "heat.tif", heat, extratags=[(42113, "s", 0, "200", True)])
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8"]
    assert predict.main([*argv, f"{tmp_path / 'rgb.png'}+{tmp_path / 'heat.tif'}"]) == 0
    ids = np.asarray(Image.open(tmp_path / "out" / "rgb_classes.png"))
    assert (ids[:9, :5] == 255).all() and (ids == 255).sum() == 45 and ids.max() == 255
    # A thermal image that repeats its one channel, as repackaged copies do; other bands of a file can be picked alike.
    made.save_png(tmp_path / "bgr.png", image[..., [2, 1, 0]])
    made.save_png(tmp_path / "heat3.png", np.repeat(image[..., 3:], 3, axis=2))
    assert predict.main([*argv, f"{tmp_path / 'bgr.png'}:3,2,1+{tmp_path / 'heat3.png'}:1"]) == 0
    picked = np.asarray(Image.open(tmp_path / "out" / "bgr_classes.png"))
    made.save_png(tmp_path / "four.png", image)
    assert predict.main([*argv, str(tmp_path / "four.png")]) == 0
    np.testing.assert_array_equal(picked, np.asarray(Image.open(tmp_path / "out" / "four_classes.png")))


@pytest.mark.parametrize("first", ["rgb.tif", "rgb.png", "world.png"])
def test_the_place_of_a_scene_is_that_of_any_of_its_files(trained, tmp_path, first):
    """In whatever order: the map lies there, its areas are in hectares, and an area of interest cuts it."""
    image = made.scene(2, 4, "uint8", (40, 40), 5)[0]
    tifffile.imwrite(tmp_path / "rgb.tif", image[..., :3], photometric="minisblack", planarconfig="contig")
    made.save_png(tmp_path / "rgb.png", image[..., :3])
    made.save_png(tmp_path / "world.png", image[..., :3])
    (tmp_path / "world.pgw").write_text("10\n0\n0\n-10\n700005\n3999995\n")  # a place without a projection
    where = rasterio.Affine(10, 0, 7e5, 0, -10, 4e6)
    profile = dict(height=40, width=40, count=1, dtype="uint8", crs="EPSG:32633", transform=where)
    with rasterio.open(tmp_path / "heat.tif", "w", driver="GTiff", **profile) as file:
        file.write(image[..., 3], 1)
    corners = [[7e5, 4e6], [700_200, 4e6], [700_200, 3_999_600], [7e5, 3_999_600], [7e5, 4e6]]
    area = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "EPSG:32633"}}, "features": [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [corners]}},
    ]}  # fmt: skip
    (tmp_path / "aoi.geojson").write_text(json.dumps(area))
    (found,) = genseg.draw_maps(
        trained, f"{tmp_path / first}+{tmp_path / 'heat.tif'}", tmp_path / "out", batch=8, quicklook=False,
        aoi=tmp_path / "aoi.geojson",
    )  # fmt: skip
    assert found.name == f"{first[:-4]}_classes.tif"
    with rasterio.open(found) as file:
        assert file.crs.to_epsg() == 32633 and file.transform == where
        ids = file.read(1)
    assert (ids[:, 20:] == 255).all() and (ids[:, :20] < 5).all()
    record = json.loads((found.parent / f"{first[:-4]}.json").read_text())
    assert sum(row["hectares"] for row in record["areas"]) == pytest.approx(40 * 20 / 100)


def test_mistakes_end_in_one_sentence(trained, tmp_path, capsys):
    made.save_png(tmp_path / "three.png", np.zeros((8, 8, 3), np.uint8))
    made.save_png(tmp_path / "deep.png", np.zeros((8, 8, 4), np.uint16))
    (tmp_path / "b").mkdir()
    made.save_png(tmp_path / "b" / "three.png", np.zeros((8, 8, 3), np.uint8))
    common = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}"]
    for argv, message in (
        ([*common, str(tmp_path / "no.tif")], "There is no file"),
        ([*common, f"{tmp_path / 'deep.png'}:5"], "has 4 band(s): there is no band 5"),
        ([*common, str(tmp_path / "three.png")], "has 3 band(s), but the network takes 4 (red, green, blue, thermal)"),
        ([*common, f"{tmp_path / 'deep.png'}:1,2", f"{tmp_path / 'deep.png'}:2,1"], "would both be written to"),
        ([*common, "--batch=3", str(tmp_path / "deep.png")], "batch size 3 is not divisible by the 8 devices"),
        ([*common, "--stride", "40", "8", str(tmp_path / "deep.png")], "leaves gaps"),
        ([f"--checkpoint={tmp_path}", f"--out={tmp_path}", str(tmp_path / "deep.png")], "no complete checkpoint"),
    ):
        assert predict.main(argv) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0], error


# --------------------------------------------------------------------------------------------------------- from Python


def test_draw_maps_gives_the_maps_of_the_scenes_asked_for(trained, tmp_path, monkeypatch):
    """Those of sub-folders too, and none of an earlier call."""
    for place, name in enumerate(("a/scene", "b/scene", "other")):
        image = made.scene(place, 4, "uint8", (40, 40), 5)[0]
        made.georeferenced(tmp_path / "in" / f"{name}.tif", image, 7e5, 4e6, 0.6)
    made.save_png(tmp_path / "plain.png", made.scene(1, 4, "uint8", (40, 40), 5)[0])
    out = tmp_path / "out"
    options = {"batch": 8, "quicklook": False}
    (first,) = genseg.draw_maps(trained, tmp_path / "in" / "other.tif", out, **options)
    assert first == out / "other_classes.tif"
    (tmp_path / "in" / "other.tif").rename(tmp_path / "other.tif")
    found = genseg.draw_maps(str(trained), [tmp_path / "plain.png", tmp_path / "in"], str(out), **options)
    expected = ["plain_classes.png", "a/scene_classes.tif", "b/scene_classes.tif"]
    assert found == [out / name for name in expected] and all(path.is_file() for path in found)
    assert not list(out.rglob("*_quicklook.png"))
    times = [path.stat().st_mtime_ns for path in found]
    assert genseg.draw_maps(trained, [tmp_path / "plain.png", tmp_path / "in"], out, **options) == found
    assert [path.stat().st_mtime_ns for path in found] == times, "finished scenes are drawn again"
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'line'}", "--batch=8", str(tmp_path / "plain.png")]
    assert predict.main(argv) == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(found[0])), np.asarray(Image.open(tmp_path / "line" / "plain_classes.png"))
    )


@pytest.mark.parametrize(("ema", "averaged"), [(None, True), (False, False), (True, True)])
def test_false_is_a_choice_of_its_own(trained, tmp_path, monkeypatch, ema, averaged):
    """Of a run whose evaluation has averaged weights."""
    asked, load = [], checkpoints.load_weights

    def recorded(path, *, ema, best=False):
        asked.append(ema)
        weights = load(path, ema=False, best=best)
        return dataclasses.replace(weights, config=weights.config | {"eval": weights.config["eval"] | {"ema": True}})

    monkeypatch.setattr(checkpoints, "load_weights", recorded)
    made.save_png(tmp_path / "x.png", made.scene(1, 4, "uint8", (40, 40), 5)[0])
    genseg.draw_maps(trained, [tmp_path / "x.png"], tmp_path / "out", ema=ema, batch=8)
    assert asked[-1] == averaged


def test_what_draw_maps_cannot_do_is_said(trained, tmp_path):
    made.save_png(tmp_path / "x.png", made.scene(1, 4, "uint8", (40, 40), 5)[0])
    for options, message in (
        ({"mode": "tiles"}, "mode is 'tiles': give one of whole, slide"),
        ({"blend": "gauss"}, "blend is 'gauss'"),
        ({"crop": 64}, "crop is 64: give two whole numbers"),
        ({"stride": (8,)}, "stride is"),
        ({"stride": (33, 8)}, "leaves gaps"),
        ({"scales": (0,)}, "scales is"),
        ({"sensor": "spot"}, "--sensor is 'spot'"),
        ({"bands": {"mauve": 1}}, "names 'mauve'"),
        ({"smallest": 3}, "with --polygons"),
        ({"lists": [tmp_path / "none.csv"]}, "none.csv"),
    ):
        with pytest.raises(UserError, match=message):
            genseg.draw_maps(trained, [tmp_path / "x.png"], tmp_path / "out", **options)
    with pytest.raises(UserError, match="x.png"):  # what the system refuses
        genseg.draw_maps(trained, [tmp_path / "x.png"], tmp_path / "x.png" / "out")
    with pytest.raises(TypeError, match="polygon"):
        genseg.draw_maps(trained, [tmp_path / "x.png"], tmp_path / "out", polygon=True)
    (scene,) = predict.scenes_of([str(tmp_path / "x.png")])
    with run._sole(scene, tmp_path / "out"), pytest.raises(TryAgain, match=r"x\.png is being made by another process"):
        genseg.draw_maps(trained, [tmp_path / "x.png"], tmp_path / "out", batch=8)


def test_weights_are_whole_on_every_device(trained):
    weights = checkpoints.load_weights(str(trained), ema=False)
    inference = windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32)
    one = predict.Predictor(weights, inference, 0)
    kernel = one._params["backbone"]["stem"]["conv"]["kernel"]
    assert len(kernel.addressable_shards) == 8 and kernel.is_fully_replicated
    assert dataclasses.asdict(one.inference)["crop"] == (32, 32) and partition.local_mesh().size == 8


# --------------------------------------------------------------------------------------------------------- products


def georeferenced(
    path, image, crs="EPSG:32633", names=(), nodata=None, transform=(0.6, 0, 500_000, 0, -0.6, 5_400_000)
):
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=image.shape[0], width=image.shape[1], count=image.shape[2], dtype=image.dtype,
        crs=crs, transform=rasterio.Affine(*transform), nodata=nodata,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(image, 2, 0))
        if names:
            file.descriptions = names


@pytest.fixture(scope="module")
def mapped(trained, tmp_path_factory):
    """Everything that can be written of a scene with a hole in it, clipped by a triangle in another projection."""
    import pyogrio
    import shapely
    from rasterio.warp import transform_geom

    root = tmp_path_factory.mktemp("mapped")
    image = np.maximum(made.scene(1, 4, "uint8", (75, 90), 5)[0], 1)
    image[:9, :5] = 0
    georeferenced(root / "scene.tif", image, nodata=0, names=("Red", "Green", "Blue", "Thermal"))
    triangle = shapely.Polygon([(499_990, 5_400_010), (500_060, 5_400_010), (499_990, 5_399_940)])
    moved = shapely.geometry.shape(transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(triangle)))
    pyogrio.raw.write(
        root / "area.gpkg", shapely.to_wkb(np.array([moved], object)), [np.array([1])], ["id"], crs="EPSG:4326",
        geometry_type="Polygon", driver="GPKG",
    )  # fmt: skip
    argv = [f"--checkpoint={trained}", f"--out={root / 'out'}", "--batch=8", "--probabilities", "--entropy", "--margin"]
    argv += ["--polygons", f"--aoi={root / 'area.gpkg'}", str(root / "scene.tif")]
    assert predict.main(argv) == 0
    return root, argv, image, triangle


def test_the_map_lies_in_place_with_names_and_colours(mapped, trained):
    import rasterio
    from rasterio import features

    root, _, image, triangle = mapped
    with rasterio.open(root / "out" / "scene_classes.tif") as file, rasterio.open(root / "scene.tif") as given_file:
        ids, colours = file.read(1), file.colormap(1)
        assert file.transform == given_file.transform and file.crs == given_file.crs and file.nodata == 255
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        inside = features.geometry_mask([triangle], ids.shape, file.transform, invert=True)
    card = checkpoints.load_weights(str(trained), ema=False).card
    assert [colours[i][:3] for i in range(5)] == [tuple(c) for c in card.palette]
    filled = np.where(image == 0, card.fill, image)
    expected = reference(trained, filled, windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32))
    valid = inside & (image != 0).all(axis=2)
    assert 1000 < valid.sum() < valid.size / 1.5
    np.testing.assert_array_equal(ids, np.where(valid, expected, 255))
    sidecar = (root / "out" / "scene_classes.tif.aux.xml").read_text()
    assert all(f"<Category>{name}</Category>" in sidecar for name in card.classes)
    assert [(n, c) for _, n, c in qgis.read_style(root / "out" / "scene_classes.qml")] == [
        (name, tuple(colour)) for name, colour in zip(card.classes, card.palette, strict=True)
    ]


def test_probabilities_entropy_and_margin_agree_with_each_other_and_the_map(mapped):
    import rasterio

    out = mapped[0] / "out"
    with rasterio.open(out / "scene_classes.tif") as file:
        ids = file.read(1)
    with rasterio.open(out / "scene_probabilities.tif") as file:
        stored, scales = file.read(), file.scales
        assert (
            file.descriptions == checkpoints.load_weights(str(mapped[1][0].partition("=")[2]), ema=False).card.classes
        )
    valid = ids != 255
    assert (stored[:, ~valid] == 255).all() and scales == (1 / 250,) * 5
    shares = stored[:, valid] / 250
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=5 / 500)
    best = np.sort(shares, axis=0)
    clear = best[-1] - best[-2] > 1 / 250
    np.testing.assert_array_equal(shares.argmax(axis=0)[clear], ids[valid][clear])
    with rasterio.open(out / "scene_margin.tif") as file:
        np.testing.assert_allclose(file.read(1)[valid] / 250, best[-1] - best[-2], atol=1.6 / 250)
    with rasterio.open(out / "scene_entropy.tif") as file:
        entropy = -(shares * np.log(np.maximum(shares, 1e-9))).sum(axis=0) / np.log(5)
        np.testing.assert_allclose(file.read(1)[valid] / 250, entropy, atol=0.02)


def test_polygons_cover_what_the_map_and_the_table_say(mapped):
    import csv

    import pyogrio
    import rasterio
    import shapely

    out = mapped[0] / "out"
    with rasterio.open(out / "scene_classes.tif") as file:
        ids = file.read(1)
    meta, _, geometry, columns = pyogrio.raw.read(out / "scene_polygons.gpkg")
    fields = dict(zip(meta["fields"], columns, strict=True))
    shapes = shapely.from_wkb(geometry)
    assert meta["crs"] == "EPSG:32633" and shapely.is_valid(shapes).all()
    np.testing.assert_allclose(shapely.union_all(shapes).area, shapely.area(shapes).sum())  # no overlap
    with (out / "scene_areas.csv").open() as file:
        table = {row["class"]: row for row in csv.DictReader(file)}
    for i, (name, row) in enumerate(table.items()):
        count = (ids == i).sum()
        assert int(row["pixels"]) == count
        np.testing.assert_allclose(float(row["hectares"]), count * 0.36 / 1e4, atol=1e-6)
        np.testing.assert_allclose(fields["area_m2"][fields["class"] == name].sum(), count * 0.36, atol=1e-3)
    record = json.loads((out / "scene.json").read_text())
    assert record["areas"][0]["pixels"] == (ids == 0).sum() and record["polygons"] == len(shapes)
    assert record["settings"]["checkpoint"].endswith("/checkpoints/1")


def test_finished_scenes_are_left_alone_and_changed_ones_are_not(mapped, capsys):
    root, argv, *_ = mapped
    before = (root / "out" / "scene_classes.tif").stat().st_mtime_ns
    assert predict.main(argv) == 0
    assert "is there already" in capsys.readouterr().out
    assert (root / "out" / "scene_classes.tif").stat().st_mtime_ns == before
    record = json.loads((root / "out" / "scene.json").read_text())
    assert record["settings"].pop("rules") == run.RULES
    (root / "out" / "scene.json").write_text(json.dumps(record))  # as from before bands, areas and windows were mended
    assert predict.main(argv) == 0
    assert "is there already" not in capsys.readouterr().out
    (root / "out" / "scene_areas.csv").unlink()
    (root / "out" / ".partial-scene_classes.tif.rows-00000000-1234").touch()  # of a killed process
    assert predict.main(argv) == 0
    assert (root / "out" / "scene_areas.csv").exists()
    assert not [p for p in (root / "out").iterdir() if p.name.startswith(".")]


def test_other_weights_or_another_area_under_the_same_name_make_the_map_anew(trained, mapped, tmp_path):
    root, *_ = mapped
    scene, weights = predict.scenes_of([str(root / "scene.tif")])[0], checkpoints.load_weights(str(trained), ema=False)
    inference = windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32)
    one = predict.Predictor(weights, inference, 8)

    def settings(weights, drawn):
        request = predict.Request(tmp_path, predict.Products(), area=drawn)
        return run.settings_of(scene, one, weights, request)

    shutil.copy(root / "area.gpkg", tmp_path / "area.gpkg")
    drawn = area.Area(tmp_path / "area.gpkg")
    before = settings(weights, drawn)
    assert before == settings(checkpoints.load_weights(str(trained), ema=False), area.Area(tmp_path / "area.gpkg"))
    params = jax.tree.map(np.array, weights.params)
    params["backbone"]["stem"]["conv"]["kernel"].flat[0] += 1e-3
    assert before != settings(dataclasses.replace(weights, params=params), drawn)
    import pyogrio
    import shapely

    pyogrio.raw.write(
        tmp_path / "area.gpkg", shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)], object)), [np.array([1])], ["id"],
        crs="EPSG:4326", geometry_type="Polygon", driver="GPKG",
    )  # fmt: skip
    assert before != settings(weights, area.Area(tmp_path / "area.gpkg"))


@pytest.mark.parametrize(
    "changed",
    ["w.tfw", "w.TFW", "w.tif.aux.xml", "w.tif.msk", "mosaic.vrt", "below.vrt", "a & b.tif", "a & b.tif.aux.xml"],
)
def test_a_scene_is_made_anew_when_a_file_that_it_takes_along_changed(trained, tmp_path, changed):
    weights = checkpoints.load_weights(str(trained), ema=False)
    one = predict.Predictor(weights, windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32), 8)
    vrt = '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    (tmp_path / "mosaic.vrt").write_text(vrt.format("below.vrt"))
    (tmp_path / "below.vrt").write_text(vrt.format("a &amp; b.tif"))
    for name in ("w.tif", "a & b.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), np.uint8))
    request = predict.Request(tmp_path, predict.Products())
    scenes = predict.scenes_of([str(tmp_path / "w.tif"), str(tmp_path / "mosaic.vrt")])

    def of_both():
        return [run.settings_of(scene, one, weights, request) for scene in scenes]

    before = of_both()
    (tmp_path / "w.tif.ovr").touch()  # overviews, and files of other scenes, say nothing of it
    (tmp_path / "w2.tfw").touch()
    assert of_both() == before
    with (tmp_path / changed).open("a") as file:
        file.write(" ")
    assert [new != old for new, old in zip(of_both(), before, strict=True)] == [changed[0] == "w", changed[0] != "w"]


def test_products_of_an_earlier_map_do_not_stay_beside_another_one(trained, tmp_path, capsys):
    georeferenced(tmp_path / "scene.tif", np.maximum(made.scene(1, 4, "uint8", (40, 40), 5)[0], 1))
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", str(tmp_path / "scene.tif")]
    assert predict.main([*argv, "--probabilities", "--polygons"]) == 0
    (tmp_path / "out" / "scene_notes.txt").write_text("mine")
    (tmp_path / "out" / "scene_margin.tif").write_text("mine")  # of a name of ours, but not listed
    capsys.readouterr()
    assert predict.main([*argv, "--entropy", "--no-quicklook"]) == 0
    removed = [line for line in capsys.readouterr().out.splitlines() if "removed" in line]
    gone = ["scene_polygons.gpkg", "scene_probabilities.tif", "scene_quicklook.png"]
    assert len(removed) == 1 and removed[0].endswith(f"removed, of the map before: {', '.join(gone)}")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    written = json.loads((tmp_path / "out" / "scene.json").read_text())["written"]
    assert left == {*written, "scene.json", "scene_notes.txt", "scene_margin.tif"} and "scene_entropy.tif" in written


def test_small_regions_join_a_neighbour(tmp_path):
    import pyogrio

    ids = np.zeros((20, 20), np.uint8)
    ids[:, 10:], ids[4:6, 4:6], ids[15, 15], ids[19, 19] = 1, 1, 0, 255
    path = tmp_path / "m.tif"
    georeferenced(path, ids[..., None], nodata=255)
    classes = [(0, "a", (0, 0, 0)), (1, "b", (9, 9, 9))]
    assert polygons.write(tmp_path / "all.gpkg", path, classes, nodata=255, smallest=0) == 4
    assert polygons.write(tmp_path / "few.gpkg", path, classes, nodata=255, smallest=5) == 2
    _, _, _, (names, ids, areas) = pyogrio.raw.read(tmp_path / "few.gpkg")
    assert dict(zip(names, np.round(areas / 0.36), strict=True)) == {"a": 200, "b": 199}


@pytest.mark.parametrize("smallest", [0, 5])
def test_a_map_without_a_class_has_a_layer_without_a_polygon(tmp_path, smallest):
    """With the fields of all others, for a project that joins many of them."""
    import pyogrio

    classes = [(0, "a", (0, 0, 0)), (1, "b", (9, 9, 9))]
    fields = {}
    for name, value in (("none", 255), ("some", 1)):
        georeferenced(tmp_path / f"{name}.tif", np.full((20, 20, 1), value, np.uint8), nodata=255)
        count = polygons.write(
            tmp_path / f"{name}.gpkg", tmp_path / f"{name}.tif", classes, nodata=255, smallest=smallest
        )
        assert count == (name == "some")
        meta = pyogrio.read_info(tmp_path / f"{name}.gpkg")
        assert meta["features"] == count and meta["crs"] == "EPSG:32633" and meta["geometry_type"] == "Polygon"
        fields[name] = dict(zip(meta["fields"], meta["dtypes"], strict=True))
    assert fields["none"] == fields["some"] and list(fields["some"]) == ["class", "class_id", "area_m2"]


def test_a_scene_without_a_measurement_is_done_once_and_one_of_wrong_numbers_stops_no_other(trained, tmp_path, capsys):
    image = np.maximum(made.scene(1, 4, "uint8", (40, 40), 5)[0], 1)
    georeferenced(tmp_path / "in" / "a.tif", image, "EPSG:4326")  # metres that are said to be degrees
    georeferenced(tmp_path / "in" / "b.tif", np.zeros_like(image), nodata=0)
    georeferenced(tmp_path / "in" / "c.tif", image)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", "--polygons", str(tmp_path / "in")]
    assert predict.main(argv) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE")]
    assert len(said) == 1 and "a.tif: its coordinates, 500000.3 and 5399999.7, cannot be the longitude" in said[0]
    areas = {name: (tmp_path / "out" / f"{name}_areas.csv").read_text() for name in "ac"}
    for line, placed in zip(areas["a"].splitlines()[1:], areas["c"].splitlines()[1:], strict=True):
        assert line.split(",")[:3] == placed.split(",")[:3] and not line.split(",")[3] and placed.split(",")[3]
    assert json.loads((tmp_path / "out" / "b.json").read_text())["polygons"] == 0
    assert predict.main(argv) == 0
    assert capsys.readouterr().out.count("is there already") == 3


def test_grids_with_a_pixel_on_the_pole_have_their_hectares(tmp_path):
    for transform, known in (((1, 0, -180.5, 0, -1, 90.5), True), ((1, 0, 0, 0, -1, 100), False)):
        georeferenced(tmp_path / "x.tif", np.zeros((181, 360, 1), np.uint8), "EPSG:4326", transform=transform)
        place = maps.Place.of(tmp_path / "x.tif")
        assert (place.hectares(181) is not None) == (place.metres_across(90) is not None) == known
        assert bool(place.doubtful) != known


def test_hectares_of_degrees_are_those_of_the_ellipsoid(tmp_path):
    """The whole Earth in one-degree pixels: 510,065,621.7 square kilometres (WGS 84)."""
    georeferenced(
        tmp_path / "earth.tif", np.zeros((180, 360, 1), np.uint8), "EPSG:4326", transform=(1, 0, -180, 0, -1, 90)
    )
    place = maps.Place.of(tmp_path / "earth.tif")
    np.testing.assert_allclose(place.hectares(180).sum() * 360 / 100, 510_065_621.7, rtol=1e-9)
    np.testing.assert_allclose(place.metres_across(90), 111_319.49, rtol=1e-6)


@pytest.mark.parametrize(
    ("projection", "stretched"), [("EPSG:3857", True), ("EPSG:32633", False), ("EPSG:3035", False)]
)
def test_hectares_of_projections_that_stretch_areas_are_those_of_the_ground(projection, stretched, tmp_path):
    """Beside the area of the same ground in an equal-area projection. Web Mercator's plane has 2.3 times as much here."""
    import rasterio.warp

    x, y = (values[0] for values in rasterio.warp.transform("EPSG:4326", projection, [15.0], [48.8]))
    height, width, side = 400, 300, 10.0
    georeferenced(
        tmp_path / "x.tif", np.zeros((height, width, 1), np.uint8), projection, transform=(side, 0, x, 0, -side, y)
    )
    along = np.linspace(0, 1, 101)[:-1]
    ring = [
        np.concatenate(v)
        for v in ((along, 1 + 0 * along, 1 - along, 0 * along), (0 * along, along, 1 + 0 * along, 1 - along))
    ]
    ground = rasterio.warp.transform(projection, "EPSG:3035", x + side * width * ring[0], y - side * height * ring[1])
    expected = shapely.geometry.Polygon(zip(*ground, strict=True)).area / 1e4
    place = maps.Place.of(tmp_path / "x.tif")
    flat = height * width * side**2 / 1e4
    np.testing.assert_allclose(place.hectares(height).sum() * width, expected, rtol=1e-4 if stretched else 2e-3)
    assert (abs(flat / expected - 1) > 1) == stretched
    across = place.metres_across(height / 2)
    assert across == side if not stretched else abs(across**2 * height * width / 1e4 / expected - 1) < 5e-3
    box = shapely.geometry.box(x, y - side * height, x + side * width, y)
    fields, _ = polygons._columns([(shapely.geometry.mapping(box), 0)], [(0, "a", (0, 0, 0))], place)
    np.testing.assert_allclose(fields["area_m2"], place.hectares(height).sum() * width * 1e4, rtol=1e-6)


@pytest.mark.parametrize(
    ("projection", "transform"),
    [
        ("+proj=geos +h=35786023 +lon_0=-75 +sweep=x +ellps=GRS80", (20040, 0, -5434894, 0, -20040, 5434894)),
        ("ESRI:54009", (66667, 0, -1.8e7, 0, -33334, 9.05e6)),
        ('LOCAL_CS["site",UNIT["metre",1]]', (1, 0, 0, 0, -1, 0)),
    ],
)
def test_maps_with_pixels_beside_the_globe_are_measured_in_their_plane(projection, transform, tmp_path):
    """A full disk of a weather satellite, the world in Mollweide's projection (an equal-area one)."""
    georeferenced(tmp_path / "x.tif", np.zeros((543, 543, 1), np.uint8), projection, transform=transform)
    place = maps.Place.of(tmp_path / "x.tif")
    flat = abs(transform[0] * transform[4]) / 1e4
    if place.crs.is_projected:
        np.testing.assert_allclose(place.hectares(543), flat)
        assert place.metres_across(271.5) == transform[0]
    else:
        assert place.hectares(543) is None and place.metres_across(271.5) is None


# ------------------------------------------------------------------------------------------------------ many scenes


@pytest.mark.parametrize(
    ("card_bands", "names", "options", "expected"),
    [
        (("red", "green", "blue", "nir"), ("B02", "B03", "B04", "B08"), {}, [3, 2, 1, 4]),  # Sentinel-2
        (("red", "green", "blue", "nir"), ("B2", "B3", "B4", "B5"), {}, [3, 2, 1, 4]),  # Landsat
        (("red", "nir"), ("B4 (665 nm)", "B5", "B8"), {"sensor": "sentinel2"}, [1, 3]),
        (("nir", "SWIR 1"), ("Blue", "swir16", "Near Infrared"), {}, [3, 2]),
        (("red", "nir"), ("", ""), {}, [1, 2]),
        (("red", "nir"), ("", "", "", "", ""), {"given": {"red": 4, "nir": 2}}, [4, 2]),
        (RGBN, ("SR_B2", "SR_B3", "SR_B4", "SR_B5"), {}, [3, 2, 1, 4]),  # Landsat's collection 2, as Earth Engine writes it
        (RGBN, ("sr_band2", "sr_band3", "sr_band4", "sr_band5"), {}, [3, 2, 1, 4]),
        (RGBN, ("S2_B02", "S2_B03", "S2_B04", "S2_B08"), {}, [3, 2, 1, 4]),
        (RGBN, ("Band 1 (Blue)", "Band 2 (Green)", "Band 3 (Red)", "Band 4 (NIR)"), {}, [3, 2, 1, 4]),
        (RGBN, ("blue band", "green band", "red band", "nir band"), {}, [3, 2, 1, 4]),
        (RGBN, ("B1 aerosol", "Blue: 490 nm", "Green, 560", "Red [665]", "B8 - NIR"), {}, [4, 3, 2, 5]),
        (RGBN, ("nir", "red", "green", "blue", "", ""), {}, [2, 3, 4, 1]),
        (("ir", "nir"), ("NIR", "IR"), {}, [2, 1]),  # two bands of one word
        (RGBN, ("Band 1", "Band 2", "Band 3", "Band 4"), {}, [1, 2, 3, 4]),
        (RGBN, ("gray", "undefined", "", ""), {}, [1, 2, 3, 4]),
        (RGBN, ("red", "green", "blue", ""), {}, [1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_bands_are_found_by_name(card_bands, names, options, expected):
    card = dataclasses.replace(CARD, bands=tuple(Band(name) for name in card_bands))
    found = bands.chosen(names, card, "x", **{"given": None, "sensor": None} | options)
    assert (found.places, found.note) == (expected, "")


@pytest.mark.parametrize(
    "names",
    [
        ("blue", "green", "red", ""), ("red_edge", "green", "blue", "red"), ("red_edge", "green", "blue", "nir"),
        ("red", "red", "green", "blue"), ("nir", "red", "green", "unknown"), ("", "", "", "Band 4 (Red)"),
    ],
)  # fmt: skip
def test_a_name_of_another_band_is_not_taken_by_place(names):
    card = dataclasses.replace(CARD, bands=tuple(Band(name) for name in RGBN))
    with pytest.raises(UserError, match=r"is not the order of the network's \(red, green, blue, nir\).* by --bands"):
        bands.chosen(names, card, "x", given=None, sensor=None)
    with pytest.raises(UserError, match="is not the order"):  # beside opacity
        bands.chosen((*names, ""), card, "x", given=None, sensor=None, alpha=(False,) * 4 + (True,))
    given = dict(zip(RGBN, (4, 3, 2, 1), strict=True))
    assert bands.chosen(names, card, "x", given=given, sensor=None) == ([4, 3, 2, 1], "")


@pytest.mark.parametrize(
    "names",
    [
        ("blau", "gruen", "rot", "nir"), ("синий", "зелёный", "красный", "ик"), ("B1", "B2", "B3", "B4"),
        ("S2_B2", "S2_B3", "S2_B4", "S2_B5"),  # not Landsat's near infrared
    ],
)  # fmt: skip
def test_unknown_names_are_taken_by_place_and_said(names):
    card = dataclasses.replace(CARD, bands=tuple(Band(name) for name in RGBN))
    places, note = bands.chosen(names, card, "x", given=None, sensor=None)
    assert places == [1, 2, 3, 4] and f"named {', '.join(names)}" in note and "give --bands" in note


def test_a_letter_beside_others_is_no_colour():
    card = dataclasses.replace(CARD, bands=(Band("L"), Band("a"), Band("b")))
    for names, places in ((("Blue", "Green", "Red"), [1, 2, 3]), (("b", "a", "L"), [3, 2, 1])):
        assert bands.chosen(names, card, "x", given=None, sensor=None).places == places
    card = dataclasses.replace(CARD, bands=(Band("R"), Band("G"), Band("B")))
    assert bands.chosen(("Blue", "Green", "Red"), card, "x", given=None, sensor=None).places == [3, 2, 1]


def test_names_that_are_not_understood_are_said_beside_the_map(trained, tmp_path, capsys):
    path, pixels = tmp_path / "scene.tif", made.scene(1, 4, "uint8", (40, 40), 5)[0]
    made.georeferenced(path, pixels, 7e5, 4e6, 0.6)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", str(path)]
    said = {}
    for name, names in (("none", ("", "", "", "")), ("german", ("rot", "gruen", "blau", "nah"))):
        with rasterio.open(path, "r+") as file:
            file.descriptions = names
        for option in ("--dry_run", "--overwrite"):
            assert predict.main([*argv, option]) == 0
            said[name, option] = [
                line for line in capsys.readouterr().out.splitlines() if "its bands are named" in line
            ]
    assert not said["none", "--dry_run"] and not said["none", "--overwrite"]
    for option in ("--dry_run", "--overwrite"):
        (line,) = said["german", option]
        assert line.startswith(f"NOTE {path}: its bands are named rot, gruen, blau, nah,")


def test_band_names_that_leave_it_open_are_refused():
    card = dataclasses.replace(CARD, bands=(Band("red"), Band("nir")))
    numbers = [f"B{i}" for i in range(1, 10)]
    with pytest.raises(UserError, match="which sensors name differently: add --sensor"):
        bands.chosen(numbers, card, "x", given=None, sensor=None)
    assert bands.chosen(numbers, card, "x", given=None, sensor="landsat").places == [4, 5]
    with pytest.raises(UserError, match="--bands leaves out nir"):
        bands.mapping("red=1", card)
    with pytest.raises(UserError, match="--bands names 'swir', but the network's bands are red, nir"):
        bands.mapping("swir=1,nir=2", card)
    assert bands.mapping("R=4, NIR=8", card) == {"red": 4, "nir": 8}


def test_scenes_from_folders_patterns_and_lists(tmp_path):
    for name in ("a/one.tif", "a/deep/one.png", "b/two.tif", "b/two_nir.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text('# a scene a line\nb/two.tif,b/two_nir.tif\n\n"a/one.tif:3,1"\n')
    found = predict.scenes_of([str(tmp_path / "a")], [str(tmp_path / "list.csv")][:0])
    assert [scene.name for scene in found] == ["deep/one", "one"]
    listed = predict.scenes_of([], [str(tmp_path / "list.csv")])
    assert [scene.name for scene in listed] == ["two", "one"]
    assert [len(scene.files) for scene in listed] == [2, 1] and listed[1].files[0][1] == (3, 1)
    assert len(predict.scenes_of([str(tmp_path / "b" / "*.tif")])) == 2
    for texts, message in (
        ([str(tmp_path / "b" / "*.png")], "No file matches"),
        ([], "No scene is named"),
        ([f"{tmp_path / 'a' / 'one.tif'}:1", f"{tmp_path / 'a' / 'one.tif'}:2"], "would both be written"),
    ):
        with pytest.raises(UserError, match=message):
            predict.scenes_of(texts)


def test_a_damaged_scene_is_named_and_the_rest_goes_on(trained, tmp_path, capsys):
    image = made.scene(2, 4, "uint8", (60, 40), 5)[0]
    for i, name in enumerate(("a", "c", "d")):
        made.georeferenced(tmp_path / "in" / f"{name}.tif", np.roll(image, i, axis=1), 7e5, 4e6, 0.6)
    whole = (tmp_path / "in" / "a.tif").read_bytes()
    (tmp_path / "in" / "b.tif").write_bytes(whole[: len(whole) // 2])  # opens, and cannot be read to its end
    made.georeferenced(tmp_path / "in" / "e.tif", image[..., :2], 7e5, 4e6, 0.6)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", "--no-quicklook"]
    assert predict.main([*argv, str(tmp_path / "in")]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and "b.tif cannot be decoded" in errors[0] and "e.tif has 2 band(s)" in errors[1]
    assert "2 of 5 scenes have no map" in errors[2]
    made_maps = sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.endswith("classes.tif"))
    assert made_maps == ["a_classes.tif", "c_classes.tif", "d_classes.tif"]
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith((".", "b", "e"))]
    expected = reference(
        trained, np.roll(image, 1, axis=1), windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32)
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "c_classes.tif"), expected)


def test_windows_of_different_scenes_share_batches(trained):
    weights = checkpoints.load_weights(str(trained), ema=False)
    one = predict.Predictor(weights, windows.Inference("slide", (32, 32), (32, 32), "uniform", False, (1.0,), 32), 8)
    scenes = [(i, made.scene(i, 4, "uint8", (32, 96), 5)[0]) for i in range(5)]  # three windows each
    assert [len(group) for group in one.groups(scenes)] == [8, 7]


def test_windows_without_a_pixel_to_classify_are_not_seen_and_change_nothing(trained, tmp_path):
    """A collar of nodata to the left, an area that leaves out the right; one square holds the very value of the fill."""
    weights = checkpoints.load_weights(str(trained), ema=False)
    one = predict.Predictor(weights, windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32), 8)
    image = np.maximum(made.scene(1, 4, "uint8", (96, 256), 5)[0], 1)
    image[:, :80] = 0
    image[:, 100:140] = one.card.fill
    georeferenced(tmp_path / "scene.tif", image, nodata=0)
    measured = Measured(rasters.Raster([tmp_path / "scene.tif"]), one.card)
    allowed = np.arange(256) < 190
    measured.inside = lambda first, end: np.broadcast_to(allowed, (end - first, 256))
    seen = [window for group in one.groups([(None, measured)]) for window in group]
    starts = {window.column for window in seen if not window.last}
    assert starts == set(range(64, 190, 16))  # windows of 32: the last of the collar ends at 80
    whole = np.where(image[..., :1] == 0, one.card.fill.astype(np.uint8), image)
    scores, expected = [], []
    for given_image, found in ((measured, scores), (whole, expected)):
        for _, rows in one.score_rows(one.groups([(None, given_image)])):
            assert np.isfinite(one.probabilities(rows)).all()
            found.append(rows.scores())  # new arrays: the rows' own are written to again
    # Windows stand elsewhere in their batches: equal but for rounding.
    scores, expected = np.concatenate(scores)[:, 80:190], np.concatenate(expected)[:, 80:190]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_map_stays_in_place_below_belts_that_are_higher_than_a_window(trained, tmp_path):
    """Nodata between the strips of a mosaic, and an area far below the upper edge."""
    import pyogrio
    import rasterio
    import shapely

    image = np.maximum(made.scene(3, 4, "uint8", (300, 40), 5)[0], 1)
    belt = image.copy()
    belt[40:200] = 0
    georeferenced(tmp_path / "belt.tif", belt, nodata=0)
    georeferenced(tmp_path / "full.tif", image)
    low = shapely.box(500_000, 5_400_000 - 0.6 * 260, 500_000 + 0.6 * 40, 5_400_000 - 0.6 * 220)
    pyogrio.raw.write(
        tmp_path / "low.gpkg", shapely.to_wkb(np.array([low], object)), [np.array([1])], ["id"], crs="EPSG:32633",
        geometry_type="Polygon", driver="GPKG",
    )  # fmt: skip
    inference = windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32)
    card = checkpoints.load_weights(str(trained), ema=False).card
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8"]
    for name, filled, valid, more in (
        ("belt", np.where(belt == 0, card.fill, belt), belt[..., 0] != 0, []),
        ("full", image, np.isin(np.arange(300), np.arange(220, 260))[:, None] & np.ones(40, bool), [f"--aoi={tmp_path / 'low.gpkg'}"]),
    ):  # fmt: skip
        assert predict.main([*argv, *more, str(tmp_path / f"{name}.tif")]) == 0
        with rasterio.open(tmp_path / "out" / f"{name}_classes.tif") as file:
            np.testing.assert_array_equal(file.read(1), np.where(valid, reference(trained, filled, inference), 255))


def test_an_area_without_a_pixel_of_the_scene_is_said(trained, tmp_path, capsys):
    georeferenced(tmp_path / "scene.tif", np.maximum(made.scene(1, 4, "uint8", (40, 40), 5)[0], 1))
    square = '{"type": "Polygon", "coordinates": [[[100, 10], [101, 10], [101, 11], [100, 11], [100, 10]]]}'
    (tmp_path / "far.geojson").write_text(square)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", f"--aoi={tmp_path / 'far.geojson'}"]
    for more in (["--dry_run"], []):
        assert predict.main([*argv, *more, str(tmp_path / "scene.tif")]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE")]
        assert len(said) == 1 and "scene.tif: no pixel of it lies in the area" in said[0] and "far.geojson" in said[0]
    with rasterio.open(tmp_path / "out" / "scene_classes.tif") as file:
        assert (file.read(1) == 255).all()


def test_values_in_other_units_are_said_with_both_ranges(tmp_path):
    card = dataclasses.replace(CARD, dtype="float32", bands=(Band("red", 1500, 400, 0, 8000),))
    for scale, said in ((1.0, False), (1e-4, True), (30.0, True)):
        np.save(tmp_path / "x.npy", (np.random.default_rng(0).uniform(300, 4000, (40, 40, 1)) * scale).astype("f4"))
        found = predict.Measured(rasters.Raster([tmp_path / "x.npy"]), card).strange()
        assert bool(found) == said
        assert not said or ("red is " in found[0] and "0 .. 8000 in training" in found[0])


def test_the_dry_run_writes_nothing(trained, tmp_path, capsys):
    made.georeferenced(tmp_path / "scene.tif", made.scene(1, 4, "uint8", (75, 90), 5)[0], 7e5, 4e6, 0.6)
    argv = [
        f"--checkpoint={trained}",
        f"--out={tmp_path / 'out'}",
        "--batch=8",
        "--dry_run",
        str(tmp_path / "scene.tif"),
    ]
    assert predict.main(argv) == 0
    out = capsys.readouterr().out
    assert "75 x 90, 20 windows of 32 x 32" in out and "MiB" in out and not (tmp_path / "out").exists()


def test_two_processes_do_not_make_one_scene(trained, tmp_path, capsys):
    made.georeferenced(tmp_path / "scene.tif", made.scene(1, 4, "uint8", (40, 40), 5)[0], 7e5, 4e6, 0.6)
    argv = [f"--checkpoint={trained}", f"--out={tmp_path / 'out'}", "--batch=8", str(tmp_path / "scene.tif")]
    (scene,) = predict.scenes_of([str(tmp_path / "scene.tif")])
    with run._sole(scene, tmp_path / "out") as held:
        assert held
        assert predict.main(argv) == 0
        assert "is being made by another process" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("*.tif"))
    assert predict.main(argv) == 0 and (tmp_path / "out" / "scene_classes.tif").exists()
