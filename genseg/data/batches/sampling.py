"""Which record a training row holds: every record once an epoch, or rare classes more often."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import grain
import numpy as np

# Rows after which training ends: far beyond any run, and small enough for grain to count in batches of one.
ENDLESS = 2**50
_SHARE_SEED = 4604  # a share of the records is a property of the data, not of a run


def shared_out(records: int, share: float) -> int:
    """How many of the records `share` of them is: rounded, and at least one."""
    return max(1, round(share * records))


@dataclasses.dataclass(frozen=True, eq=False)
class Shared(Sequence):
    """`share` of a source's records, drawn at random but always the same ones: a smaller share is part of a larger one."""

    source: Sequence[bytes]
    share: float

    @functools.cached_property
    def kept(self) -> np.ndarray:
        """int64, ascending: places of the records in `source`."""
        order = np.random.default_rng(_SHARE_SEED).permutation(len(self.source))
        return np.sort(order[: shared_out(len(self.source), self.share)])

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> bytes:
        return self.source[int(self.kept[index])]


@dataclasses.dataclass(frozen=True, eq=False)
class Sampling:
    """probability: float64 [records], of each record in each row; None shuffles all records each epoch instead."""

    probability: np.ndarray | None = None

    def stream(self, records: int, seed: int) -> grain.MapDataset:
        """Endless record indices; the one at a place is a function of (seed, place)."""
        if self.probability is None:
            return grain.MapDataset.range(records).seed(seed).shuffle().repeat(ENDLESS // records)
        edges = np.cumsum(self.probability)
        edges /= edges[-1]

        def draw(_: int, rng: np.random.Generator) -> int:
            return int(np.searchsorted(edges, rng.random(), side="right"))

        return grain.MapDataset.range(ENDLESS).seed(seed).random_map(draw)

    def describe(self, pixels: np.ndarray, classes: Sequence[str]) -> str:
        """A line: how often records are drawn beside an even choice, and the classes' shares of pixels before and after.

        pixels: int64 [records, classes].
        """
        times = self.probability * len(self.probability)
        before, after = pixels.sum(0) / pixels.sum(), self.probability @ pixels
        shares = zip(classes, 100 * before, 100 * after / after.sum(), strict=True)
        table = ", ".join(f"{name} {old:.2f} to {new:.2f} %" for name, old, new in shares)
        return f"records are drawn {times.min():.2f} to {times.max():.2f} times as often as evenly; pixels: {table}"


def class_balanced(pixels: np.ndarray) -> Sampling:
    """A class drawn evenly among those that occur, then one of the records that hold it, evenly (class-aware sampling,
    Shen et al. 2016, arXiv 1512.05830). pixels: int64 [records, classes]; records without any class are never drawn."""
    holds = np.asarray(pixels) > 0
    records = holds.sum(0)
    weights = (holds[:, records > 0] / records[records > 0]).sum(1)
    return Sampling(weights / weights.sum())


EVERY_RECORD = Sampling()
