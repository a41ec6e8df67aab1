"""Band statistics: counts, means, spreads and ranges of pixels, added up over images of any size."""

import dataclasses
import functools
import operator

import numpy as np

_STRIP = 1 << 20  # pixels that are counted at a time


@dataclasses.dataclass(frozen=True)
class Moments:
    """Pixel count, mean, sum of squared deviations, minimum and maximum a band: float64 [c] each."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, measured: np.ndarray | None = None) -> "Moments":
        """Of an image [h w c]; `measured` bool [h w c] leaves out pixels without a value.

        Taken in strips: counting widens values to 64 bits, eight times the memory of a scene."""
        height = max(1, _STRIP // image.shape[1])
        strips = [slice(top, top + height) for top in range(0, image.shape[0], height)]
        parts = (cls._of(image[s], None if measured is None else measured[s]) for s in strips)
        return functools.reduce(operator.add, parts)

    @classmethod
    def _of(cls, image: np.ndarray, measured: np.ndarray | None) -> "Moments":
        rows = []
        for band in range(image.shape[2]):
            values = image[..., band] if measured is None else image[..., band][measured[..., band]]
            if values.size == 0:
                rows.append((0.0, 0.0, 0.0, np.inf, -np.inf))
            elif values.dtype == np.uint8:
                counts = np.bincount(values.ravel(), minlength=256)
                levels = np.arange(256.0)
                mean = counts @ levels / values.size
                present = np.flatnonzero(counts)
                rows.append((values.size, mean, counts @ (levels - mean) ** 2, present[0], present[-1]))
            else:
                mean = values.mean(dtype=np.float64)
                squares = np.square(values - mean, dtype=np.float64).sum()
                rows.append((values.size, mean, squares, values.min(), values.max()))
        return cls(*np.array(rows, np.float64).T)

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
        )
