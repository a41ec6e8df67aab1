"""From confusion counts of scenes, seeds and pre-trained networks to differences with intervals and p values.

Everything works on counts: a resample of scenes is scored on the sum of its confusion counts, as the split itself is. The
mean of per-image IoU is another quantity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genseg import border_scores, metrics
from genseg.study.design import CONFUSION_SCORES

Score = Callable[[np.ndarray], np.ndarray]
"""Counts of scenes, summed [..., classes, classes] or [..., 7, 3, classes] -> scores [...] or of several kinds [..., n]."""

LEVEL = 0.95
EXACT_PAIRS = 16
"""Above it the sign-flip test draws 2^EXACT_PAIRS signs: all of them double with every pair."""


def score(name: str, scored: Sequence[int], absent: str) -> Score:
    """One of CONFUSION_SCORES of counts [..., c, c]."""
    if name not in CONFUSION_SCORES:
        raise ValueError(f"score is '{name}'; it must be one of {CONFUSION_SCORES}")
    return lambda confusion: getattr(metrics.segmentation_scores(confusion, scored, absent), name)


def border_means(scored: Sequence[int], absent: str) -> Score:
    """Border counts [..., 7, 3, c] -> the means over the scored classes [..., 9], in the order of `border_scores.NAMES`."""
    return lambda counts: border_scores.means(border_scores.border_scores(counts, scored, absent))


@dataclass(frozen=True)
class Difference:
    """a minus b. each: of every pair [pairs]. mean: over pairs. low, high: the interval's ends. p: of the sign-flip test.

    Of n scores at once, such as one a class, all but `each` are arrays [n], and `each` is [pairs, n].
    """

    each: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray

    def without_interval(self) -> Difference:
        nothing = np.full(np.shape(self.mean), np.nan)
        return dataclasses.replace(self, low=nothing, high=nothing)

    def of(self, place: int) -> Difference:
        """One of several scores."""
        return Difference(self.each[:, place], self.mean[place], self.low[place], self.high[place], self.p[place])


def paired(
    a: np.ndarray, b: np.ndarray, origins: Sequence[int], score: Score, *, draws: int = 4000, seed: int = 0
) -> Difference:
    """Difference of two arms whose runs are paired, on the same scenes.

    a, b: counts int [pairs, scenes, ...] that `score` takes once the scenes are summed. origins: which pre-trained network a
    pair starts from [pairs].
    The interval is the percentile interval (95 %) of a bootstrap of two levels drawn together: the runs, in two steps
    (pre-trained networks, then the pairs from each), and the scenes, the same for both arms and all pairs.
    """
    if a.shape != b.shape or a.ndim < 3 or len(a) != len(origins):
        raise ValueError(f"a is {a.shape}, b {b.shape} and origins {len(origins)}; both must be [pairs, scenes, ...]")
    pairs, scenes = a.shape[:2]
    random = np.random.default_rng(seed)
    each = score(a.sum(1)) - score(b.sum(1))
    weights = random.multinomial(scenes, np.full(scenes, 1 / scenes), draws).astype(np.float64)  # counts stay exact

    def resampled(counts: np.ndarray) -> np.ndarray:
        flat = counts.astype(np.float64).swapaxes(0, 1).reshape(scenes, -1)
        return score((weights @ flat).reshape(draws, pairs, *counts.shape[2:]))

    differences = resampled(a) - resampled(b)  # [draws, pairs, ...]
    taken = draw_pairs(random, np.asarray(origins), draws)
    rows = np.take_along_axis(differences, taken.reshape(*taken.shape, *(1,) * (differences.ndim - 2)), axis=1)
    means = _mean(rows, 1)
    tail = 100 * (1 - LEVEL) / 2
    low, high = _percentiles(means, (tail, 100 - tail))
    return Difference(each, _mean(each, 0), low, high, sign_flip(each))


def draw_pairs(random: np.random.Generator, origins: np.ndarray, draws: int) -> np.ndarray:
    """int [draws, pairs]: which pairs a resample takes: as many origins as there are, then of each as many of its pairs.

    Origins must have equally many pairs; where a study is cut short and they have not, each pair drawn stands for an
    origin drawn: len(origins) times an origin, then one of its pairs.
    """
    members = [np.flatnonzero(origins == origin) for origin in dict.fromkeys(origins.tolist())]
    sizes = {len(member) for member in members}
    if len(sizes) > 1:
        chosen = random.integers(len(members), size=(draws, len(origins)))
        within = random.random((draws, len(origins)))
    else:
        size = sizes.pop()
        chosen = np.repeat(random.integers(len(members), size=(draws, len(members))), size, axis=1)
        within = random.random((draws, len(members) * size))
    lengths = np.array([len(member) for member in members])
    table = np.zeros((len(members), lengths.max()), int)
    for row, member in zip(table, members, strict=True):
        row[: len(member)] = member
    return table[chosen, (within * lengths[chosen]).astype(int)]


def sign_flip(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of "the differences [pairs, ...] are as likely the other way round": over all 2^pairs signs, of more than
    EXACT_PAIRS pairs over 2^EXACT_PAIRS random ones, the same in every call, and the observed.

    Its smallest value is `smallest_p`. NaN with fewer than 2 pairs that are not NaN.
    """
    from scipy.stats import permutation_test

    def one(column: np.ndarray) -> float:
        column = column[~np.isnan(column)]
        if len(column) < 2:
            return float("nan")
        # SciPy pairs each value with its negative where it is given one sample, and takes all signs where they are no more
        # than n_resamples.
        most = 2**EXACT_PAIRS
        found = permutation_test(
            (column,), np.mean, permutation_type="samples", n_resamples=most, batch=4096, vectorized=True, rng=0
        )
        return float(found.pvalue)

    return np.apply_along_axis(one, 0, differences)


def smallest_p(pairs: int) -> float:
    """Which `sign_flip` can give of so many pairs."""
    return 2.0 ** (1 - pairs) if pairs <= EXACT_PAIRS else 2 / (2**EXACT_PAIRS + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p values [n]; NaN stays NaN and does not count."""
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Over what is not NaN; NaN where all is."""
    seen = ~np.isnan(values)
    total, count = np.where(seen, values, 0).sum(axis), seen.sum(axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _percentiles(values: np.ndarray, places: tuple[float, float]) -> np.ndarray:
    """Along the first axis, over what is not NaN; NaN where all is."""
    empty = np.isnan(values).all(0)
    found = np.nanpercentile(np.where(empty, 0.0, values), places, axis=0)
    return np.where(empty, np.nan, found)
