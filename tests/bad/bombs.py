"""Files that say they are far larger than they are, or are no pictures at all."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
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


def bomb_tiff(path: Path) -> None:
    tifffile.imwrite(path, shape=(60_000, 60_000, 4), dtype=np.uint8, compression="deflate", tile=(4096, 4096),
                     data=(np.zeros((4096, 4096, 4), np.uint8) for _ in range(225)) if False else None)  # fmt: skip


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
    "object npy": object_npy, **{kind: special(kind) for kind in SPECIAL},
}  # fmt: skip


def safetensors(head: dict | bytes, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


def torch_zip(path, *, pickled: bytes, members: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, data in (members or {}).items():
            archive.writestr(f"x/{name}", data)
