"""Rasters of any size and format, a few rows at a time: the one opener of preparation, prediction and scoring.

A file is what its bytes say, whatever its name. PNG, JPEG and NPY are decoded whole; everything else is GDAL's, and of it
only the blocks that hold the asked rows are decoded, once.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genseg import outputs
from genseg.data.card import DatasetCard
from genseg.data.files import codec, gdal, grids
from genseg.data.files.maps import Place
from genseg.errors import UserError


class Raster:
    """The bands of one file, or of several files of one scene, as an image [h w c] that is read where it is sliced.

    `raster[a:b, c:d]` is an array [b - a, d - c, bands] of the files' common type; files of a coarser grid are brought to
    the finest one (see `grids.Finer`). It is read fastest from top to bottom, and is not to be written to.

    shape, dtype; nodata, alpha, descriptions, scales: of each band, see `gdal.File`; files: of each band, which of the files
    it is of; place: on the ground, of the finest grid, from the first of its files that says most of it; dtypes, placed: of each file its type, and its path, place and size; resampled: files of a coarser grid.
    """

    def __init__(self, paths: Sequence[Path], bands: Sequence[Sequence[int]] = ()):
        """bands: of each file, the ones to take, in that order, counted from 1; () = all, for one file or for all.

        Raises: UserError if a file cannot be read, lacks a band, or the files lie on different ground or, without a
        place, differ in size."""
        self.paths = tuple(Path(p) for p in paths)
        parts = [_Decoded(p) if codec.plain_picture(p) else _Opened(p) for p in self.paths]
        chosen = zip(self.paths, parts, bands or [()] * len(self.paths), strict=True)
        taken = [_places(path, part.shape[2], wanted) for path, part, wanted in chosen]
        places = [part.place for part in parts]
        sizes = [part.shape[:2] for part in parts]
        self.placed = tuple(zip(self.paths, places, sizes, strict=True))
        self.dtypes = tuple(codec.plain_dtype(part.dtype) for part in parts)
        grids.refuse_elsewhere(self.placed)
        finest = max(range(len(parts)), key=lambda i: parts[i].shape[0] * parts[i].shape[1])
        size = parts[finest].shape[:2]
        # Pictures beside a GeoTIFF say nothing, or only half of it: of the files on the grid the one that says most.
        self.place = max((place for place, own in zip(places, sizes, strict=True) if own == size), key=_says)
        for path, place, part in zip(self.paths, places, parts, strict=True):
            if part.shape[:2] != size and (place.transform is None or self.place.transform is None):
                raise UserError(
                    f"{' + '.join(map(str, self.paths))} differ in size ({' and '.join(map(str, sorted(set(sizes))))} pixels), and "
                    f"{path} does not say where it lies: give files of one grid."
                )
        self.resampled = tuple(path for path, part in zip(self.paths, parts, strict=True) if part.shape[:2] != size)
        self.dtype = np.result_type(*self.dtypes)
        self._parts = [part if part.shape[:2] == size else grids.Finer(part, size, self.dtype) for part in parts]
        self._take(taken)

    def _take(self, bands: list[list[int]]) -> None:
        """bands: of each file, from 0."""
        self._bands, self.shape = bands, (*self._parts[0].shape[:2], sum(map(len, bands)))
        self.files = tuple(file for file, own in enumerate(bands) for _ in own)
        self.nodata, self.alpha, self.descriptions, self.scales = (
            tuple(getattr(part, what)[band] for part, bands in zip(self._parts, self._bands, strict=True) for band in bands)
            for what in ("nodata", "alpha", "descriptions", "scales")
        )  # fmt: skip
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

    def valid(self, first: int, end: int, taken: Sequence[int] = ()) -> np.ndarray | None:
        """bool [end - first, width]: where no mask of a file, and no alpha band that is not among the bands `taken` as data
        (from 0; () = all but alpha), takes the pixel out; None if nothing does. Nodata values are `validity`'s."""
        found, before = None, 0
        taken = list(taken) or [i for i, alpha in enumerate(self.alpha) if not alpha]
        for part, bands in zip(self._parts, self._bands, strict=True):
            own = [bands[i - before] for i in taken if before <= i < before + len(bands)]
            before += len(bands)
            if own and (seen := part.valid(first, end, own)) is not None:
                found = seen if found is None else found & seen
        return found

    def with_others(self, places: Sequence[int], files: Collection[int]) -> tuple[Raster, list[int]]:
        """This raster with all bands of these `files`, opacity apart, those that it has first; and where its bands at
        `places` are in it. Nothing is opened or decoded again."""
        bands = [
            [*own, *(i for i, alpha in enumerate(part.alpha) if file in files and i not in own and not alpha)]
            for file, (part, own) in enumerate(zip(self._parts, self._bands, strict=True))
        ]
        if bands == self._bands:
            return self, list(places)
        whole = copy.copy(self)
        whole._take(bands)
        before = [whole.files.index(file) - self.files.index(file) for file in self.files]
        return whole, [i + before[i] for i in places]


class Mask(NamedTuple):
    """ids: [h w] class ids as stored, or colours [h w c]. nodata: the value that the file states. valid: bool [h w] where
    no mask of the mask takes it out, or None. place: on the ground."""

    ids: np.ndarray
    nodata: float | None
    valid: np.ndarray | None
    place: Place


def read_mask(path: Path, *, colours: bool = False) -> Mask:
    """colours: the file holds colours, so that a palette is looked up. Raises: CorruptFile, UserError."""
    if codec.plain_picture(path):
        decode = codec.decode_image if colours else codec.decode_mask
        return Mask(decode(codec.read(path), str(path)), None, None, Place.of(path))
    file = _Opened(path)
    try:
        gdal.refuse_too_large(file.name, file.shape, file.dtype)
        ids = file.rows(0, file.shape[0])
        if ids.dtype.kind not in "ui" or ids.dtype.itemsize < 4:  # float32 would round ids beyond 2^24
            ids = ids.astype(codec.plain_dtype(ids.dtype), copy=False)
        valid = file.valid(0, file.shape[0], [*range(file.shape[2])])
        return Mask(ids[..., 0] if file.shape[2] == 1 and not colours else ids, file.nodata[0], valid, file.place)
    finally:
        file.close()


def _places(path: Path, count: int, wanted: Sequence[int]) -> list[int]:
    """Indices of the wanted bands of a file."""
    absent = [band for band in wanted if not 1 <= band <= count]
    if absent:
        raise UserError(f"{path} has {count} band(s): there is no band {absent[0]}.")
    return [band - 1 for band in wanted] or list(range(count))


def _says(place: Place) -> tuple[bool, bool, bool]:
    """How much a file says of its place, to be compared: first whether a map can be measured, then whether it lies anywhere."""
    return place.transform is not None and place.crs is not None, place.transform is not None, place.known


def _picked(pixels: np.ndarray, bands: list[int]) -> np.ndarray:
    return pixels if bands == [*range(pixels.shape[2])] else pixels[..., bands]


class _Opened(gdal.File):
    """A file that GDAL opens, with its place."""

    @property
    def place(self) -> Place:
        with gdal.quiet(self.name):
            return Place.said_by(self.first)


class _Decoded:
    """A PNG, JPEG or NPY; see `gdal.File`."""

    def __init__(self, path: Path):
        data = codec.read(path)
        self._pixels, self.place = codec.decode_image(data, str(path)), Place.of(path)
        self.shape, self.dtype = self._pixels.shape, self._pixels.dtype
        count = self.shape[2]
        self.nodata, self.descriptions, self.scales = (None,) * count, ("",) * count, ((1.0, 0.0),) * count
        self.alpha = (*(False,) * (count - 1), codec.has_alpha(data, count))

    def rows(self, first: int, end: int) -> np.ndarray:
        return self._pixels[first:end]

    def valid(self, first: int, end: int, taken: Sequence[int]) -> np.ndarray | None:
        last = self.shape[2] - 1
        if not self.alpha[last] or last in taken:
            return None
        found = self._pixels[first:end, :, last] > 0
        return None if found.all() else found


def write_classes(path: Path, rows: Iterable[np.ndarray], card: DatasetCard) -> None:
    """Class ids, uint8 [n, width] from top to bottom, as an indexed PNG: values are ids, viewers show the palette. Ids of
    no class are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(card.palette)] = card.palette
    picture = Image.fromarray(np.concatenate(list(rows)))
    picture.putpalette(palette.tobytes())
    made_by = PngInfo()
    made_by.add_text("Software", outputs.MARK)  # what `outputs.claim` lets be written over
    with outputs.replacing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=made_by)
