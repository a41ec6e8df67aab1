"""Masks of class ids: from colours, and checked against a card."""

import numpy as np

from genseg.data.card import DatasetCard
from genseg.errors import UserError


def check_labels(mask: np.ndarray, card: DatasetCard, name: str) -> None:
    """Raises: UserError naming the file and the first value that is neither a class id nor the ignore label."""
    values = np.unique(mask)
    allowed = np.isin(values, [*range(len(card.classes)), card.ignore_label])
    if not allowed.all():
        raise UserError(
            f"The mask {name} holds the label {values[~allowed][0]:g}, which is neither one of the {len(card.classes)} "
            f"classes nor the ignore label {card.ignore_label}: correct the mask or the classes."
        )


def colours_to_ids(mask: np.ndarray, ids: dict[tuple[int, int, int], int], name: str) -> np.ndarray:
    """A mask of colours uint8 [h w 3 or 4] to class ids uint8 [h w].

    Args:
      ids: (red, green, blue) -> id.
    Raises: UserError naming the file, the first colour that is not in `ids`, and its place.
    """
    if mask.ndim != 3 or mask.shape[2] not in (3, 4) or mask.dtype != np.uint8:
        shape = "one band" if mask.ndim == 2 else f"{mask.shape[2]} bands"
        raise UserError(f"The mask {name} has {shape} of {mask.dtype}: 8-bit RGB colours are expected.")
    codes = (mask[..., 0].astype(np.int32) << 16) | (mask[..., 1].astype(np.int32) << 8) | mask[..., 2]
    known = np.array([(r << 16) | (g << 8) | b for r, g, b in ids], np.int32)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
    found = order[place]
    wrong = known[found] != codes
    if wrong.any():
        y, x = (int(v) for v in np.argwhere(wrong)[0])
        r, g, b = (int(v) for v in mask[y, x, :3])
        raise UserError(
            f"The mask {name} holds the colour ({r}, {g}, {b}) at row {y}, column {x}, which no class has: correct the "
            "mask or the class table."
        )
    return np.array(list(ids.values()), np.uint8)[found]
