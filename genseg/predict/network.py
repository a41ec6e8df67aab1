"""The network of a checkpoint, ready to score windows on this process's devices; scenes as it takes them."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, memory, partition, tasks, windows
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.files.rasters import Raster
from genseg.data.files.validity import beside_others, measured_pixels, of_files
from genseg.errors import UserError


class Measured:
    """A raster as the network takes it: values that are no measurement are the band's mean.

    dtype: of its pixels, the training data's where that holds every value of the raster, else float32: a network sees values,
    whatever type they were stored in.
    What rows that were read hold of measurements is kept until `measured` asks, and every `every`-th pixel of them (0: none)
    for `thumbnail`, so that a scene is decoded once. Rows are to be read top to bottom, by one thread; `measured` may be called
    from another. inside: (first, end) -> bool [end - first, width], pixels of those rows that get a class; None: all.
    """

    def __init__(self, raster: Raster, card: DatasetCard, order: Sequence[int] = (), note: str = ""):
        """order: of the raster's bands, from 0, the card's; () as they are. note: for `notes`. Raises: UserError unless band
        count is that of the card."""
        name = " + ".join(map(str, raster.paths))
        order = list(order) or list(range(raster.shape[2]))
        if len(order) != card.channels:
            raise UserError(
                f"{name} has {len(order)} band(s), but the network takes {card.channels} "
                f"({', '.join(b.name for b in card.bands)}): join files by '+', or pick bands by FILE:1,2,3."
            )
        self.dtype = np.dtype(card.dtype if np.can_cast(raster.dtype, card.dtype, "safe") else "float32")
        self.every, self._note_of_bands = 0, note
        self.inside: Callable[[int, int], np.ndarray] | None = None
        self._inside_rows, self._inside = range(0), np.empty(0)
        self.shape, self.placed = (*raster.shape[:2], len(order)), raster.placed
        bands = zip(card.bands, (raster.nodata[i] for i in order), strict=True)
        self.card = dataclasses.replace(
            card, bands=tuple(b if v is None else dataclasses.replace(b, nodata=v) for b, v in bands)
        )
        self._raster, self._order, self._bands = _beside_others(raster, order, self.card, self.dtype)
        self._taken = () if self._order == [*range(self._raster.shape[2])] else tuple(self._order)
        self._rows, self._strip = range(0), np.empty(0)
        self._seen = 0
        self._masks: collections.deque[tuple[int, Any]] = collections.deque()  # rows, [rows w]
        self._thumbnail: list[np.ndarray] = []

    def _pixels(self, place: tuple[slice, slice]) -> np.ndarray:
        """[h w r] of `dtype`, nothing filled: all bands that say what is a measurement, in the raster's order."""
        return self._raster[place].astype(self.dtype, copy=False)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        rows = range(*place[0].indices(self.shape[0]))
        if rows != self._rows:
            pixels = self._pixels((place[0], slice(None))).view()
            pixels.flags.writeable = False  # the raster hands it out again
            valid = self._raster.valid(rows.start, rows.stop, self._order)
            self._note(pixels, rows, valid)
            strip = pipeline.filled(pixels, self.card, self._bands, self._taken)
            if valid is not None:
                strip = np.where(valid[..., None], strip, self.card.fill.astype(strip.dtype))
            self._rows, self._strip = rows, strip
        return self._strip[:, place[1]]

    def empty(self, place: tuple[slice, slice]) -> bool:
        """Whether no pixel of a window, whose rows were just read, gets a class: none is inside, or none holds a measurement
        in any band. The network need not see it."""
        rows, columns = range(*place[0].indices(self.shape[0])), place[1]
        if self.inside is not None:
            if rows != self._inside_rows:
                self._inside_rows, self._inside = rows, self.inside(rows.start, rows.stop)
            if not self._inside[:, columns].any():
                return True
        seen, fill = self[place], self.card.fill.astype(self._strip.dtype)
        if not np.array_equal(seen[0, 0], fill) or not np.array_equal(seen, np.broadcast_to(fill, seen.shape)):
            return False
        # Nothing but the fill; a scene may hold that value as a measurement.
        measured = measured_pixels(self._pixels((place[0], slice(None))), self._bands, self._taken)
        valid = self._raster.valid(rows.start, rows.stop, self._order)
        counts = np.ones((len(rows), self.shape[1]), bool)
        for mask in (None if measured is None else measured.all(axis=2), valid):
            counts = counts if mask is None else counts & mask
        return not counts[:, columns].any()

    def _note(self, pixels: np.ndarray, rows: range, valid: np.ndarray | None) -> None:
        old = max(self._seen - rows.start, 0)
        new = pixels[old:]
        if not len(new):
            return
        first = rows.stop - len(new)
        measured = measured_pixels(new, self._bands, self._taken)
        found = None if measured is None else measured.all(axis=2)
        if valid is not None:
            found = valid[old:] if found is None else found & valid[old:]
        self._masks.append((len(new), found))
        if self.every:
            thinned = new[-first % self.every :: self.every, :: self.every]
            self._thumbnail.append(pipeline.picked_bands(thinned, self._taken).copy())
        self._seen = rows.stop

    def measured(self, first: int, end: int) -> np.ndarray | None:
        """bool [end - first, width]: pixels that hold a measurement in every band; None if all do. To be asked once for each
        row, top to bottom, after it has been read."""
        parts, wanted = [], end - first
        while wanted:
            count, mask = self._masks.popleft()
            taken = min(count, wanted)
            parts.append(np.ones((taken, self.shape[1]), bool) if mask is None else mask[:taken])
            if taken < count:
                self._masks.appendleft((count - taken, None if mask is None else mask[taken:]))
            wanted -= taken
        mask = np.concatenate(parts)
        return None if mask.all() else mask

    @property
    def thumbnail(self) -> np.ndarray:
        """[ceil(h / every), ceil(w / every), c] as stored, once all rows have been read."""
        return np.concatenate(self._thumbnail)

    def _other_scales(self) -> list[str]:
        found = []
        for band, place in zip(self.card.bands, self._order, strict=True):
            here, then = self._raster.scales[place], band.scale or (1.0, 0.0)
            if here != then:
                trained = (
                    f"were {then[0]:g} and {then[1]:g} in training" if band.scale else "none are known of training"
                )
                found.append(
                    f"{band.name} has scale and offset {here[0]:g} and {here[1]:g} here, and {trained} (values are read as stored)"
                )
        return found

    def notes(self) -> list[str]:
        """Sentences for people on what may be wrong with the scene: names of bands, units."""
        units = [f"{sentence}; give the units of the training images." for sentence in self.strange()]
        return [self._note_of_bands, *units] if self._note_of_bands else units

    def strange(self, strips: int = 8, rows: int = 4) -> list[str]:
        """A sentence on a type that cannot be that of the training data, and one for each band whose values lie far outside
        those of training, in other units most likely, or whose file states another scale or offset.

        Seen are `strips` strips of `rows` rows. Far: the middle 98 % reach further beyond the training range than its
        width, or fill less than a fiftieth of it somewhere outside its middle half.
        """
        height, found = self.shape[0], self._other_scales()
        if self.dtype != self.card.dtype:
            found.insert(
                0, f"its values are read as {self.dtype} and taken as they are, and training had {self.card.dtype}"
            )
        starts = sorted({int(r) for r in np.linspace(0, max(height - rows, 0), strips)})
        pixels = np.concatenate([self._pixels((slice(r, r + rows), slice(None))) for r in starts])
        seen, measured = pipeline.picked_bands(pixels, self._taken), measured_pixels(pixels, self._bands, self._taken)
        valid = [self._raster.valid(r, min(r + rows, height), self._order) for r in starts]
        if any(part is not None for part in valid):
            whole = [np.ones((min(rows, height - r), seen.shape[1]), bool) for r in starts]
            kept = np.concatenate([w if v is None else v for v, w in zip(valid, whole, strict=True)])[..., None]
            measured = np.broadcast_to(kept, seen.shape) if measured is None else measured & kept
        for i, band in enumerate(self.card.bands):
            values = seen[..., i] if measured is None else seen[..., i][measured[..., i]]
            width = band.high - band.low
            if width <= 0 or not values.size:
                continue
            low, high = (float(v) for v in np.percentile(values, (1, 99)))
            beyond = low < band.low - width or high > band.high + width
            flat = high - low < width / 50 and not band.low + width / 4 < low < band.high - width / 4
            if beyond or flat:
                found.append(
                    f"{band.name} is {low:g} .. {high:g} here (98 % of values), and was {band.low:g} .. {band.high:g} in "
                    f"training"
                )
        return found


def _beside_others(
    raster: Raster, order: list[int], card: DatasetCard, dtype: np.dtype
) -> tuple[Raster, list[int], tuple[Band, ...]]:
    """The raster with the bands that decide with the network's what is a measurement; where the network's bands are in it;
    and its bands with nodata value and file. order: of the raster's bands, the card's. dtype: of the pixels.

    A value of the card counts where a file states none, and then as if the file stated it: for its other bands too."""
    values: dict[int, float | None] = {}  # of files whose other bands are looked at: what counts where these state none
    for band, place in zip(card.bands, order, strict=True):
        if beside_others(band, dtype):
            values[raster.files[place]] = band.nodata if raster.nodata[place] is None else None
    whole, order = raster.with_others(order, values)
    bands = {place: band for band, place in zip(card.bands, order, strict=True)}
    for place, (file, stated, opacity) in enumerate(zip(whole.files, whole.nodata, whole.alpha, strict=True)):
        value = None if opacity or file not in values else values[file] if stated is None else stated
        bands.setdefault(place, Band("", nodata=value))
    return whole, order, of_files([bands[i] for i in range(len(bands))], whole.files, dtype)


class Predictor:
    """The network of a checkpoint, ready to draw class maps on this process's devices, which share every batch."""

    def __init__(self, weights: checkpoints.Weights, inference: windows.Inference, batch: int):
        """batch: windows at a time; 0 = 4 a device. Raises: UserError if it does not divide over the devices."""
        local = partition.local_mesh()
        self.batch = batch or 4 * local.size
        partition.check_batch(self.batch, local)
        if inference.mode == "slide":
            size = self.batch * math.prod(inference.crop) * 4 * (weights.card.channels + len(weights.card.classes))
            what = f"a batch of {self.batch} windows of {inference.crop[0]} x {inference.crop[1]} (--batch, --crop)"
            memory.refuse_beyond(size, what, "lower them")
        config = ConfigDict(weights.config)
        config.eval.update({k: v for k, v in dataclasses.asdict(inference).items() if k != "multiple"})
        self.card, self.inference = weights.card, inference
        self._scorer = windows.make_scorer(tasks.build_segment(config, weights.card).scores, local)
        self._params, self._stats = partition.replicate((weights.params, weights.stats), local)
        self.nodata = 255 if self.card.ignore_label is None else self.card.ignore_label

    def score(self, pixels: np.ndarray) -> jax.Array:
        """[batch h w c] as stored -> float32 [batch h w classes]: logits, or with flips or scales probabilities."""
        return self._scorer(self._params, self._stats, pixels)

    def groups(
        self, images: Iterable[tuple[Any, Measured]], failed: Callable[[Any, UserError], None] | None = None
    ) -> Iterator[list[windows.Window]]:
        """The windows of scenes, in batches that several scenes share."""
        return windows.window_groups(
            images, inference=self.inference, classes=len(self.card.classes), batch=self.batch, fill=self.card.fill,
            failed=failed,
        )  # fmt: skip

    def score_rows(self, groups: Iterable[list[windows.Window]]) -> Iterator[tuple[Any, windows.Rows]]:
        """(key, rows) of the scenes whose windows come."""
        return windows.score_rows(groups, self.score, batch=self.batch)

    def rows(self, raster: Raster) -> Iterator[np.ndarray]:
        """uint8 [n, width] class ids from top to bottom; `nodata` where nothing was measured."""
        image = Measured(raster, self.card)
        for _, rows in self.score_rows(self.groups([(None, image)])):
            ids = rows.ids()
            measured = image.measured(rows.first, rows.first + len(ids))
            yield ids if measured is None else np.where(measured, ids, np.uint8(self.nodata))

    def probabilities(self, rows: windows.Rows) -> np.ndarray:
        """float32 [n, width, classes], sum 1: softmax of the blended logits, or the blended probabilities."""
        scores = rows.scores()
        if self.inference.augmented:
            return scores / np.maximum(scores.sum(axis=-1, keepdims=True), windows.LEAST)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return scores / scores.sum(axis=-1, keepdims=True)
