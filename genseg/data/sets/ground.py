"""Where tiles lie on the ground: splits by spatial blocks, and warnings where splits touch.

Tiles that touch or overlap show the same fields and roofs; with one in training and the other in test, a score is too
good.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genseg.data.files import gdal, grids, maps
from genseg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bounds:
    """West, south, east, north in map units."""

    west: float
    south: float
    east: float
    north: float


def bounds_of(scenes: Sequence[Sequence[Path]]) -> list[Bounds | None]:
    """Of each scene's files: the upright box around the first with a transform; None where there is none, or none that can
    be read.

    All in the projection of the first scene that has one: boxes of others are brought to it, and so grow a little."""
    found: list[Bounds | None] = []
    reference = None
    for paths in scenes:
        placed = ((path, place) for path in paths if (place := maps.Place.of(path)).transform is not None)
        path, place = next(placed, (None, None))
        if place is None:
            found.append(None)
            continue
        height, width = place.size
        x, y = np.transpose([place.transform @ (c * width, r * height) for c in (0, 1) for r in (0, 1)])
        box = (x.min(), y.min(), x.max(), y.max())
        reference = reference or place.crs
        if place.crs is not None and not grids.same_crs(place.crs, reference):
            from rasterio.warp import transform_bounds

            with gdal.quiet(str(path)):
                box = transform_bounds(place.crs, reference, *box)
        found.append(Bounds(*map(float, box)))
    return found


def touching(places: Sequence[Bounds], others: Sequence[Bounds]) -> tuple[np.ndarray, np.ndarray]:
    """For each of `places`: does it overlap one of `others`, does it touch one (edge or corner) without overlap.

    Returns: two bool arrays. A gap below 1 % of the smaller tile counts as touching.
    """
    overlap, touch = np.zeros(len(places), bool), np.zeros(len(places), bool)
    if not places or not others:
        return overlap, touch
    boxes = np.array([dataclasses.astuple(b) for b in others])
    boxes = boxes[np.argsort(boxes[:, 0], kind="stable")]
    widest = (boxes[:, 2] - boxes[:, 0]).max()
    for i, b in enumerate(places):
        slack = 0.01 * min(b.east - b.west, b.north - b.south)
        first = np.searchsorted(boxes[:, 0], b.west - widest - slack)
        last = np.searchsorted(boxes[:, 0], b.east + slack, side="right")
        near = boxes[first:last]
        # How far the boxes reach into each other along each axis; negative is a gap.
        x = np.minimum(near[:, 2], b.east) - np.maximum(near[:, 0], b.west)
        y = np.minimum(near[:, 3], b.north) - np.maximum(near[:, 1], b.south)
        overlap[i] = bool(((x > slack) & (y > slack)).any())
        touch[i] = not overlap[i] and bool(((x >= -slack) & (y >= -slack)).any())
    return overlap, touch


def leaks(places: Mapping[str, Sequence[Bounds]]) -> tuple[str, ...]:
    """Notes for the card on tiles of later splits that overlap or touch those of the first, the training split."""
    first, *rest = places
    notes = []
    for split in rest:
        overlap, touch = touching(places[split], places[first])
        if overlap.any() or touch.any():
            notes.append(
                f"SPATIAL LEAK: of {len(places[split])} {split} tiles {int(overlap.sum())} overlap and "
                f"{int(touch.sum())} touch a tile of {first}: scores on {split} are too good; "
                "split_blocks with 'apart': True makes splits that lie apart."
            )
    return tuple(notes)


def split_by_blocks(
    places: Mapping[str, Bounds], size: float, shares: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Deals whole square blocks of the ground out to splits.

    Args:
      places: tile id -> where it lies; a tile belongs to the block of its centre.
      size: side of a block, map units.
      shares: split -> wished share of the tiles, adding up to 1.
      seed: of the order in which blocks are dealt out.
    Returns: split -> tile ids, each block in the split that lacks most of its share; every split gets a block.
    Raises: UserError for shares that do not add up to 1, a size that is not positive, or fewer blocks than splits.
    """
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) <= 0:
        raise UserError(f"The shares of split_blocks are {dict(shares)}: give positive shares that add up to 1.")
    if not size > 0:
        raise UserError(f"The size of split_blocks is {size}: give the side of a block in map units.")
    members: dict[tuple[int, int], list[str]] = {}
    for name, b in sorted(places.items()):
        key = int(np.floor((b.west + b.east) / 2 / size)), int(np.floor((b.south + b.north) / 2 / size))
        members.setdefault(key, []).append(name)
    if len(members) < len(shares):
        raise UserError(f"{len(places)} tiles lie in {len(members)} block(s) of {size:g}: use smaller blocks.")
    blocks = [members[k] for k in sorted(members)]
    order = np.random.default_rng(seed).permutation(len(blocks))
    # Large blocks first; the stable sort keeps the random order among equals.
    order = sorted(order, key=lambda i: -len(blocks[i]))
    dealt: dict[str, list[str]] = {s: [] for s in shares}
    for turn, i in enumerate(order):
        left = len(order) - turn
        empty = [s for s in shares if not dealt[s]]
        choice = empty if len(empty) == left else list(shares)
        split = max(choice, key=lambda s: shares[s] - len(dealt[s]) / len(places))
        dealt[split] += blocks[i]
    return {s: sorted(names) for s, names in dealt.items()}
