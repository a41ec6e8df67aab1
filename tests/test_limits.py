"""What a file says of its size is believed before memory is taken, and large files that are meant are read."""

import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tifffile
import tiny
from PIL import Image

from genseg import arrays, memory
from genseg.data.files import codec, gdal
from genseg.data.files.rasters import Raster, read_mask
from genseg.errors import UserError
from genseg.exchange import files
from tests.bad import bombs


def test_the_limit_is_changed_by_one_variable(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50), np.uint8), rowsperstrip=8)
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "2000")
    assert read_mask(tmp_path / "a.png").ids.shape == read_mask(tmp_path / "a.tif").ids.shape == (40, 50)
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "1999")
    for name in ("a.png", "a.tif"):
        with pytest.raises(UserError, match=r"2,000 bytes, more than the 1,999 bytes that GENSEG_MAX_IMAGE_BYTES"):
            read_mask(tmp_path / name)
    assert Raster([tmp_path / "a.tif"])[:40, :50].shape == (40, 50, 1)  # a few rows at a time
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "399")  # a row of blocks takes 400
    with pytest.raises(UserError, match="GENSEG_MAX_IMAGE_BYTES"):
        Raster([tmp_path / "a.tif"])
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "4 GB")
    with pytest.raises(UserError, match="whole number of bytes"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("tile", [0, 16384])
def test_a_raster_that_would_never_end_is_refused_where_it_is_opened(tmp_path, tile):
    bombs.bomb_tiff(tile)(tmp_path / "a.tif")
    with pytest.raises(codec.CorruptFile, match=r"1,000\.0 GB, more than the 274\.9 GB"):
        Raster([tmp_path / "a.tif"])


def test_a_raster_of_many_bands_is_opened_at_once(tmp_path):
    pixels = np.zeros((2, 2, 3000), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    file = gdal.File(tmp_path / "a.tif")
    assert file.shape == (2, 2, 3000) and len(file.nodata) == len(file.scales) == len(file.alpha) == 3000


def npz(path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_arrays_of_a_run_say_their_size(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6), names=np.array(["a", "bc"]))
    found = arrays.read(tmp_path / "a.npz", "mend")
    assert found["x"].tolist() == [0, 1, 2, 3, 4, 5] and found["names"].tolist() == ["a", "bc"]
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
    npz(tmp_path / "b.npz", {"x.npy": buffer.getvalue()})
    npz(tmp_path / "c.npz", {"x.npy": bytes(1 << 20)})
    with pytest.raises(UserError, match=r"1,000\.0 GB, more than .* GENSEG_MAX_IMAGE_BYTES allows\); mend"):
        arrays.read(tmp_path / "b.npz", "mend")
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "1000000")
    with pytest.raises(UserError, match="1,048,576 bytes, more than the 1,000,000 bytes"):
        arrays.read(tmp_path / "c.npz", "mend")


@pytest.mark.parametrize("shape", ["(-5, -5)", "(2, -1, 3)"])
def test_arrays_of_negative_sizes(tmp_path, shape):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + bytes(64)
    with pytest.raises(codec.CorruptFile, match="of shape"):
        codec.decode_image(data, "a.npy")


def test_one_storage_asked_for_a_thousand_times(tmp_path):
    """As torch writes it: tensors that are all one storage of a megabyte, in a pickle of a few kilobytes."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    count = b"J" + struct.pack("<i", 1 << 18)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + count + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0(" + count + b"t(K\x01ttR"

    def pickled(number: int) -> bytes:
        return b"\x80\x02}(" + b"".join(text(f"t{i}") + tensor for i in range(number)) + b"u."

    data = np.random.default_rng(0).bytes(1 << 20)
    bombs.torch_zip(tmp_path / "w.pth", pickled=pickled(2), members={"data/0": data})
    assert files.read(str(tmp_path / "w.pth"))["t1"].tobytes() == data
    bombs.torch_zip(tmp_path / "w.pth", pickled=pickled(1000), members={"data/0": data})
    with pytest.raises(UserError, match="its tensors are far larger than the file"):
        files.read(str(tmp_path / "w.pth"))


READ = """
import resource, sys
from genseg.data import prepare
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = prepare.main(sys.argv[1:])
print("peak", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10, "status", status)
"""


@pytest.mark.slow
def test_a_palette_mask_of_14000_a_side_is_read(tmp_path):
    """Of 196 MB of ids. Its image of one band has as many; patches take a few copies of each."""
    side = 14_000
    ids = np.zeros((side, side), np.uint8)
    ids[5000:9000, 100:7000] = 1
    picture = Image.fromarray(ids)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "a_mask.png")
        tifffile.imwrite(tmp_path / folder / "a.tif", ids * 100, compression="deflate", tile=(512, 512))
    command = [
        sys.executable, "-c", READ, "folder_segmentation", "--source", str(tmp_path), "--data_dir", str(tmp_path / "d"),
        "--image_pattern", "{split}/{id}.tif", "--mask_pattern", "{split}/{id}_mask.png", "--bands", "('grey',)",
        "--classes", "('ground', 'house')", "--patch", "2000", "--stride", "2000", "--threads", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=600)
    assert "status 0" in done.stdout, done.stdout + done.stderr
    peak = int(done.stdout.split("peak ")[1].split()[0])
    assert peak < 14 * side * side, peak  # 2.7 GB
    assert "train 49, val 49" in done.stdout
