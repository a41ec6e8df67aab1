"""Files that say they are far larger than they are, or are no pictures at all."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad.row import SPECIAL, special


def bomb_png(path: Path) -> None:
    """A PNG that says 100,000 x 100,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def bomb_jpeg(path: Path) -> None:
    """A JPEG whose header says 65,500 x 65,500."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, format="JPEG")
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xdc\xff\xdc"
    path.write_bytes(bytes(data))


def bomb_tiff(tile: int = 0) -> Callable[[Path], None]:
    """10^6 x 10^6 in a few bytes, in tiles or as one strip, none of which is there."""

    def make(path: Path) -> None:
        side, count = 10**6, (10**6 // tile + 1) ** 2 if tile else 1
        tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
        behind = 8 + 2 + 12 * (len(tags) + (4 if tile else 3)) + 4
        if tile:
            tags += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, count, behind), (325, 4, count, behind)]
        else:
            tags += [(273, 4, 1, 0), (278, 4, 1, side), (279, 4, 1, 0)]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4 + 4 * count))

    return make


def bomb_bmp(path: Path) -> None:
    """Of a format that only GDAL reads."""
    head = struct.pack("<IiiHHIIiiII", 40, 10**6, 10**6, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 1 << 30, 0, 0, 54) + head + bytes(100))


def long_file(path: Path) -> None:
    """A PNG's beginning, and 100 GB behind it, none of which is on the disk."""
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(100 << 30)


def bomb_npy(path: Path) -> None:
    head = str({"descr": "|u1", "fortran_order": False, "shape": (200_000, 200_000, 4)}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


def object_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{}], object))


DAMAGED = {
    "empty": b"", "text": b"hello", "zeros": bytes(100), "png signature": b"\x89PNG\r\n\x1a\n", "jpeg signature": b"\xff\xd8\xff",
    "tiff signature": b"II*\0", "npy signature": b"\x93NUMPY", "bomb png": bomb_png, "bomb jpeg": bomb_jpeg, "bomb npy": bomb_npy,
    "bomb tiff of tiles": bomb_tiff(16384), "bomb tiff of one strip": bomb_tiff(),
    "bomb bmp": bomb_bmp, "bomb of 100 GB": long_file, "object npy": object_npy, **{kind: special(kind) for kind in SPECIAL},
}  # fmt: skip


def said_of(name: str) -> str:
    """What is said of one of DAMAGED."""
    return "GENSEG_MAX_IMAGE_BYTES" if name.startswith("bomb") else ""


def safetensors(head: dict | bytes, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


def torch_zip(path, *, pickled: bytes, members: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, data in (members or {}).items():
            archive.writestr(f"x/{name}", data)
