"""Which classes the masks of each split hold: a score of a class that never occurs is none, and is not to pass for one."""

import threading

import numpy as np

from genseg.data.card import DatasetCard
from genseg.errors import UserError


class LabelsSeen:
    """Pixels of each class id in each split, added up while the masks are read (by several threads)."""

    def __init__(self):
        self._counts: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def add(self, split: str, ids: np.ndarray) -> None:
        """ids: uint8, any shape."""
        counts = np.bincount(ids.ravel(), minlength=256)
        with self._lock:
            self._counts[split] = self._counts.get(split, 0) + counts

    def notes(self, card: DatasetCard) -> tuple[str, ...]:
        """Notes for the card. Raises: UserError if no pixel of a split counts."""
        notes = []
        for split in sorted(self._counts):
            counts = self._counts[split][: len(card.classes)]
            if not counts.sum():
                raise UserError(
                    f"No pixel of the split {split!r} counts: all its masks hold the ignore label {card.ignore_label} or "
                    "nodata only; correct the masks, or leave the split out of config.data.splits."
                )
            lost = [card.classes[i] for i in card.scored if not counts[i]]
            if lost:
                ignored = self._counts[split][card.ignore_label] / self._counts[split].sum()
                names = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
                notes.append(
                    f"NEVER IN {split}: {names} ({len(lost)} of {len(card.scored)} scored classes; {ignored:.1%} of the "
                    f"pixels are ignored). Scores of {split} say nothing of them: look whether the masks are read as meant, "
                    "such as 0 and 255 for two classes."
                )
        return tuple(notes)
