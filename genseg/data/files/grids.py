"""Files of one scene on one grid: whether they lie on the same ground, and coarser ones brought to the finest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg.data.card import Band
from genseg.data.files import codec
from genseg.data.files.maps import Place
from genseg.data.files.validity import absent
from genseg.errors import UserError

Placed = tuple[Path, Place, tuple[int, int]]
"""A file, where it lies, its height and width."""


def refuse_elsewhere(files: Sequence[Placed]) -> None:
    """Raises UserError, naming two files, if those that say where they lie differ in projection, or if a corner of one
    lies more than half a pixel of the finer grid from that of the other.
    """
    placed = [entry for entry in files if entry[1].transform is not None]
    for path, place, size in placed[1:]:
        first, reference, whole = placed[0]
        if place.crs is not None and reference.crs is not None and not same_crs(place.crs, reference.crs):
            raise UserError(
                f"{path} is in {_called(place.crs)}, but {first} in {_called(reference.crs)}: warp them to one grid "
                "(gdalwarp)."
            )
        away = np.abs(_corners(place, size) - _corners(reference, whole)).max()
        if away > 0.5 * min(_side(place), _side(reference)):
            raise UserError(f"{path} lies elsewhere on the ground than {first}: warp them to one grid (gdalwarp).")


def same_crs(one: Any, other: Any) -> bool:
    """Whether two of rasterio's reference systems are one, however they are written down."""
    if one == other:
        return True
    codes = one.to_epsg(), other.to_epsg()
    return codes[0] == codes[1] if None not in codes else one.to_dict() == other.to_dict()


def _called(crs: Any) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt().split('"')[1]


def _corners(place: Place, size: tuple[int, int]) -> np.ndarray:
    return np.array([place.transform @ (x * size[1], y * size[0]) for x in (0, 1) for y in (0, 1)])


def _side(place: Place) -> float:
    t = place.transform
    return min(np.hypot(t.a, t.d), np.hypot(t.b, t.e))


class Finer:
    """A coarse file on a finer grid of the same extent, by bilinear interpolation between pixel centres.

    Integers are rounded. Values that are no measurement by `validity`'s definition, to which all bands of the file count, take
    no part: a pixel whose nearest coarse pixel is one stays one, and the others are means of what was measured around them.
    Masks are taken from the nearest pixel.
    What a row holds does not depend on which rows are asked for. The interface is that of `gdal.File`.
    """

    def __init__(self, part: Any, size: tuple[int, int], dtype: np.dtype):
        """part: with shape [h w c]. size: height and width wanted. dtype: of the whole scene, which says what its nodata
        values mean."""
        self._part, self.shape = part, (*size, part.shape[2])
        self.dtype = codec.plain_dtype(part.dtype)
        self.nodata, self.alpha, self.descriptions, self.scales = (
            part.nodata,
            part.alpha,
            part.descriptions,
            part.scales,
        )
        stated = [None if opacity else value for value, opacity in zip(self.nodata, self.alpha, strict=True)]
        self._bands, self._common = [Band("", nodata=value, file=0) for value in stated], dtype

    def rows(self, first: int, end: int) -> np.ndarray:
        low, high, share, near = _between(first, end, self.shape[0], self._part.shape[0])
        left, right, across, beside = _between(0, self.shape[1], self.shape[1], self._part.shape[1])
        top, bottom = (int(low[0]), int(high[-1]) + 1) if len(low) else (0, 0)
        found = self._part.rows(top, bottom)
        low, high, near = low - top, high - top, near - top
        lacking = absent(found.astype(self._common, copy=False), self._bands)
        values = found.astype(np.float32)

        def mixed(x: np.ndarray) -> np.ndarray:
            rows = x[low] * (1 - share)[:, None, None] + x[high] * share[:, None, None]
            return rows[:, left] * (1 - across)[None, :, None] + rows[:, right] * across[None, :, None]

        if lacking is None:
            out = mixed(values)
        else:
            weights = ~lacking
            known, kept = mixed(np.where(weights, values, np.float32(0))), mixed(weights.astype(np.float32))
            nearest = found[near][:, beside]
            out = np.where(weights[near][:, beside], known / np.maximum(kept, np.float32(1e-6)), nearest)
        return (out if self.dtype.kind == "f" else np.rint(out)).astype(self.dtype)

    def valid(self, first: int, end: int, taken: Sequence[int]) -> np.ndarray | None:
        *_, near = _between(first, end, self.shape[0], self._part.shape[0])
        *_, beside = _between(0, self.shape[1], self.shape[1], self._part.shape[1])
        top, bottom = (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)
        found = self._part.valid(top, bottom, taken)
        return None if found is None else found[near - top][:, beside]


def _between(first: int, end: int, fine: int, coarse: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For fine pixels first .. end - 1: the coarse pixels whose centres lie before and behind, the share float32 of the
    latter, and the pixel that holds the centre."""
    place = (np.arange(first, end) + 0.5) * (coarse / fine)
    before = np.floor(place - 0.5).astype(np.int64)
    share = (place - 0.5 - before).astype(np.float32)
    low, high = np.clip(before, 0, coarse - 1), np.clip(before + 1, 0, coarse - 1)
    return low, high, share, np.clip(place.astype(np.int64), 0, coarse - 1)
