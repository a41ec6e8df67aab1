"""Rasters of any size: read a few rows at a time, and class maps written as they come, in their place on the ground."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genseg import outputs
from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.errors import UserError

# What GeoTIFF says of place and projection: ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory,
# GeoDoubleParams, GeoAsciiParams (GeoTIFF 1.1, OGC 19-008r4).
GEOGRAPHIC_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_TILE = 256


class Raster:
    """The bands of one file, or of several files of one scene, as an image [h w c] that is read where it is sliced.

    Of TIFFs only the strips and tiles that hold the asked rows are decoded, and the last rows are kept; PNG, JPEG and
    NPY are decoded whole. `raster[a:b, c:d]` is an array [b - a, d - c, bands] of the files' common type.
    """

    def __init__(self, paths: Sequence[Path], bands: Sequence[Sequence[int]] = ()):
        """bands: of each file, the ones to take, in that order, counted from 1; () = all, for one file or for all.

        Raises: UserError if a file cannot be read, lacks a band, or the files differ in size."""
        self.paths = tuple(Path(p) for p in paths)
        self._parts = [_Tiff(p) if codec.is_tiff(p) else _Decoded(p) for p in self.paths]
        chosen = zip(self.paths, self._parts, bands or [()] * len(self.paths), strict=True)
        self._bands = [_places(path, part.shape[2], wanted) for path, part, wanted in chosen]
        sizes = {part.shape[:2] for part in self._parts}
        if len(sizes) > 1:
            raise UserError(f"{' + '.join(map(str, self.paths))} differ in size: {sorted(sizes)} pixels.")
        self.shape = (*sizes.pop(), sum(map(len, self._bands)))
        self.dtype = np.result_type(*(part.dtype for part in self._parts))
        self.nodata = tuple(part.nodata for part, bands in zip(self._parts, self._bands, strict=True) for _ in bands)
        self._rows, self._held = None, np.empty(0)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (range(*part.indices(size)) for part, size in zip(place, self.shape[:2], strict=True))
        if rows != self._rows:
            parts = [
                _picked(part.rows(rows.start, rows.stop), bands).astype(self.dtype, copy=False)
                for part, bands in zip(self._parts, self._bands, strict=True)
            ]
            self._rows, self._held = rows, parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
            self._held.setflags(write=False)  # it is handed out again and again
        return self._held[:, columns.start : columns.stop]

    @property
    def counts(self) -> tuple[int, ...]:
        """Bands taken of each file."""
        return tuple(map(len, self._bands))

    @property
    def tags(self) -> list[tuple]:
        """Place and projection of the first file, as tifffile's `extratags`; [] if it says nothing."""
        return self._parts[0].tags


def _places(path: Path, count: int, wanted: Sequence[int]) -> list[int]:
    """Indices of the wanted bands of a file."""
    absent = [band for band in wanted if not 1 <= band <= count]
    if absent:
        raise UserError(f"{path} has {count} band(s): there is no band {absent[0]}.")
    return [band - 1 for band in wanted] or list(range(count))


def _picked(pixels: np.ndarray, bands: list[int]) -> np.ndarray:
    return pixels if bands == [*range(pixels.shape[2])] else pixels[..., bands]


class _Decoded:
    nodata, tags = None, ()

    def __init__(self, path: Path):
        self._pixels = codec.decode_image(codec.read(path), str(path))
        self.shape, self.dtype = self._pixels.shape, self._pixels.dtype

    def rows(self, first: int, end: int) -> np.ndarray:
        return self._pixels[first:end]


class _Tiff:
    """Strips and tiles of a TIFF, bands in one page (interleaved or apart) or a page a band."""

    def __init__(self, path: Path):
        outputs.regular(path, "image")
        try:
            self._file = tifffile.TiffFile(path)
            first = self._file.pages[0]
            self._pages = [first]
            if len(first.shape) == 2:
                pages = [page.keyframe if page.is_frame else page for page in self._file.pages]
                alike = (i for i, page in enumerate(pages) if (page.shape, page.dtype) == (first.shape, first.dtype))
                self._pages = [self._file.pages.get(i) if i else first for i in alike]
        except Exception as error:  # damaged bytes can raise any of tifffile's and the codecs' exceptions
            raise codec.CorruptFile(f"The image {path} cannot be decoded ({error}): repair or remove it.") from None
        self.nodata = codec.page_nodata(first, str(path))
        self._path, self._apart = path, first.planarconfig == 2 and len(first.shape) == 3
        height, width = first.imagelength, first.imagewidth
        self.shape = (height, width, first.samplesperpixel if len(self._pages) == 1 else len(self._pages))
        self.dtype = codec.plain_dtype(first.dtype)
        self.tags = [
            (code, tag.dtype, tag.count, tag.value, True)
            for code in GEOGRAPHIC_TAGS
            if (tag := first.tags.get(code)) is not None
        ]

    def rows(self, first: int, end: int) -> np.ndarray:
        """[end - first, width, bands]. Raises: CorruptFile."""
        # What tiles that were never written hold: the nodata value, NaN included.
        out = np.full((end - first, *self.shape[1:]), self._pages[0].nodata, self.dtype)
        for band, page in enumerate(self._pages):
            target = out if len(self._pages) == 1 else out[..., band : band + 1]
            try:
                self._read(page, first, end, target)
            except Exception as error:
                raise codec.CorruptFile(
                    f"The image {self._path} cannot be decoded ({error}): repair or remove it."
                ) from None
        return out

    def _read(self, page: tifffile.TiffPage, first: int, end: int, out: np.ndarray) -> None:
        tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        down, across = -(-page.imagelength // tall), -(-page.imagewidth // wide)
        wanted = [
            (sample * down + row) * across + column
            for sample in range(page.samplesperpixel if self._apart else 1)
            for row in range(first // tall, -(-end // tall))
            for column in range(across)
        ]
        offsets, counts = ([values[i] for i in wanted] for values in (page.dataoffsets, page.databytecounts))
        for data, index in self._file.filehandle.read_segments(offsets, counts, wanted):
            pixels, (sample, _, top, left, _), (_, h, w, _) = page.decode(data, index, jpegtables=page.jpegtables)
            if pixels is None:  # a tile that was never written
                continue
            above = max(first - top, 0)
            part = pixels[0, above : min(h, end - top), : min(w, page.imagewidth - left)]
            place = (slice(top + above - first, top + above - first + len(part)), slice(left, left + part.shape[1]))
            if self._apart:
                out[(*place, sample)] = part[..., 0]
            else:
                out[place] = part


def write_classes(
    path: Path, rows: Iterable[np.ndarray], shape: tuple[int, int], card: DatasetCard, *, nodata: int, tags: list[tuple]
) -> None:
    """Class ids as an indexed picture: values are ids, viewers show the palette. A TIFF where `path` ends so, or a PNG.

    The TIFF is tiled, deflated, written as the rows come, and keeps `tags` (see `Raster.tags`).

    Args:
      rows: uint8 [n, width] from top to bottom, together `shape`.
      nodata: the id of pixels without a class, shown black and, in a TIFF, marked as GDAL's nodata.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(card.palette)] = card.palette
    temporary = path.with_name(f".{path.name}.part")
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            marks = [(codec.NODATA_TAG, "s", 0, str(nodata), True)]
            tifffile.imwrite(
                temporary, _tiles(rows, shape), shape=shape, dtype=np.uint8, tile=(_TILE, _TILE), compression="deflate",
                photometric="palette", colormap=palette.T.astype(np.uint16) * 257, extratags=[*tags, *marks],
                bigtiff=shape[0] * shape[1] > 2**31, metadata=None, software=outputs.MARK,
            )  # fmt: skip
        else:
            picture = Image.fromarray(np.concatenate(list(rows)))
            picture.putpalette(palette.tobytes())
            made_by = PngInfo()
            made_by.add_text("Software", outputs.MARK)  # what `outputs.claim` lets be written over
            picture.save(temporary, format="PNG", pnginfo=made_by)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _tiles(rows: Iterable[np.ndarray], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Rows of any number to tiles, left to right and top to bottom; the last ones are filled up."""
    across = -(-shape[1] // _TILE)
    band = np.zeros((_TILE, across * _TILE), np.uint8)
    held = 0

    def cut() -> Iterator[np.ndarray]:
        for column in range(across):
            yield np.ascontiguousarray(band[:, column * _TILE : (column + 1) * _TILE])

    for piece in rows:
        while len(piece):
            count = min(_TILE - held, len(piece))
            band[held : held + count, : shape[1]] = piece[:count]
            piece, held = piece[count:], held + count
            if held == _TILE:
                yield from cut()
                held = 0
    if held:
        yield from cut()
