"""EXIF orientation against Pillow's own reading of it, for each of its eight values and each kind of file."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from genseg.data.files import codec
from genseg.data.files.orientation import orientation

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


def stored(kind: str, noted: int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = noted
    Image.fromarray(PIXELS).save(file, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize("noted", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_bands_and_masks_stand_as_pillow_turns_them(kind, noted):
    data = stored(kind, noted)
    with Image.open(io.BytesIO(data)) as image:
        right = np.asarray(ImageOps.exif_transpose(image))
        plain = np.asarray(image) if kind != "TIFF" else PIXELS  # Pillow itself turns a TIFF when it is loaded
    assert orientation(data) == noted
    near = 3 if kind == "JPEG" else 0  # decoders of JPEG round differently
    assert np.abs(codec.decode_image(data, "x").astype(int) - right).max() <= near
    assert np.abs(codec.decode_mask(data, "x").astype(int) - right).max() <= near
    assert np.abs(codec.decode_rgb(data, "x").astype(int) - plain).max() <= near  # photographs stay as they are stored


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"II*\0\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n\xff\xff", stored("JPEG", 6)[:30]]
)
def test_what_says_nothing_is_upright(data):
    assert orientation(data) == 1


def test_values_out_of_range_are_upright():
    assert orientation(stored("PNG", 9)) == 1
