"""A pass over a split: scores, per-class table, confusion picture, sample panels.

evaluation = Evaluation(task, data, mesh)      # of an `inputs.Inputs`; compiled steps are kept
counts = evaluation(params, stats)             # int64 counts, the same in every process
scores = task.summarize(counts)
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genseg import border_scores, compiling, inputs, metrics, outputs, partition, scene_borders, windows
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.records import patches
from genseg.errors import CorruptFile
from genseg.report import drawing, lines, tables, writing
from genseg.tasks import Pretrain, Segment, Task

logger = logging.getLogger(__name__)

Counts = dict[str, np.ndarray]
"""Of pre-training: as `task.eval_step`. Of segmentation int64 [classes, classes]: "confusion" over all records;
"confusion_NAME" of each of the card's groups; where records are cut from scenes "confusion_stitched" with each pixel
of a scene once, and "scene:NAME" of each scene likewise; elsewhere "records" int64 [records, classes, classes]. Border
counts int64 [7, 3, classes] (`border_scores`), each pixel of a scene once: "borders", "borders_NAME" of each group, and
"scene_borders" [scenes, 7, 3, classes], scenes in the order of their first records."""


@dataclass(frozen=True)
class Parts:
    """What of a split is scored apart.

    groups: name -> bool [records]. scenes: scene of each record. own: int32 [records, 4], the part of each record that
    belongs to no other record of its scene: first row, last row + 1, first column, last column + 1. cut: whether some
    scene has several records.

    Where records of a scene overlap, a pixel belongs to the one whose centre is nearest, along rows and along columns:
    the most central patch. Then every pixel counts once, in any order of records and without a scene in memory.
    """

    groups: dict[str, np.ndarray]
    scenes: tuple[str, ...]
    own: np.ndarray
    cut: bool

    @classmethod
    def of(cls, split: pipeline.Split) -> Parts:
        starts: dict[str, tuple[set, set]] = {}
        for place in split.places:
            rows, columns = starts.setdefault(place.scene, (set(), set()))
            rows.add(place.row)
            columns.add(place.column)
        own = np.array(
            [
                (
                    *patches.central(starts[place.scene][0], place.row, place.height),
                    *patches.central(starts[place.scene][1], place.column, place.width),
                )
                for place in split.places
            ],
            np.int32,
        )
        names = [place.file_name for place in split.places]
        return cls(split.card.members(names), tuple(place.scene for place in split.places), own, len(starts) < len(own))


class _Tally:
    """int64 sums of confusion counts over a split and its parts."""

    def __init__(self, parts: Parts, classes: int):
        self._parts = parts
        names = ["confusion", *(f"confusion_{name}" for name in parts.groups)]
        if parts.cut:
            names += ["confusion_stitched", *(f"scene:{name}" for name in dict.fromkeys(parts.scenes))]
        self.counts: Counts = {name: np.zeros((classes, classes), np.int64) for name in names}
        if not parts.cut:
            self.counts["records"] = np.zeros((len(parts.scenes), classes, classes), np.int64)
        self._place = {scene: place for place, scene in enumerate(dict.fromkeys(parts.scenes))}
        form = (len(border_scores.COUNTS), len(border_scores.DISTANCES), classes)
        self.counts |= {name: np.zeros(form, np.int64) for name in ("borders", *(f"borders_{n}" for n in parts.groups))}
        self.counts["scene_borders"] = np.zeros((len(self._place), *form), np.int64)

    def add(self, index: int, confusion: np.ndarray, owned: np.ndarray | None) -> None:
        """Counts of (a piece of) the record at `index`, and of its own pixels where records are cut from scenes."""
        self.counts["confusion"] += confusion
        for name, members in self._parts.groups.items():
            if members[index]:
                self.counts[f"confusion_{name}"] += confusion
        if self._parts.cut:
            self.counts["confusion_stitched"] += owned
            self.counts[f"scene:{self._parts.scenes[index]}"] += owned
        else:
            self.counts["records"][index] += confusion

    def add_borders(self, index: int, borders: np.ndarray) -> None:
        """Border counts of the own pixels of the record at `index`."""
        self.counts["borders"] += borders
        for name, members in self._parts.groups.items():
            if members[index]:
                self.counts[f"borders_{name}"] += borders
        self.counts["scene_borders"][self._place[self._parts.scenes[index]]] += borders


class Evaluation:
    """A pass over the evaluation split of `data`, to be repeated with any weights: evaluation(params, stats) -> Counts.

    params, stats: arrays on `mesh`, sharded or not. Whole images are counted on the devices, in global batches; with a
    sliding window each process takes its own records at its own pace, on its own devices.
    """

    def __init__(self, task: Task, data: inputs.Inputs, mesh: Mesh, between: Callable[[], None] = lambda: None):
        """between: called between batches, or with a sliding window between records, equally often in every process;
        what it raises ends the pass."""
        self.task, self._data, self._mesh, self._between = task, data, mesh, between
        self._step = make_step(task, mesh)
        self._local = partition.local_mesh()
        if isinstance(task, Segment):
            self._parts = Parts.of(data.eval_split)
            self._record_step = _make_record_step(task, mesh)
            self._scorer = windows.make_scorer(task.scores, self._local)
            self._batch = max(data.config.eval.batch_size // partition.process_count(), 1)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Of each record of a segmentation split: the image that it is, or is cut from."""
        return self._parts.scenes

    def __call__(self, params: Any, stats: Any) -> Counts:
        if isinstance(self.task, Segment) and self.task.inference.mode == "slide":
            return self._slide(params, stats)
        with partition.use_mesh(self._mesh):
            if isinstance(self.task, Segment):
                return self._whole(params, stats)
            return run(self._step, params, stats, self._batches(), self._mesh)

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self._data.eval_batches():
            self._between()
            yield batch

    def _records(self) -> Iterator[dict[str, Any]]:
        calls = -(-len(self._data.eval_split) // partition.process_count())
        for record in self._data.eval_records():
            self._between()
            calls -= 1
            yield record
        for _ in range(calls):  # this process had fewer records than another
            self._between()

    def _whole(self, params: Any, stats: Any) -> Counts:
        tally = _Tally(self._parts, len(self.task.card.classes))

        def add(counts: dict[str, jax.Array]) -> None:
            rows = partition.to_host(counts)
            owned = rows.get("owned", [None] * len(rows["index"]))
            for index, confusion, own, borders in zip(
                rows["index"], rows["confusion"], owned, rows["borders"], strict=True
            ):
                if index >= 0:
                    tally.add(index, confusion, own)
                    tally.add_borders(index, borders)

        previous = None
        for batch in self._batches():
            if self._parts.cut:
                batch["own"] = self._parts.own[batch["index"]]
            counts = self._record_step(params, stats, partition.to_global(batch, self._mesh))
            if previous is not None:
                add(previous)
            previous = counts
        if previous is not None:
            add(previous)
        return tally.counts

    def _slide(self, params: Any, stats: Any) -> Counts:
        card, classes = self.task.card, len(self.task.card.classes)
        tally = _Tally(self._parts, classes)
        records = ((record, record["image"]) for record in self._records())
        for record, row, ids, whole in scene_borders.with_whole_maps(self._class_rows(params, stats, records)):
            if whole is not None:
                truth = record["label"]
                counted = np.ones(truth.shape, bool) if card.ignore_label is None else truth != card.ignore_label
                own = self._parts.own[record["index"]] if self._parts.cut else (0, truth.shape[0], 0, truth.shape[1])
                with partition.use_mesh(self._local):
                    borders = scene_borders.map_border_counts(whole, truth, counted, classes, own)
                tally.add_borders(record["index"], borders)
            label = record["label"][row : row + len(ids)]
            valid = np.ones(label.shape, bool) if card.ignore_label is None else label != card.ignore_label
            owned = None
            if self._parts.cut:
                top, bottom, left, right = self._parts.own[record["index"]]
                inside = np.zeros(label.shape, bool)
                inside[max(top - row, 0) : max(bottom - row, 0), left:right] = True
                owned = metrics.count(ids, label, valid & inside, classes)
            tally.add(record["index"], metrics.count(ids, label, valid, classes), owned)
        return partition.sum_over_processes(tally.counts)

    def _class_rows(self, params: Any, stats: Any, images: Iterable[tuple[Any, np.ndarray]]) -> Iterable:
        params, stats = partition.to_local((params, stats), self._mesh, self._local)
        return windows.class_rows(
            images, lambda pixels: self._scorer(params, stats, pixels), inference=self.task.inference,
            classes=len(self.task.card.classes), batch=self._batch, fill=self.task.card.fill,
        )  # fmt: skip

    def panels(self, params: Any, stats: Any, samples: int, records: Sequence[int] = ()) -> np.ndarray:
        """uint8 [h, w, 3]: bands, truth and prediction of the first `samples` records, or of `records`. Every process must
        call it.

        Where config.data.skip_corrupt allows them, an undecodable record's place is taken by the next one of the split, or
        of its scene. Raises: CorruptFile where it does not."""
        if records:
            chosen = [record for i in records for record in itertools.islice(self._decoded(self._of_scene(i)), 1)]
        else:
            chosen = list(itertools.islice(self._decoded(range(len(self._data.eval_split))), samples))
        predictions = [np.zeros(record["label"].shape, np.uint8) for record in chosen]
        for place, row, ids in self._class_rows(params, stats, ((i, r["image"]) for i, r in enumerate(chosen))):
            predictions[place][row : row + len(ids)] = ids
        images, labels = [r["image"] for r in chosen], [r["label"] for r in chosen]
        return drawing.sample_panel(images, labels, predictions, self.task.card)

    def _of_scene(self, index: int) -> list[int]:
        """The records of a record's scene from it on, and then those before it."""
        own = [i for i, scene in enumerate(self.scenes) if scene == self.scenes[index]]
        return [i for i in own if i >= index] + [i for i in own if i < index]

    def _decoded(self, places: Iterable[int]) -> Iterator[dict[str, Any]]:
        # What was met in the pass is no help: it is noted in the worker, or in the process, that read the record, and all
        # processes must take the same ones. Nor is anything counted: the pass did, and its scores must not be lost.
        for place in places:
            try:
                yield self._data.eval_split.decode(place)
            except CorruptFile:
                if not self._data.config.data.skip_corrupt:
                    raise


def make_step(task: Task, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """The jitted `task.eval_step`; counts come back whole on every device."""

    def step(params, stats, batch):
        return task.eval_step(partition.gathered(params), stats, batch)

    return jax.jit(step, out_shardings=partition.replicated(mesh), compiler_options=compiling.forward_options(mesh))


def _make_record_step(task: Segment, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """The jitted `task.record_counts`, with the records' places in the split; whole on every device."""

    def step(params, stats, batch):
        counts = task.record_counts(partition.gathered(params), stats, batch)
        return {**counts, "index": batch["index"]}

    return jax.jit(step, out_shardings=partition.replicated(mesh), compiler_options=compiling.forward_options(mesh))


def run(step: Callable, params: Any, stats: Any, batches: Iterable, mesh: Mesh) -> Counts:
    """Counts summed over all batches, int64. `batches` are this process's parts, equally many in each process."""
    total: Counts = {}
    previous = None
    for batch in batches:
        counts = step(params, stats, partition.to_global(batch, mesh))
        # Read one batch late, so that the device computes this batch while the host adds the last.
        if previous is not None:
            _add(total, previous)
        previous = counts
    if previous is not None:
        _add(total, previous)
    return total


def _add(total: Counts, counts: dict[str, jax.Array]) -> None:
    for name, value in partition.to_host(counts).items():
        total[name] = total.get(name, 0) + value.astype(np.int64)


def write_scene_counts(path: Path, counts: Counts, scenes: Sequence[str], card: DatasetCard, step: int) -> None:
    """What scores are resampled from (`genseg.study`), as .npz: "scenes" str [s], "confusion" int64 [s, classes, classes],
    "borders" int64 [s, 7, 3, classes] (`border_scores`), "classes" str, "scored" int, "absent" str and "step". Over scenes
    the confusions sum to "confusion" or, where records are cut from scenes, to "confusion_stitched".

    scenes: of each record, `Evaluation.scenes`.
    """
    names, whole = scene_counts(counts, scenes)
    with outputs.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, scenes=np.array(names), confusion=whole, borders=counts["scene_borders"], classes=np.array(card.classes),
            scored=np.array(card.scored), absent=card.absent, step=step,
        )  # fmt: skip


def write_details(
    task: Task, counts: Counts, pictures: Path, writers: writing.Writers, step: int, split: str, notes: Sequence[str]
) -> None:
    """A line of scores; of a segmentation pass also tables of classes, parts and scenes (log, CSV) and pictures of the
    table of classes and of the confusion. notes: to be read with the scores."""
    scores = task.summarize(counts)
    if isinstance(task, Segment):
        shown = ("miou", "mf1", "macc", "oa", "boundary_iou_3px", "boundary_f1_3px")
        scores = {name: scores[name] for name in shown if name in scores}
    synthetic = " (synthetic data)" if task.card.synthetic else ""
    logger.info("%s at step %d%s: %s", split, step, synthetic, lines.score_line(scores))
    if isinstance(task, Pretrain) or not partition.is_main_process():
        return
    rows = tables.class_rows(task.card, task.detail(counts["confusion"]), counts["confusion"])
    table = tables.text_table(rows)
    said = lines.beside(table, notes)
    protocol = f"{task.card.protocol}; seen in {task.inference.describe()}"
    logger.info("%s, protocol: %s\n%s", split, protocol, said)
    writers.text(step, f"{split}/classes", f"{protocol}\n\n{said}")
    writing.write_atomically(
        pictures / f"{split}_classes.csv", tables.csv_text(rows, [protocol] * len(task.card.classes))
    )
    border_rows = tables.border_rows(task.card, task.border_detail(counts["borders"]))
    border_table, once = tables.text_table(border_rows), f"{protocol}; each pixel of a scene once"
    logger.info("%s, borders: %s\n%s", split, once, border_table)
    writers.text(step, f"{split}/borders", f"{once}\n\n{border_table}")
    writing.write_atomically(
        pictures / f"{split}_borders.csv", tables.csv_text(border_rows, [once] * (len(border_rows) - 1))
    )
    matrix = tables.confusion_rows(counts["confusion"], task.card.classes)
    writing.write_atomically(
        pictures / f"{split}_confusion.csv", tables.csv_text(matrix, [protocol] * (len(matrix) - 1))
    )
    parts = {name.removeprefix("confusion_"): name for name in counts if name.startswith("confusion_")}
    whole_scenes = {name.removeprefix("scene:"): name for name in counts if name.startswith("scene:")}
    for kind, names in (("parts", {"all": "confusion", **parts} if parts else {}), ("scenes", whole_scenes)):
        if names:
            scored = {part: (task.detail(counts[name]), counts[name]) for part, name in names.items()}
            borders = {part: _borders_of(counts, name) for part, name in names.items()}
            part_rows = tables.part_rows(scored, {part: task.border_detail(of) for part, of in borders.items()})
            once = [kind == "scenes" or part == "stitched" for part in names]
            protocols = [f"{protocol}; here each pixel of a scene counts once" if o else protocol for o in once]
            writing.write_atomically(pictures / f"{split}_{kind}.csv", tables.csv_text(part_rows, protocols))
            if kind == "parts":
                logger.info("%s, parts:\n%s", split, tables.text_table(part_rows))
                writers.text(step, f"{split}/parts", f"{protocol}\n\n{tables.text_table(part_rows)}")
    title = f"{task.card.name} {split}, step {step}{synthetic}\n{lines.score_line(scores)}\n{protocol}"
    drawn = {
        "confusion": drawing.confusion_picture(counts["confusion"], task.card.classes, title),
        "classes": drawing.text_picture(table, title),
        "borders": drawing.text_picture(border_table, title),
    }
    for name, picture in drawn.items():
        writers.image(step, f"{split}/{name}", picture)
        drawing.save_picture(pictures / f"{split}_{name}.png", picture)


def _borders_of(counts: Counts, name: str) -> np.ndarray:
    """The border counts of the part whose confusion has this name."""
    if name.startswith("scene:"):
        scenes = [other for other in counts if other.startswith("scene:")]  # in the order of "scene_borders"
        return counts["scene_borders"][scenes.index(name)]
    if name == "confusion_stitched":  # borders are of each pixel of a scene once in any case
        return counts["borders"]
    return counts[f"borders{name.removeprefix('confusion')}"]


def write_panels(
    evaluation: Evaluation, params: Any, stats: Any, pictures: Path, writers: writing.Writers, step: int, split: str, *,
    samples: int, counts: Counts,
) -> None:  # fmt: skip
    """Bands, truth and prediction of the first `samples` records of a split, and of its best, median and worst scene, as PNG
    and in TensorBoard. counts: of this pass."""
    drawn = {"samples": evaluation.panels(params, stats, samples)}
    if ranked := ranked_records(counts, evaluation.scenes, evaluation.task.card):
        drawn["ranked"] = evaluation.panels(params, stats, 0, ranked)
    if partition.is_main_process():
        for name, panel in drawn.items():
            writers.image(step, f"{split}/{name}", panel)
            drawing.save_picture(pictures / f"{split}_{name}.png", panel)


def ranked_records(counts: Counts, scenes: Sequence[str], card: DatasetCard) -> list[int]:
    """Records of the best, the median and the worst scene by mIoU over its own scored classes; of a scene that is cut into
    several the middle one. [] of fewer than three scenes with a score. scenes: of each record."""
    names, whole = scene_counts(counts, scenes)
    means = metrics.scene_means(whole, card.scored)
    order = [int(place) for place in np.argsort(-means, kind="stable") if not np.isnan(means[place])]
    if len(order) < 3:
        return []
    chosen = [names[order[place]] for place in (0, len(order) // 2, -1)]
    own = [[i for i, scene in enumerate(scenes) if scene == name] for name in chosen]
    return [records[len(records) // 2] for records in own]


def scene_counts(counts: Counts, scenes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(names, int64 [s, classes, classes]) of the scenes in the order of their first records. scenes: of each record."""
    names = list(dict.fromkeys(scenes))
    return names, counts["records"] if "records" in counts else np.stack([counts[f"scene:{name}"] for name in names])
