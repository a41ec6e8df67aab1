"""A pass over a split: scores, per-class table, confusion picture, sample panels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genseg import partition, report
from genseg.tasks import Pretrain, Segment, Task

logger = logging.getLogger(__name__)

Counts = dict[str, np.ndarray]


def make_step(task: Task, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """The jitted `task.eval_step`; counts come back whole on every device."""

    def step(params, stats, batch):
        return task.eval_step(partition.gathered(params), stats, batch)

    return jax.jit(step, out_shardings=partition.replicated(mesh))


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


def write_details(
    task: Task, counts: Counts, pictures: Path, writers: report.Writers, step: int, split: str
) -> None:
    """Per-class table (log, CSV) and confusion picture of a segmentation pass; a line of scores for pre-training."""
    scores = task.summarize(counts)
    synthetic = " (synthetic data)" if task.card.synthetic else ""
    logger.info("%s at step %d%s: %s", split, step, synthetic, report.score_line(scores))
    if isinstance(task, Pretrain) or not partition.is_main_process():
        return
    rows = report.class_rows(task.card, task.detail(counts), counts["confusion"])
    table = report.text_table(rows)
    logger.info("%s, protocol: %s\n%s", split, task.card.protocol, table)
    writers.text(step, f"{split}/classes", table)
    title = f"{task.card.name} {split}, step {step}{synthetic}\n{report.score_line(scores)}"
    picture = report.confusion_picture(counts["confusion"], task.card.classes, title)
    writers.image(step, f"{split}/confusion", picture)
    report.save_picture(pictures / f"{split}_confusion.png", picture)
    report.write_atomically(pictures / f"{split}_classes.csv", report.csv_text(rows))


def make_predictor(task: Segment, mesh: Mesh) -> Callable[..., jax.Array]:
    """The jitted `task.predict`, with whole class maps on every device."""

    def predict(params, stats, image):
        return task.predict(partition.gathered(params), stats, image)

    return jax.jit(predict, out_shardings=partition.replicated(mesh))


def write_panels(
    task: Segment, predict: Callable, params: Any, stats: Any, batches: Iterable, mesh: Mesh,
    pictures: Path, writers: report.Writers, step: int, split: str, *, samples: int,
) -> None:  # fmt: skip
    """Bands, truth and prediction of the first `samples` images of a split, as PNG and in TensorBoard.

    Every process takes part in the prediction, the main process draws its own images.
    """
    images, labels, predictions = [], [], []
    for batch in batches:
        if len(images) >= samples:
            break
        whole = np.asarray(predict(params, stats, partition.to_global({"image": batch["image"]}, mesh)["image"]))
        local = whole[partition.process_index() * len(batch["image"]) :][: len(batch["image"])]
        real = batch["valid"]
        images += list(batch["image"][real])
        labels += list(batch["label"][real])
        predictions += list(local[real])
    if not partition.is_main_process():
        return
    panel = report.sample_panel(images[:samples], labels[:samples], predictions[:samples], task.card)
    writers.image(step, f"{split}/samples", panel)
    report.save_picture(pictures / f"{split}_samples.png", panel)
