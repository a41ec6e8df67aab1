"""Band statistics: counts, means, spreads and ranges of pixels, added up over images of any size, without wild values.

A value of more than 8 bits is wild if it lies further beyond the bulk of its band than `REACH` times the bulk's width. The
bulk is what is left without the `SHARE` smallest and largest values (of few values: 16, at most a hundredth). A bulk of a
single value has no width; then only what is a million times as large as it (or as 1) is wild. So values that are left in
move a mean by at most SHARE (1 + REACH) widths a side, and where none is wild all numbers are those of all values.

Which values are wild is known only at the end. So values are also added up in bins, by sign, exponent and seven bits of
mantissa, each with its own exact count, mean, spread and range: leaving out bins leaves exact statistics of the rest.
"""

import dataclasses
import functools
import operator

import cv2
import numpy as np

SHARE, FEW, MOST = 0.001, 16, 0.01
REACH = 3.0
_STRIP = 1 << 20  # pixels that are counted at a time


@dataclasses.dataclass(frozen=True)
class Bins:
    """Of neighbouring values: key int64 [k], ascending with the values; count, mean, squares, low, high: float64 [k]."""

    key: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Bins":
        """Of values of any shape, none of them NaN or infinite."""
        ordered = np.sort(values, axis=None)
        with np.errstate(over="ignore"):
            bits = ordered.astype(np.float32).view(np.int32)
        key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16  # as floats are ordered
        first = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
        wide, count = ordered.astype(np.float64), np.diff(first, append=len(key))
        mean = np.add.reduceat(wide, first) / count
        squares = np.add.reduceat((wide - np.repeat(mean, count)) ** 2, first)
        last = first + count - 1
        return cls(key[first].astype(np.int64), count.astype(np.float64), mean, squares, wide[first], wide[last])

    def __add__(self, other: "Bins") -> "Bins":
        both = [
            np.concatenate(pair) for pair in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        ]
        order = np.argsort(both[0], kind="stable")
        key, count, mean, squares, low, high = (values[order] for values in both)
        first = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
        total = np.add.reduceat(count, first)
        centre = np.add.reduceat(count * mean, first) / total
        away = mean - np.repeat(centre, np.diff(first, append=len(key)))
        return Bins(
            key[first], total, centre, np.add.reduceat(squares + count * away**2, first),
            np.minimum.reduceat(low, first), np.maximum.reduceat(high, first),
        )  # fmt: skip

    def wild(self) -> np.ndarray:
        """bool [k]: bins of wild values alone."""
        total = self.count.sum()
        outside = min(max(SHARE * total, FEW), MOST * total)
        low = self.low[np.argmax(np.cumsum(self.count) > outside)]
        high = self.high[::-1][np.argmax(np.cumsum(self.count[::-1]) > outside)]
        reach = REACH * (high - low) if high > low else 1e6 * max(1.0, abs(low))
        return (self.low > high + reach) | (self.high < low - reach)

    def all_but(self, left_out: np.ndarray) -> tuple[float, float, float, float, float]:
        """count, mean, squares, low, high of the other bins together."""
        count, mean = self.count[~left_out], self.mean[~left_out]
        centre = count @ mean / count.sum()
        squares = self.squares[~left_out].sum() + count @ (mean - centre) ** 2
        return count.sum(), centre, squares, self.low[~left_out].min(), self.high[~left_out].max()


@dataclasses.dataclass(frozen=True)
class Wild:
    """Values of one band that are left out of its statistics: how many, of how many, and the one farthest from its mean."""

    band: int
    count: int
    total: int
    farthest: float


@dataclasses.dataclass(frozen=True)
class Moments:
    """Pixel count, mean, sum of squared deviations, minimum and maximum a band: float64 [c] each, of all values; bins: of
    each band, None for 8 bits and for no values. What statistics are is `settled`."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bins: tuple[Bins | None, ...]

    @classmethod
    def of(cls, image: np.ndarray, measured: np.ndarray | None = None) -> "Moments":
        """Of an image [h w c]; `measured` bool [h w c] leaves out pixels without a value; NaN and infinities never count.

        Taken in strips: counting widens values to 64 bits, eight times the memory of a scene."""
        height = max(1, _STRIP // image.shape[1])
        strips = [slice(top, top + height) for top in range(0, image.shape[0], height)]
        parts = (cls._of(image[s], None if measured is None else measured[s]) for s in strips)
        return functools.reduce(operator.add, parts)

    @classmethod
    def _of(cls, image: np.ndarray, measured: np.ndarray | None) -> "Moments":
        rows, bins = [], []
        for band in range(image.shape[2]):
            values = image[..., band] if measured is None else image[..., band][measured[..., band]]
            if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
                values = values[finite]
            bins.append(Bins.of(values) if values.size and values.dtype != np.uint8 else None)
            if values.size == 0:
                rows.append((0.0, 0.0, 0.0, np.inf, -np.inf))
            elif values.dtype == np.uint8:
                # A quarter of np.bincount's time; its float32 counts are exact below 2^24, and a strip has 2^20 pixels or one row.
                counts = cv2.calcHist([np.atleast_2d(values)], [0], None, [256], [0, 256]).ravel().astype(np.float64)
                levels = np.arange(256.0)
                mean = counts @ levels / values.size
                present = np.flatnonzero(counts)
                rows.append((values.size, mean, counts @ (levels - mean) ** 2, present[0], present[-1]))
            else:
                mean = values.mean(dtype=np.float64)
                squares = np.square(values - mean, dtype=np.float64).sum()
                rows.append((values.size, mean, squares, values.min(), values.max()))
        return cls(*np.array(rows, np.float64).T, tuple(bins))

    def __add__(self, other: "Moments") -> "Moments":
        """Chan, Golub and LeVeque 1979: exact pooling, stable where a sum of squares is not."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * share,
            self.squares + other.squares + delta**2 * self.count * share,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            tuple(a + b if a and b else a or b for a, b in zip(self.bins, other.bins, strict=True)),
        )

    def settled(self) -> tuple["Moments", tuple[Wild, ...]]:
        """Without wild values, and what was left out."""
        rows, found = np.array([self.count, self.mean, self.squares, self.low, self.high]), []
        for band, bins in enumerate(self.bins):
            if bins is None or not (wild := bins.wild()).any():
                continue
            rows[:, band] = bins.all_but(wild)
            ends = max((bins.low[wild].min(), bins.high[wild].max()), key=lambda v, band=band: abs(v - rows[1, band]))
            found.append(Wild(band, int(bins.count[wild].sum()), int(self.count[band]), float(ends)))
        return Moments(*rows, self.bins), tuple(found)
