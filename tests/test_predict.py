"""Class maps of rasters of any form, from real checkpoints, through the command line's own function."""

import dataclasses

import numpy as np
import pytest
import tifffile
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg import checkpoints, nets, partition, predict, train, windows
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, rasters
from genseg.errors import UserError
from tests.data import made

CARD = DatasetCard(
    name="made", task="segmentation", bands=tuple(Band(f"b{i}") for i in range(3)), classes=("a", "b", "c"),
    palette=((10, 20, 30), (200, 0, 0), (0, 150, 255)), ignore_label=255, scored=(0, 1, 2), splits={}, protocol="",
    synthetic=True,
)  # fmt: skip


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
        photometric="minisblack", extratags=[(codec.NODATA_TAG, "s", 0, nodata, True)],
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


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("size", [(5, 7), (256, 256), (300, 517)])
def test_class_maps_hold_ids_and_show_the_palette(tmp_path, suffix, size):
    ids = np.random.default_rng(0).integers(0, 3, size, dtype=np.uint8)
    ids[0, 0] = 255
    tags = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0, 0, 0, 7e5, 4e6, 0), True)]
    path, pieces = tmp_path / f"m{suffix}", [ids[:1], ids[1:4], ids[4:]]
    rasters.write_classes(path, iter(pieces), size, CARD, nodata=255, tags=tags)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), ids)
        shown = np.asarray(picture.convert("RGB"))
    assert tuple(shown[0, 0]) == (0, 0, 0)
    np.testing.assert_array_equal(shown[ids == 2], [(0, 150, 255)] * int((ids == 2).sum()))
    if suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].tags[33922].value == (0, 0, 0, 7e5, 4e6, 0)
            assert codec.nodata_of(path.read_bytes(), "x") == 255
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_class_map_leaves_nothing(tmp_path):
    def broken():
        yield np.zeros((2, 600), np.uint8)
        raise UserError("stop")

    for suffix in (".tif", ".png"):
        with pytest.raises(UserError, match="stop"):
            rasters.write_classes(tmp_path / f"m{suffix}", broken(), (600, 600), CARD, nodata=255, tags=[])
    assert not list(tmp_path.iterdir())


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
        [(0, image)], lambda p: one._scorer(one._params, one._stats, p), inference=inference, classes=5, batch=8,
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
        ([*common, str(tmp_path / "deep.png")], "holds uint16, but the network was trained on uint8"),
        ([*common, str(tmp_path / "three.png"), str(tmp_path / "b" / "three.png")], "would both be written to"),
        ([*common, "--batch=3", str(tmp_path / "deep.png")], "batch size 3 is not divisible by the 8 devices"),
        ([*common, "--stride", "40", "8", str(tmp_path / "deep.png")], "leaves gaps"),
        ([f"--checkpoint={tmp_path}", f"--out={tmp_path}", str(tmp_path / "deep.png")], "no complete checkpoint"),
    ):
        assert predict.main(argv) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0], error


def test_weights_are_whole_on_every_device(trained):
    weights = checkpoints.load_weights(str(trained), ema=False)
    inference = windows.Inference("slide", (32, 32), (16, 16), "hann", False, (1.0,), 32)
    one = predict.Predictor(weights, inference, 0)
    kernel = one._params["backbone"]["stem"]["conv"]["kernel"]
    assert len(kernel.addressable_shards) == 8 and kernel.is_fully_replicated
    assert dataclasses.asdict(one.inference)["crop"] == (32, 32) and partition.local_mesh().size == 8
