"""Counts of scenes: confusion and borders, of class ids beside a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg import metrics, scene_borders
from genseg.data.card import DatasetCard
from genseg.data.files import grids, maps, masks, rasters
from genseg.errors import UserError


@dataclass(frozen=True)
class Scene:
    """confusion: int64 [classes, classes], row: truth. borders: int64 [7, 3, classes], see `border_scores`, or None.
    left_out: pixels of a class in truth that do not count, as the map or the image says that it has nothing there."""

    name: str
    confusion: np.ndarray
    borders: np.ndarray | None
    left_out: int = 0


def read_mask(
    path: Path, card: DatasetCard, table: masks.ClassTable | None, beside: Sequence[grids.Placed] = ()
) -> np.ndarray:
    """uint8 [h, w]: class ids of the card, and 255 where nothing counts.

    table: what the file's numbers or colours mean; None: numbers are the card's ids and its ignore label, colours its
    palette. beside: files that lie on the same ground. Raises: UserError naming the file and the first value that is
    neither, or two files of different ground.
    """
    name, (mask, nodata, valid, ground) = str(path), rasters.read_mask(path)
    grids.refuse_elsewhere([*beside, (path, ground, mask.shape[:2])])
    count = len(card.classes)
    if table is not None and len(table.names) != count:
        raise UserError(
            f"The class table names {len(table.names)} classes, but the network has {count}: give its table."
        )
    if mask.ndim == 3:
        palette = card.palette if table is None else table.palette
        colours = {tuple(colour): i for i, colour in enumerate(palette)}
        colours |= {tuple(c): 255 for c in (() if table is None else table.ignored_colours)}
        found = masks.colours_to_ids(mask, colours, name)
        return found if valid is None else np.where(valid, found, np.uint8(255))
    ids = tuple(range(count)) if table is None else table.ids
    masks.refuse_class_as_nodata(nodata, ids, card.classes, name)
    ignored = () if table is None else table.ignored_ids
    ignore = 255 if card.ignore_label is None else card.ignore_label
    found = masks.renumber(mask, ids, ignore, nodata, name, ignored)
    counted = found != ignore if valid is None else (found != ignore) & valid
    return np.where(counted, found, np.uint8(255))


def read_map(
    path: Path, card: DatasetCard, own: DatasetCard | None = None
) -> tuple[np.ndarray, np.ndarray, maps.Place]:
    """uint8 [h, w]: class ids of the card, and 255 where there is none; bool [h, w]: where the map says so; where it lies.

    The file says so by its nodata value, its mask or NaN; own, the card of genseg's record of the map, by its ignore label,
    which pictures have no other place for. A 255 that nothing explains may be a mistake, and is not among these.
    Raises: UserError naming the file for a number that is no class, such as those that another program made of nodata.
    """
    name, (ids, nodata, valid, ground) = str(path), rasters.read_mask(path)
    if ids.ndim != 2:
        raise UserError(f"The map {path} holds {ids.shape[2]} bands: give a map of class ids.")
    classes = tuple(range(len(card.classes)))
    masks.refuse_class_as_nodata(nodata, classes, card.classes, name, "map")
    ignored = () if own is None else (255 if own.ignore_label is None else own.ignore_label,)
    found = masks.renumber(ids, classes, 255, nodata, name, tuple(i for i in ignored if i not in classes), kind="map")
    nothing = (found == 255) & ((ids != 255) | (nodata == 255) | (255 in ignored))
    if valid is not None:
        nothing |= ~valid
    return np.where(nothing, np.uint8(255), found), nothing, ground


def count(name: str, ids: np.ndarray, label: np.ndarray, classes: int, *, borders: bool, left_out: int = 0) -> Scene:
    """ids: uint8 [h, w], a class everywhere where label is one. label: uint8 [h, w], 255 where nothing counts.

    Raises: UserError if a counted pixel has no class."""
    valid = label != 255
    if (ids[valid] >= classes).any():
        raise UserError(
            f"The map of {name} holds {ids[valid].max()} where its mask has a class, and there are {classes} classes: "
            f"map the whole scene, mark those pixels as ignored in the mask, or state {ids[valid].max()} as the map's nodata value."
        )
    confusion = metrics.count(ids, label, valid, classes)
    of_borders = (
        scene_borders.map_border_counts(ids, label, valid, classes, (0, len(ids), 0, ids.shape[1])) if borders else None
    )
    return Scene(name, confusion, of_borders, left_out)
