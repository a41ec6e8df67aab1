"""How a network sees images at evaluation: whole, or through a sliding window whose scores are blended.

Rows of class ids are given out as the window moves down a scene, so that memory holds one row of windows whatever the
scene's height, and never a scene's scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genseg.data.records import patches
from genseg.errors import UserError

if TYPE_CHECKING:  # the geometry of windows, which command lines read, needs no JAX
    import jax
    from jax.sharding import Mesh

MODES = ("whole", "slide")
BLENDS = ("uniform", "hann")

LARGEST_SCALE = 32  # an image 32 times as tall takes 1024 times the memory


@dataclass(frozen=True)
class Inference:
    """`mode`, `crop`, `stride`, `blend`, `flip` and `scales` of `config.eval`, and `config.augment.eval_multiple`.

    mode: "whole", or "slide": windows of `crop` (height, width) every `stride` (rows, columns) pixels, the last ones
    moved back to the border as in mmsegmentation; smaller images are padded to one window. blend: weight of a window's
    scores, "uniform" (mmsegmentation) or "hann" (less near the window's border). flip: also mirrored left to right.
    scales: image or window is seen resized by each factor (sides rounded to multiples of 32). multiple: whole images
    are padded to a multiple of this. All padding is at the bottom and right, with the bands' means.
    """

    mode: str
    crop: tuple[int, int]
    stride: tuple[int, int]
    blend: str
    flip: bool
    scales: tuple[float, ...]
    multiple: int

    def __post_init__(self):
        if self.mode not in MODES or self.blend not in BLENDS:
            raise UserError(f"config.eval.mode must be one of {MODES} and config.eval.blend one of {BLENDS}")
        if any(not 0 < s <= c for s, c in zip(self.stride, self.crop, strict=True)):
            raise UserError(
                f"the stride {self.stride} leaves gaps between windows of {self.crop} (crop); use 1 up to the crop's side"
            )
        if not self.scales or not all(0 < scale <= LARGEST_SCALE for scale in self.scales):
            raise UserError(
                f"config.eval.scales is {self.scales}; give factors above 0 and up to {LARGEST_SCALE}, (1.0,) for none"
            )

    @property
    def augmented(self) -> bool:
        """Whether an image is seen more than once (test-time augmentation)."""
        return self.flip or tuple(self.scales) != (1.0,)

    def describe(self) -> str:
        """One line to stand beside scores."""
        line = "whole images"
        if self.mode == "slide":
            crop, stride = (" x ".join(map(str, pair)) for pair in (self.crop, self.stride))
            line = f"windows of {crop} every {stride} pixels, {self.blend} blending"
        line += ", with flips" if self.flip else ", no flips"
        return line + (", single scale" if tuple(self.scales) == (1.0,) else f", scales {tuple(self.scales)}")

    def window(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the windows over a scene of this size."""
        if self.mode == "slide":
            return self.crop[0], self.crop[1]
        rows, columns = (-(-side // self.multiple) * self.multiple for side in (height, width))
        return rows, columns

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """(row, column) of every window over a scene, row by row."""
        if self.mode == "whole":
            return [(0, 0)]
        rows, columns = (patches.starts(*axis) for axis in zip((height, width), self.crop, self.stride, strict=True))
        return [(row, column) for row in rows for column in columns]


LEAST = np.float32(1e-30)
"""Far below any blend weight and any sum of probabilities: what is 0 where no window looked is divided by this."""


def blend_weights(height: int, width: int, blend: str) -> np.ndarray:
    """float32 [height, width], positive everywhere: 1, or Hann's window sin^2(pi (i + 1/2) / n) along both sides."""
    if blend == "uniform":
        return np.ones((height, width), np.float32)
    sides = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width)]
    return np.outer(*sides).astype(np.float32)


@dataclass(frozen=True)
class Rows:
    """Whole rows of an image that no later window touches: sums of windows' scores float32 [n, width, classes], each times
    the window's blend weight, and those weights' sums float32 [n, width]. Valid until the next rows are asked for."""

    first: int
    sums: np.ndarray
    weights: np.ndarray

    def ids(self) -> np.ndarray:
        """uint8 [n, width] class ids. Pixels are compared within themselves only: dividing by the weights changes nothing."""
        return self.sums.argmax(axis=-1).astype(np.uint8)

    def scores(self) -> np.ndarray:
        """float32 [n, width, classes]: the weighted mean of the windows' scores; 0 where every window was left out."""
        return self.sums / np.maximum(self.weights, LEAST)[..., None]


class Canvas:
    """Weighted sums of windows' scores over the rows that windows still touch: float32 [window height, width, classes].

    Windows come row by row from the top, in any order within a row; rows of windows may be left out.
    """

    def __init__(self, height: int, width: int, window: tuple[int, int], classes: int, blend: str):
        self._height, self._width, self._top = height, width, 0
        self._blend = blend_weights(*window, blend)[..., None]
        self._sums = np.zeros((window[0], max(width, window[1]), classes), np.float32)
        self._weights = np.zeros(self._sums.shape[:2], np.float32)

    def add(self, row: int, column: int, scores: np.ndarray) -> Iterator[Rows]:
        """Adds scores [h, w, classes] of the window at (row, column); gives out the rows above it, which no later
        window touches."""
        yield from self._give_out(row)
        self._sums[:, column : column + scores.shape[1]] += self._blend * scores
        self._weights[:, column : column + scores.shape[1]] += self._blend[..., 0]

    def rest(self) -> Iterator[Rows]:
        """The rows left when all windows have been added."""
        yield from self._give_out(self._height)

    def _give_out(self, until: int) -> Iterator[Rows]:
        # No more at a time than is held: where rows of windows were left out, the next one may begin far below.
        while (count := min(until - self._top, len(self._sums))) > 0:
            yield Rows(self._top, self._sums[:count, : self._width], self._weights[:count, : self._width])
            for held in (self._sums, self._weights):
                held[:-count] = held[count:]
                held[-count:] = 0
            self._top += count


def make_scorer(scores: Callable[..., jax.Array], local: Mesh) -> Callable[[Any, Any, np.ndarray], jax.Array]:
    """scorer(params, stats, pixels [b h w c]) -> scores [b h w classes], jitted and split over this process's devices.

    scores: (params, stats, image) -> scores, such as `Segment.scores`. params, stats: whole on `local`.
    """
    import jax

    from genseg import compiling, partition

    options = compiling.forward_options(local)
    step = jax.jit(scores, out_shardings=partition.batch_sharding(local), compiler_options=options)

    def scorer(params: Any, stats: Any, pixels: np.ndarray) -> jax.Array:
        with partition.use_mesh(local):
            return step(params, stats, partition.to_global({"image": pixels}, local)["image"])

    return scorer


def class_rows(
    images: Iterable[tuple[Any, Any]], score: Callable[[np.ndarray], Any], *, inference: Inference, classes: int,
    batch: int, fill: np.ndarray,
) -> Iterator[tuple[Any, int, np.ndarray]]:  # fmt: skip
    """Class ids of a stream of images, in pieces of whole rows: (key, first row, uint8 [n, width]), top to bottom. See
    `score_rows`."""
    groups = window_groups(images, inference=inference, classes=classes, batch=batch, fill=fill)
    for key, rows in score_rows(groups, score, batch=batch):
        yield key, rows.first, rows.ids()


def window_groups(
    images: Iterable[tuple[Any, Any]], *, inference: Inference, classes: int, batch: int, fill: np.ndarray,
    failed: Callable[[Any, UserError], None] | None = None,
) -> Iterator[list[Window]]:  # fmt: skip
    """The windows of a stream of images, at most `batch` of one shape together; those of several images share a group.

    Args:
      images: (key, image [h w c]); an image is an array, or anything with `shape` that gives arrays when it is sliced. Where
        its `empty`, if it has one, says of the slices just read that nothing is to be seen there, the window is left out.
      fill: [c], value of padding.
      failed: called with the key and the UserError of an image that cannot be read, whose other windows are then left
        out; None: the error is raised.
    """
    group: list[Window] = []
    for window in _cut(images, inference, classes, fill, failed):
        if group and (len(group) == batch or group[0].pixels.shape != window.pixels.shape):
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def score_rows(
    groups: Iterable[list[Window]], score: Callable[[np.ndarray], Any], *, batch: int
) -> Iterator[tuple[Any, Rows]]:
    """Blended scores of the images whose windows come in `groups`: (key, rows), top to bottom.

    Args:
      score: [batch h w c] as stored -> scores [batch h w classes].
      batch: windows at a time; a smaller group is filled up with copies.
    """
    waiting: list[tuple[list, Any]] = []
    for group in groups:
        pixels = [window.pixels for window in group]
        scores = score(np.stack(pixels + pixels[-1:] * (batch - len(pixels))))
        waiting.append((group, scores))
        # Read one batch late, so that the device computes this batch while the host blends the last.
        if len(waiting) > 1:
            yield from _blended(*waiting.pop(0))
    for group, scores in waiting:
        yield from _blended(group, scores)


@dataclass(frozen=True)
class Window:
    """A window of the image `key` at (row, column), pixels [h w c]; `last` of its image."""

    key: Any
    canvas: Canvas
    row: int
    column: int
    pixels: np.ndarray
    last: bool


def _cut(
    images: Iterable[tuple[Any, Any]], inference: Inference, classes: int, fill: np.ndarray,
    failed: Callable[[Any, UserError], None] | None,
) -> Iterator[Window]:  # fmt: skip
    for key, image in images:
        height, width = image.shape[:2]
        h, w = inference.window(height, width)
        canvas = Canvas(height, width, (h, w), classes, inference.blend)
        places, empty = inference.places(height, width), getattr(image, "empty", None)
        for row, column in places:
            try:
                pixels = image[row : row + h, column : column + w]
            except UserError as error:
                if failed is None:
                    raise
                failed(key, error)
                break
            last = (row, column) == places[-1]  # never left out: it gives out the rest
            if not last and empty is not None and empty((slice(row, row + h), slice(column, column + w))):
                continue
            if pixels.shape[:2] != (h, w):
                whole = np.empty((h, w, pixels.shape[2]), pixels.dtype)
                whole[:] = fill
                whole[: pixels.shape[0], : pixels.shape[1]] = pixels
                pixels = whole
            yield Window(key, canvas, row, column, pixels, last)


def _blended(group: list[Window], scores: Any) -> Iterator[tuple[Any, Rows]]:
    scores = np.asarray(scores, np.float32)
    for window, values in zip(group, scores, strict=False):
        for rows in window.canvas.add(window.row, window.column, values):
            yield window.key, rows
        if window.last:
            for rows in window.canvas.rest():
                yield window.key, rows
