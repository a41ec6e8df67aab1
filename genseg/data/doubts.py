"""What makes scores of a split doubtful: a score of a class that never occurs is none, and is not to pass for one.

Said at preparation, from there in the card, and beside every score (`beside`).
"""

from collections.abc import Sequence

import numpy as np

from genseg.data.card import DatasetCard
from genseg.errors import UserError

MOSTLY = 0.5  # of the pixels ignored: said beside every score


def of_classes(where: str, pixels: np.ndarray, card: DatasetCard, ignored: float | None = None) -> tuple[str, ...]:
    """Sentences on a split, or on whatever `where` names.

    Args:
      pixels: int [classes], of the truth.
      ignored: share of all pixels that do not count, where it is known.
    """
    notes = []
    lost = [card.classes[i] for i in card.scored if not pixels[i]]
    names = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
    share = "" if ignored is None else f"; {ignored:.1%} of the pixels are ignored"
    if lost:
        notes.append(
            f"NEVER IN {where}: {names} ({len(lost)} of {len(card.scored)} scored classes{share}). Scores of {where} say nothing "
            "of them: look whether the masks are read as meant, such as 0 and 255 for two classes."
        )
    elif np.count_nonzero(pixels) == 1 < len(pixels):
        notes.append(
            f"ONE CLASS IN {where}: all that counts there is {card.classes[int(np.argmax(pixels))]!r}, so that a network that "
            "always says so is right everywhere."
        )
    if ignored is not None and ignored > MOSTLY and not lost:
        notes.append(f"MOSTLY IGNORED in {where}: {ignored:.1%} of the pixels take no part in its scores and losses.")
    return tuple(notes)


def beside(card: DatasetCard, split: str, confusion: np.ndarray) -> tuple[str, ...]:
    """What stands beside scores of a split: the card's notes, and what the counts themselves, int [classes, classes] with a
    row a true class, say of it where preparation has not."""
    found = of_classes(split, confusion.sum(1), card)
    return (*card.notes, *(n for n in found if not any(n.split(":")[0] in note for note in card.notes)))


def refuse_uncounted(confusion: np.ndarray, scored: Sequence[int], classes: Sequence[str]) -> None:
    """Raises UserError for counts [classes, classes], row: truth, that no score can be of: without a pixel, or without one of
    a scored class."""
    if not confusion.sum():
        raise UserError("No pixel counts: every pixel of every mask is ignored, or not measured; give other masks.")
    chosen = list(scored)
    if not confusion[chosen].sum():
        names = ", ".join(repr(classes[i]) for i in chosen[:5])
        raise UserError(
            f"No pixel that counts is of a scored class ({names}): give other masks, or score other classes."
        )
