"""Where tiles lie on the ground: splits by spatial blocks, and warnings where splits touch.

Tiles that touch or overlap show the same fields and roofs; with one in training and the other in test, a score is too
good. Positions come from the GeoTIFF tags ModelPixelScale, ModelTiepoint and ModelTransformation (OGC 19-008r4).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile

from genseg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bounds:
    """West, south, east, north in map units."""

    west: float
    south: float
    east: float
    north: float


def bounds_of(path: Path) -> Bounds | None:
    """Of a north-up GeoTIFF; None for files without a position, rotated ones included."""
    if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():  # a pipe would be waited for
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            tags = {code: page.tags[code].value for code in (33550, 33922, 34264) if code in page.tags}
            height, width = page.imagelength, page.imagewidth
    except Exception:  # damaged bytes can raise anything
        return None  # an unreadable file is reported with its name when it is loaded
    if 33550 in tags and 33922 in tags:
        sx, sy = tags[33550][:2]
        column, row, _, x, y, _ = tags[33922][:6]
        west, north = x - column * sx, y + row * sy
    elif 34264 in tags and tags[34264][1] == 0 == tags[34264][4]:
        sx, sy, west, north = tags[34264][0], -tags[34264][5], tags[34264][3], tags[34264][7]
    else:
        return None
    return Bounds(west, north - height * sy, west + width * sx, north)


def refuse_elsewhere(files: tuple[Path, ...], width: int) -> None:
    """Raises UserError if files of one scene that say where they lie, lie more than half a pixel apart."""
    placed = [(path, bounds) for path in files if (bounds := bounds_of(path)) is not None]
    for path, bounds in placed[1:]:
        first, reference = placed[0]
        sides = np.subtract(dataclasses.astuple(bounds), dataclasses.astuple(reference))
        if np.abs(sides).max() > (reference.east - reference.west) / width / 2:
            raise UserError(f"{path} lies elsewhere on the ground than {first}: warp them to one grid (gdalwarp).")


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
                "split_blocks makes splits that lie apart."
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
