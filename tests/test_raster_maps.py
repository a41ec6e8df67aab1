"""Rasters in, maps out: every stored form gives the same map, from archives and addresses too; what a map holds; memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tiny
from PIL import Image
from test_data_rasters import FORMS, IMAGE, NAMES, WHERE, stored, write  # noqa: F401 - a fixture

from genseg import api, predict
from genseg.data import prepare
from genseg.data.batches import pipeline
from genseg.data.files import maps
from genseg.data.files.rasters import Raster
from genseg.errors import UserError
from tests.data import made


def map_of(folder, name: str) -> np.ndarray:
    if (folder / f"{name}_classes.png").exists():
        return np.asarray(Image.open(folder / f"{name}_classes.png"))
    with rasterio.open(folder / f"{name}_classes.tif") as file:
        return file.read(1)


@pytest.fixture(scope="module")
def drawn(narrow_micro, stored, tmp_path_factory):  # noqa: F811
    """Maps of every form of one scene, by one command, of a network for 16 bits that was trained for a step."""
    root, out = tmp_path_factory.mktemp("network"), tmp_path_factory.mktemp("maps")
    config = api.load_config("small_segment:naip").copy_and_resolve_references()
    with config.unlocked():
        config.data.update(
            source=str(made.tiles(root / "tiles", dtype="uint16")), data_dir=str(root / "data"), splits=("train", "val"),
            eval_split="val", image_pattern="{split}/img/tile_{id}.tif", mask_pattern="{split}/mask/mask_{id}.tif",
            classes=tuple("vwxyz"), palette=(), protocol="",
        )  # fmt: skip
        config.augment.size = config.eval.crop = config.eval.stride = (32, 32)
        config.model.head_channels, config.model.aux_channels = 16, 8
        config.train.batch_size, config.train.steps, config.train.warmup_steps, config.report.panels = 8, 1, 0, 0
        config.eval.batch_size = 8
    api.finetune(config.lock(), root / "run")
    argv = [f"--checkpoint={root / 'run'}", f"--out={out}", "--mode=whole", "--batch=8", "--no-quicklook"]
    assert predict.main([*argv, *map(str, stored.values())]) == 0
    return out, argv


@pytest.mark.slow
def test_maps_of_every_form_of_a_scene_are_bit_equal(drawn, stored):  # noqa: F811
    assert len(NAMES) >= 12
    expected = map_of(drawn[0], "plain")
    assert expected.shape == IMAGE.shape[:2] and expected.max() < 5
    for name in NAMES:
        np.testing.assert_array_equal(map_of(drawn[0], stored[name].stem), expected, err_msg=name)
        if name not in ("npy", "png"):
            with rasterio.open(drawn[0] / f"{stored[name].stem}_classes.tif") as file:
                assert file.transform == WHERE and file.crs.to_epsg() == 32633


SERVER = """
import contextlib, functools, http.server, re, sys

class Ranges(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\\d+)-(\\d*)", self.headers.get("Range", ""))
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except OSError:
            return self.send_error(404)
        first = int(wanted[1]) if wanted else 0
        end = min(int(wanted[2]) + 1 if wanted and wanted[2] else len(data), len(data))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - first))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(data[first:end])

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""
"""Files by ranges of bytes, as stores in the cloud serve them; in a process of its own, since GDAL waits with Python's lock."""


@pytest.fixture
def served(stored, monkeypatch):  # noqa: F811
    """The address of the folder of all forms, on this machine alone."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(stored["tiles"].parent)], stdout=subprocess.PIPE, text=True
    )
    yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    server.kill()
    server.wait()


def test_archives_and_addresses_go_through_preparation(stored, served, tmp_path):  # noqa: F811
    write(tmp_path / "mask.tif", (IMAGE[..., :1] // 900).astype(np.uint8))
    folder, places = stored["tiles"].parent, {}
    for name, place in (
        ("file", folder / "tiles.tif"),
        ("zip", f"/vsizip/{folder}/in.zip/a/scene.tif"),
        ("http", f"{served}/tiles.tif"),
        ("cog", f"{served}/cog.tif"),
    ):
        (tmp_path / "train.csv").write_text(f"image,mask\n{place},mask.tif\n")
        options = {
            "name": "folder_segmentation", "source": str(tmp_path), "split_lists": {"train": "train.csv"}, "splits": ("train",),
            "bands": ("a", "b", "c", "d"), "classes": tuple("vwxyz"), "skip_corrupt": 0,
        }  # fmt: skip
        options = prepare.completed({k: v for k, v in options.items() if k != "skip_corrupt"}, "test") | {
            "skip_corrupt": 0
        }
        copy = prepare.ensure_prepared(options, tmp_path / f"data-{name}", progress=False)
        record = pipeline.open_split(copy, "train").decode(0)
        places[name] = record["image"].tobytes(), record["label"].tobytes()
        assert places[name] == places["file"], name
    with pytest.raises(UserError, match="nothing.tif"):
        Raster([predict.scenes_of([f"{served}/nothing.tif"])[0].files[0][0]])


@pytest.mark.slow
def test_addresses_are_mapped(drawn, served, tmp_path):
    out, argv = drawn
    assert predict.main([*argv, f"--out={tmp_path / 'out'}", f"{served}/rows.tif"]) == 0
    np.testing.assert_array_equal(map_of(tmp_path / "out", "rows"), map_of(out, "plain"))


def test_a_map_is_a_cog_with_classes_in_its_overviews(tmp_path):
    """Overviews hold the commonest class, never a mean of ids; palette, nodata and the projection are exactly those given."""
    rng = np.random.default_rng(0)
    ids = np.kron(rng.choice([0, 7, 255], (70, 90)), np.ones((16, 16))).astype(np.uint8)[:1100, :1400]
    ids[rng.random(ids.shape) < 0.05] = 3
    crs = rasterio.crs.CRS.from_wkt(
        'PROJCS["Mine, with Umläute",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
        'PARAMETER["latitude_of_origin",1],PARAMETER["central_meridian",10.5],PARAMETER["scale_factor",0.9997],'
        'PARAMETER["false_easting",123456],PARAMETER["false_northing",7],UNIT["metre",1]]'
    )
    write(tmp_path / "given.tif", ids[..., None], crs=crs)
    crs = maps.Place.of(tmp_path / "given.tif").crs  # as files give it back
    palette = [(i, 2 * i, 255 - i) for i in range(8)]
    transform = rasterio.Affine(0.3, 0.01, 5e5, 0.02, -0.3, 4e6)
    with maps.cog(
        tmp_path / "m.tif",
        ids.shape,
        maps.Place(transform, crs, ()),
        bands=("class",),
        nodata=255,
        palette=palette,
        tags={},
    ) as writer:
        for first in range(0, 1100, 77):
            writer.write(ids[first : first + 77])
        assert not (tmp_path / "m.tif").exists()  # none before all rows are there
    with rasterio.open(tmp_path / "m.tif") as file:
        assert np.array_equal(file.read(1), ids) and file.nodata == 255 and file.transform == transform
        assert file.crs == crs and file.crs.to_wkt() == crs.to_wkt()
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        colours = file.colormap(1)
        assert [colours[i][:3] for i in range(8)] == palette
        assert file.overviews(1)
    with rasterio.open(tmp_path / "m.tif", overview_level=0) as file:
        half = file.read(1)
    assert set(np.unique(half)) <= {0, 3, 7, 255}
    blocks = ids.reshape(550, 2, 700, 2).transpose(0, 2, 1, 3).reshape(550, 700, 4)
    for value in (0, 7, 255):
        clear = (blocks == value).sum(axis=2) == 4
        assert clear.any() and (half[clear] == value).all()
    for value in (0, 7):
        most = (blocks == value).sum(axis=2) == 3
        assert most.any() and (half[most] == value).all()


def test_an_interrupted_map_is_none(tmp_path):
    with pytest.raises(KeyboardInterrupt), maps.cog(
        tmp_path / "m.tif", (600, 600), maps.Place(None, None, ()), bands=("class",), nodata=255, tags={}
    ) as writer:  # fmt: skip
        writer.write(np.zeros((550, 600), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_netcdf_of_one_raster_is_read_and_of_several_refused(stored, tmp_path):  # noqa: F811
    with rasterio.Env() as env:
        if "netCDF" not in env.drivers():
            pytest.skip("this GDAL has no netCDF")
    write(tmp_path / "one.tif", IMAGE[..., :1])
    rasterio.shutil.copy(tmp_path / "one.tif", tmp_path / "one.nc", driver="netCDF")
    np.testing.assert_array_equal(Raster([tmp_path / "one.nc"])[0:37, 0:50], IMAGE[..., :1])
    rasterio.shutil.copy(stored["plain"], tmp_path / "four.nc", driver="netCDF")
    with pytest.raises(UserError, match=r"four\.nc is no single image but holds netcdf:.*: name one of them"):
        Raster([tmp_path / "four.nc"])


MEMORY = """
import json, resource, sys
import numpy as np, rasterio
from genseg.data.files import maps
from genseg.data.files.rasters import Raster

path, out, height, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
with rasterio.open(path, "w", driver="GTiff", height=height, width=1500, count=4, dtype="uint16", compress="lzw", **options) as file:
    for first in range(0, height, 256):
        count = min(256, height - first)
        rows = np.broadcast_to(np.arange(1500, dtype=np.uint16) + first, (4, count, 1500))
        file.write(rows, window=rasterio.windows.Window(0, first, 1500, count))
raster, total = Raster([path]), 0
with maps.cog(__import__("pathlib").Path(out), (height, 1500), raster.place, bands=("class",), nodata=255, palette=[(0, 0, 0)] * 9, tags={}) as writer:
    for first in range(0, height, 128):
        end = min(first + 128, height)
        window = raster[max(first - 64, 0):end, 0:1500]
        raster.valid(first, end)
        total += int(window[:, 0, 0].sum())
        writer.write((window[-(end - first):, :, 0] % 9).astype(np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.parametrize(
    "layout", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 16}, {"interleave": "band"}]
)
def test_peak_memory_does_not_grow_with_a_scenes_height(layout, tmp_path):
    """A scene of 108 MB more, read by windows and mapped, with GDAL's cache of blocks kept small: the rest of the memory is as
    before."""
    import os

    found = []
    for height in (1000, 10000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path / "a.tif"), str(tmp_path / "m.tif"), str(height), json.dumps(layout)],
            cwd=tiny.ROOT, env={**os.environ, "GDAL_CACHEMAX": "8"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    assert found[1] - found[0] < 40, found
