"""What the masks and images of each split hold that makes its scores doubtful, counted while they are prepared."""

import threading

import numpy as np

from genseg.data import doubts
from genseg.data.card import DatasetCard
from genseg.data.files.validity import LARGEST
from genseg.errors import UserError


class LabelsSeen:
    """Pixels of each class id in each split, added up while the masks are read (by several threads)."""

    def __init__(self):
        self._counts: dict[str, np.ndarray] = {}
        self._unstated: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, split: str, ids: np.ndarray, unstated: int = 0) -> None:
        """ids: uint8, any shape. unstated: fill values that the image's file does not state (`validity.unstated`)."""
        counts = np.bincount(ids.ravel(), minlength=256)
        with self._lock:
            self._counts[split] = self._counts.get(split, 0) + counts
            self._unstated[split] = self._unstated.get(split, 0) + unstated

    def notes(self, card: DatasetCard) -> tuple[str, ...]:
        """Notes for the card. Raises: UserError if no pixel of a split counts."""
        notes: list[str] = []
        for split in sorted(self._counts):
            counts = self._counts[split][: len(card.classes)]
            if not counts.sum():
                raise UserError(
                    f"No pixel of the split {split!r} counts: all its masks hold the ignore label {card.ignore_label} or "
                    "nodata only; correct the masks, or leave the split out of config.data.splits."
                )
            if not counts[list(card.scored)].sum():
                names = ", ".join(repr(card.classes[i]) for i in card.scored[:5])
                raise UserError(
                    f"No pixel of the split {split!r} is of a scored class ({names}): correct the masks, or `scored`."
                )
            ignored = self._counts[split][card.ignore_label] / self._counts[split].sum()
            notes += doubts.of_classes(split, counts, card, ignored)
            if self._unstated[split]:
                notes.append(
                    f"FILL VALUES IN {split}: {self._unstated[split]:,} values of {LARGEST:g} or more in size, which no file "
                    "states as nodata, are taken as not measured."
                )
        return tuple(notes)
