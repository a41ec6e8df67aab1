"""Images of which a part can be decoded alone: what training cuts crops from, since it needs half of a record's pixels or less."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile

from genseg.data.files import codec, gdal, orientation


class Tiled:
    """A TIFF in tiles, as `codec.encode_image` writes large images. Nothing is decoded before it is asked for.

    shape: (height, width, bands). dtype: as the pixels will have it.
    """

    def __init__(self, data: bytes, name: str, page: tifffile.TiffPage):
        self._data, self._name, self._page = memoryview(data), name, page
        self.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        self.dtype = codec.plain_dtype(page.dtype)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """[height width bands], within the image. Raises: CorruptFile, naming the image, if a tile of them is damaged."""
        page, data = self._page, self._data
        rows, columns = page.tilelength, page.tilewidth
        across = -(-self.shape[1] // columns)
        first, last = top // rows, -(-(top + height) // rows)
        start, end = left // columns, -(-(left + width) // columns)
        out = np.empty(((last - first) * rows, (end - start) * columns, self.shape[2]), page.dtype)
        try:
            for row in range(first, last):
                for column in range(start, end):
                    number = row * across + column
                    place, size = page.dataoffsets[number], page.databytecounts[number]
                    tile, _, (_, high, wide, _) = page.decode(data[place : place + size], number)
                    at = (row - first) * rows, (column - start) * columns
                    out[at[0] : at[0] + high, at[1] : at[1] + wide] = tile[0]
        except Exception as error:  # damaged bytes make decoders raise anything
            raise codec.corrupt(self._name, codec.first_line(error)) from None
        top, left = top - first * rows, left - start * columns
        return out[top : top + height, left : left + width].astype(self.dtype, copy=False)


def opened(data: bytes, name: str) -> Tiled | None:
    """None for what is no such TIFF, or one that `codec.decode_image` has to turn or to refuse: decode that as a whole."""
    if data[:4] not in gdal.TIFF or orientation.orientation(data) != 1:
        return None
    try:
        gdal.refuse_endless(data)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page: Any = tiff.pages[0]
            if not page.is_tiled or len(tiff.pages) > 1 or page.planarconfig != 1 or page.imagedepth != 1:
                return None
            whole = len(page.dataoffsets) == np.prod(page.chunked, dtype=np.int64)
            if not whole or page.dtype is None or page.dtype.kind not in "uif":
                return None
            found = Tiled(data, name, page)
            codec.refuse_too_large(np.prod(found.shape, dtype=np.float64) * page.dtype.itemsize)
            return found
    except Exception:  # damaged: decoding it says how
        return None
