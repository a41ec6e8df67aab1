"""Border counts of class maps of any size, tile by tile on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from genseg.border_scores import COUNTS, DISTANCES, REACH, border_counts

TILE = 512

_counted = jax.jit(border_counts, static_argnums=3)


def map_border_counts(
    prediction: np.ndarray, label: np.ndarray, valid: np.ndarray, classes: int, own: tuple[int, int, int, int]
) -> np.ndarray:
    """int64 [7, 3, classes] of a whole class map [h, w], as `border_scores.border_counts` of one array that size.

    Tiles are seen with `REACH` pixels around them, so that none makes a border. own: first row, last row + 1, first
    column, last column + 1 of the pixels that count.
    """
    height, width = label.shape
    sides = tuple(min(TILE, -(-length // 64) * 64) + 2 * REACH for length in (height, width))  # few shapes to compile
    total = np.zeros((len(COUNTS), len(DISTANCES), classes), np.int64)
    for top in range(0, height, sides[0] - 2 * REACH):
        for left in range(0, width, sides[1] - 2 * REACH):
            place = tuple(
                slice(max(start - REACH, 0), start + side - REACH)
                for start, side in ((top, sides[0]), (left, sides[1]))
            )
            padded = []
            for plane in (prediction, label, valid):
                whole = np.zeros(sides, plane.dtype)
                part = plane[place]
                whole[: part.shape[0], : part.shape[1]] = part
                padded.append(whole[None])
            inside = np.zeros(sides, bool)  # the tile's own pixels that count
            inside[
                _span(top, sides[0], own[:2], place[0].start),
                _span(left, sides[1], own[2:], place[1].start),
            ] = True
            p, t, v = padded
            total += np.asarray(_counted(p, t, v, classes, inside[None])[0], np.int64)
    return total


def _span(start: int, side: int, own: tuple[int, int], origin: int) -> slice:
    """Along one axis: a tile's own places from `start` on that are in `own`, counted from `origin`, where its array begins."""
    first, end = max(start, own[0]), min(start + side - 2 * REACH, own[1])
    return slice(first - origin, max(first, end) - origin)


def with_whole_maps(
    pieces: Iterable[tuple[dict[str, Any], int, np.ndarray]],
) -> Iterator[tuple[dict[str, Any], int, np.ndarray, np.ndarray | None]]:
    """(record, first row, class ids [n, w]) of pieces of rows, each with the record's whole map behind its last piece.

    Memory holds the maps, one byte a pixel, of the records whose rows are being given out.
    """
    maps: dict[int, np.ndarray] = {}
    for record, row, ids in pieces:
        key, shape = int(record["index"]), record["label"].shape
        whole = maps.setdefault(key, np.zeros(shape, np.uint8))
        whole[row : row + len(ids)] = ids
        yield record, row, ids, maps.pop(key) if row + len(ids) == shape[0] else None
