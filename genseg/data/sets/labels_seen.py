"""What the masks and images of each split hold that makes its scores doubtful: a score of a class that never occurs is none,
and is not to pass for one."""

import threading

import numpy as np

from genseg.data.card import DatasetCard
from genseg.data.files.validity import LARGEST
from genseg.errors import UserError

MOSTLY = 0.5  # of the pixels ignored: said beside every score


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
        notes = []
        for split in sorted(self._counts):
            counts = self._counts[split][: len(card.classes)]
            if not counts.sum():
                raise UserError(
                    f"No pixel of the split {split!r} counts: all its masks hold the ignore label {card.ignore_label} or "
                    "nodata only; correct the masks, or leave the split out of config.data.splits."
                )
            ignored = self._counts[split][card.ignore_label] / self._counts[split].sum()
            lost = [card.classes[i] for i in card.scored if not counts[i]]
            names = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
            if lost:
                notes.append(
                    f"NEVER IN {split}: {names} ({len(lost)} of {len(card.scored)} scored classes; {ignored:.1%} of the "
                    f"pixels are ignored). Scores of {split} say nothing of them: look whether the masks are read as meant, "
                    "such as 0 and 255 for two classes."
                )
            elif np.count_nonzero(counts) == 1 < len(counts):
                notes.append(
                    f"ONE CLASS IN {split}: all that counts there is {card.classes[int(counts.argmax())]!r}, so that a "
                    "network that always says so is right everywhere."
                )
            if ignored > MOSTLY and not lost:
                notes.append(
                    f"MOSTLY IGNORED in {split}: {ignored:.1%} of the pixels take no part in its scores and losses."
                )
            if self._unstated[split]:
                notes.append(
                    f"FILL VALUES IN {split}: {self._unstated[split]:,} values of {LARGEST:g} or more in size, which no file "
                    "states as nodata, are taken as not measured."
                )
        return tuple(notes)
