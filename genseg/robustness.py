"""What a checkpoint scores when channels change places: `python -m genseg.main --mode=eval ...`.

The paper's claim (Fang et al. 2026, arXiv 2604.27704) is that a CSP backbone does not mind: the orders are "fixed" (as in
training of the baseline), "permuted" (each image in random orders, averaged over several draws) and "reversed". For
pre-training they are orders of the source channels, repeated to n (`genseg.csp`); for segmentation, of the data's bands.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, evaluate, inputs, outputs, partition, tasks, train, tree
from genseg.config import to_json
from genseg.data import doubts
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.report import drawing, lines, tables, writing

logger = logging.getLogger(__name__)

SEED = tasks.PERMUTATION_SEED


@dataclasses.dataclass(frozen=True)
class Row:
    """Scores (shares in [0, 1], one value a draw) of one kind of weights, order and channel count."""

    weights: str
    order: str
    channels: int
    scores: dict[str, tuple[float, ...]]


def run(config: ConfigDict, workdir: str, *, checkpoint: str = "", permutations: int = 5) -> list[Row]:
    """Evaluates a checkpoint on the whole of `config.data.eval_split` in all orders, with raw and averaged weights.

    Writes WORKDIR/robustness.json and WORKDIR/pictures/robustness.png.

    Args:
      workdir: of the run that is evaluated (its config.checkpoint.dir, if set), unless `checkpoint` names another.
      checkpoint: "" or what `checkpoints.load_weights` takes.
      permutations: draws that "permuted" is averaged over, >= 1.
    Raises: UserError: no checkpoint, one of another network, wrong data, or data of other bands or classes.
    """
    if permutations < 1:
        raise UserError(f"--permutations is {permutations}; give at least 1")
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    partition.check_batch(config.eval.batch_size, mesh)
    path = checkpoint or config.checkpoint.dir or workdir
    train.refuse_others(outputs.given(workdir, "--workdir"), "robustness.json")
    data = inputs.open_inputs(config, checkpoints.load_card(path))
    logger.info("%s", data.card.describe())
    task = tasks.build(config, data.card, mesh.devices.flat[0].platform)
    if isinstance(task, tasks.Pretrain):
        task = dataclasses.replace(task, orders=tasks.ORDERS, permutations=permutations)
    source = data if isinstance(task, tasks.Pretrain) else Reordered(data)
    evaluation = evaluate.Evaluation(task, source, mesh)
    rows: list[Row] = []
    notes = data.card.notes
    with partition.use_mesh(mesh):
        for kind in ("raw", "ema") if config.ema.decay > 0 else ("raw",):
            weights = checkpoints.load_weights(path, ema=kind == "ema")
            params, stats = on_devices(weights, task, mesh)
            logger.info("%s weights of %s, split %s", kind, weights.path, config.data.eval_split)
            if isinstance(task, tasks.Pretrain):
                rows += pretrain_rows(task, evaluation(params, stats), kind)
            else:
                found, notes = segment_rows(evaluation, source, params, stats, kind, permutations)
                rows += found
    if partition.is_main_process():
        write(rows, data.card, config, weights.path, outputs.given(workdir, "--workdir"), permutations, notes)
    return rows


def on_devices(weights: checkpoints.Weights, task: tasks.Task, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """Parameters and statistics, sharded. Raises UserError unless they are those of the task's network."""
    wanted = jax.eval_shape(task.net.init, jax.random.key(0))
    have = {p: tuple(x.shape) for p, x in tree.items({"params": weights.params, "stats": weights.stats})}
    want = {p: tuple(x.shape) for p, x in tree.items({"params": wanted[0], "stats": wanted[1]})}
    if have != want:
        first = sorted(p for p in have.keys() | want.keys() if have.get(p) != want.get(p))[0]
        raise UserError(
            f"the checkpoint {weights.path} is not of this config's network: '{first}' is {have.get(first, 'absent')} there "
            f"and {want.get(first, 'absent')} here; give the config that it was trained with"
        )
    sharding = partition.tree_sharding(mesh, (weights.params, weights.stats))
    return jax.device_put((weights.params, weights.stats), sharding)


def pretrain_rows(task: tasks.Pretrain, counts: evaluate.Counts, weights: str) -> list[Row]:
    rows = []
    for n in task.counts:
        for order in task.orders:
            shares = counts[f"{order}/{n}"] / counts["images"]
            scores = {name: tuple(shares[:, k].tolist()) for k, name in enumerate(("top1", "top5"))}
            rows.append(Row(weights, order, n, scores))
    return rows


class Reordered:
    """An `inputs.Inputs` whose evaluation images have their bands in another order: `order`, one of `tasks.ORDERS`, and
    for "permuted" the number `draw`; set them before a pass. Each band comes in the units of the place it comes to, so
    that after normalisation they are the normalised bands in that order."""

    def __init__(self, data: inputs.Inputs):
        self.card, self.config, self.eval_split = data.card, data.config, data.eval_split
        self.order, self.draw = "fixed", 0
        self._data = data

    def eval_batches(self) -> Iterator[dict[str, Any]]:
        for batch in self._data.eval_batches():
            yield batch if self.order == "fixed" else {**batch, "image": self.moved(batch["image"], batch["index"])}

    def eval_records(self) -> Iterator[dict[str, Any]]:
        for record in self._data.eval_records():
            if self.order != "fixed":
                index = np.array([record["index"]])
                record = {**record, "image": self.moved(record["image"][None], index)[0]}
            yield record

    def moved(self, image: np.ndarray, index: np.ndarray) -> np.ndarray:
        """[b, h, w, c] of any dtype and the records' places int [b] -> float32 [b, h, w, c]."""
        card = self.card
        places = np.stack([band_order(card.channels, self.order, self.draw, int(i)) for i in index])
        normal = (image.astype(np.float32) - card.mean) / card.std
        return np.take_along_axis(normal, places[:, None, None], axis=3) * card.std + card.mean


def segment_rows(
    evaluation: evaluate.Evaluation, data: Reordered, params: Any, stats: Any, weights: str, permutations: int
) -> tuple[list[Row], tuple[str, ...]]:
    """One pass over the split for each order and draw; and what is to be read with the scores."""
    rows, notes = [], data.card.notes
    for data.order, draws in (("fixed", 1), ("permuted", permutations), ("reversed", 1)):
        scores: dict[str, list[float]] = {}
        for data.draw in range(draws):
            counts = evaluation(params, stats)
            found = evaluation.task.summarize(counts)
            notes = doubts.beside(data.card, data.config.data.eval_split, counts["confusion"])
            for name in ("miou", "mf1", "macc", "oa"):
                scores.setdefault(name, []).append(found[name])
        rows.append(Row(weights, data.order, data.card.channels, {k: tuple(v) for k, v in scores.items()}))
    return rows, notes


def band_order(channels: int, order: str, draw: int, index: int) -> np.ndarray:
    """int64 [channels]: which band stands in each place for record `index`; a function of its arguments alone."""
    if order == "reversed":
        return np.arange(channels)[::-1]
    return np.random.default_rng([SEED, draw, index & 0xFFFFFFFF]).permutation(channels)


def table(rows: list[Row]) -> str:
    """Percentages: mean over the draws, +- their standard deviation where there are several, and the fall from fixed."""
    names = list(rows[0].scores)
    cells = [["weights", "channels", "order", *names, f"{names[0]} - fixed"]]
    fixed = {(r.weights, r.channels): np.mean(r.scores[names[0]]) for r in rows if r.order == "fixed"}
    for row in rows:
        values = []
        for name in names:
            spread = f" +- {100 * np.std(row.scores[name]):.2f}" if len(row.scores[name]) > 1 else ""
            values.append(f"{100 * np.mean(row.scores[name]):.2f}{spread}")
        change = 100 * (np.mean(row.scores[names[0]]) - fixed[row.weights, row.channels])
        cells.append([row.weights, str(row.channels), row.order, *values, f"{change:+.2f}"])
    return tables.text_table(cells)


def write(
    rows: list[Row], card: DatasetCard, config: ConfigDict, origin: str, workdir: Path, permutations: int,
    notes: tuple[str, ...],
) -> None:  # fmt: skip
    """Table to the log, robustness.json and the picture. notes: to be read with the scores."""
    split = config.data.eval_split
    logger.info("%s %s, protocol: %s\n%s", card.name, split, card.protocol, lines.beside(table(rows), notes))
    workdir.mkdir(parents=True, exist_ok=True)
    result = {
        "data": card.name, "synthetic": card.synthetic, "protocol": card.protocol, "notes": list(notes), "split": split,
        "checkpoint": origin,
        "permutations": permutations, "rows": [dataclasses.asdict(row) for row in rows], "config": to_json(config),
    }  # fmt: skip
    writing.write_json(workdir / "robustness.json", result)
    (workdir / "pictures").mkdir(exist_ok=True)
    synthetic = " (synthetic data)" if card.synthetic else ""
    drawing.save_picture(workdir / "pictures" / "robustness.png", picture(rows, f"{card.name} {split}{synthetic}"))


def picture(rows: list[Row], title: str) -> np.ndarray:
    """uint8 [h, w, 3]: a bar for each order, grouped by weights and channel count, with the spread of several draws."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.8 s: only where a picture is drawn
    from matplotlib.figure import Figure

    name = next(iter(rows[0].scores))
    groups = list(dict.fromkeys((row.weights, row.channels) for row in rows))
    figure = Figure(figsize=(3.5 + 1.5 * len(groups), 4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(tasks.ORDERS)
    for k, order in enumerate(tasks.ORDERS):
        found = {(row.weights, row.channels): 100 * np.array(row.scores[name]) for row in rows if row.order == order}
        middle = [float(found[group].mean()) for group in groups]
        spread = [float(found[group].std()) for group in groups]
        places = np.arange(len(groups)) + (k - 1) * width
        bars = axes.bar(places, middle, width, yerr=spread if any(spread) else None, capsize=3, label=order)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), [f"{weights}, n = {n}" for weights, n in groups])
    axes.set_ylabel(f"{name} (%)")
    draws = max(len(row.scores[name]) for row in rows)
    spread_of = f"; permuted: mean and standard deviation of {draws} draws" if draws > 1 else ""
    axes.set_title(f"{title}{spread_of}", fontsize=9)
    axes.margins(y=0.15)
    figure.legend(fontsize=8, title="channel order", title_fontsize=8, loc="outside right upper")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
