"""The orientation that a camera noted beside the pixels (EXIF tag 274), and pixels turned as it says.

Masks are drawn on the image as programs show it, that is turned; so bands are turned where a mask is read beside them.
Photographs for classification are not, since the published recipes read them by Pillow as they are stored.
"""

from __future__ import annotations

import struct

import numpy as np

_EXIF = b"Exif\0\0"
_TAG = 0x0112
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}


def orientation(data: bytes) -> int:
    """1 to 8 of a JPEG, PNG or TIFF, after EXIF 2.32, table 4.6.4; 1, upright, where nothing (readable) is noted."""
    if data[:2] == b"\xff\xd8":
        tiff = _of_jpeg(data)
    elif data[:4] == b"\x89PNG":
        tiff = _of_png(data)
    else:
        tiff = data
    found = _of_tiff(tiff)
    return found if 1 <= found <= 8 else 1


def _of_jpeg(data: bytes) -> bytes:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:  # the picture begins
            break
        if marker == 0xE1 and data[place + 4 : place + 10] == _EXIF:
            return data[place + 10 : place + 2 + size]
        place += 2 + size
    return b""


def _of_png(data: bytes) -> bytes:
    place = 8
    while place + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"eXIf":
            return data[place + 8 : place + 8 + size]
        if kind == b"IDAT":
            break
        place += 12 + size
    return b""


def _of_tiff(data: bytes) -> int:
    order = _BYTE_ORDERS.get(data[:2])
    if order is None or len(data) < 8 or struct.unpack(f"{order}H", data[2:4])[0] != 42:
        return 1
    (first,) = struct.unpack(f"{order}I", data[4:8])
    if first + 2 > len(data):
        return 1
    (count,) = struct.unpack(f"{order}H", data[first : first + 2])
    for entry in range(first + 2, min(first + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, _, value = struct.unpack(f"{order}HHIH", data[entry : entry + 10])
        if tag == _TAG and kind == 3:
            return value
    return 1


def upright(pixels: np.ndarray, noted: int) -> np.ndarray:
    """Pixels [h w ...] turned and mirrored from orientation `noted`; 5 to 8 exchange rows and columns."""
    if noted in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    # What is left after that exchange: whether to mirror rows top to bottom, and left to right.
    down, across = {2: (0, 1), 3: (1, 1), 4: (1, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}.get(noted, (0, 0))
    return pixels[:: -1 if down else 1, :: -1 if across else 1] if down or across else pixels
