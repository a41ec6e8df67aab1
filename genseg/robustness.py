"""What a checkpoint scores when channels change places: `python -m genseg.main --mode=eval ...`.

The paper's claim (Fang et al. 2026, arXiv 2604.27704) is that a CSP backbone does not mind: the orders are "fixed" (as in
training of the baseline), "permuted" (each image in random orders, averaged over several draws) and "reversed". For
pre-training they are orders of the source channels, repeated to n (`genseg.csp`); for segmentation, of the data's bands.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, evaluate, inputs, partition, report, tasks, tree
from genseg.config import to_json
from genseg.data.card import DatasetCard
from genseg.errors import UserError

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
      workdir: of the run that is evaluated, unless `checkpoint` names another.
      checkpoint: "" or what `checkpoints.load_weights` takes.
      permutations: draws that "permuted" is averaged over, >= 1.
    Raises: UserError: no checkpoint, one of another network, or wrong data.
    """
    if permutations < 1:
        raise UserError(f"--permutations is {permutations}; give at least 1")
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    partition.check_batch(config.eval.batch_size, mesh)
    data = inputs.open_inputs(config)
    logger.info("%s", data.card.describe())
    task = tasks.build(config, data.card)
    if isinstance(task, tasks.Pretrain):
        task = dataclasses.replace(task, orders=tasks.ORDERS, permutations=permutations)
    step = evaluate.make_step(task, mesh)
    path, rows = checkpoint or workdir, []
    with partition.use_mesh(mesh):
        for kind in ("raw", "ema") if config.ema.decay > 0 else ("raw",):
            weights = checkpoints.load_weights(path, ema=kind == "ema")
            params, stats = _on_devices(weights, task, mesh)
            logger.info("%s weights of %s, split %s", kind, weights.path, config.data.eval_split)
            if isinstance(task, tasks.Pretrain):
                counts = evaluate.run(step, params, stats, data.eval_batches(), mesh)
                rows += pretrain_rows(task, counts, kind)
            else:
                rows += segment_rows(task, step, params, stats, data, mesh, kind, permutations)
    if partition.is_main_process():
        write(rows, data.card, config, weights.path, Path(workdir), permutations)
    return rows


def _on_devices(weights: checkpoints.Weights, task: tasks.Task, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
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
    for order in task.orders:
        for n in task.counts:
            shares = counts[f"{order}/{n}"] / counts["images"]
            scores = {name: tuple(shares[:, k].tolist()) for k, name in enumerate(("top1", "top5"))}
            rows.append(Row(weights, order, n, scores))
    return rows


def segment_rows(task, step, params, stats, data: inputs.Inputs, mesh, weights: str, permutations: int) -> list[Row]:
    """One pass over the split for each order and draw."""
    bands, rows = task.card.channels, []
    for order, draws in (("fixed", 1), ("permuted", permutations), ("reversed", 1)):
        scores: dict[str, list[float]] = {}
        for draw in range(draws):
            batches = reordered(data.eval_batches(), task.card, order, draw)
            for name, value in task.summarize(evaluate.run(step, params, stats, batches, mesh)).items():
                scores.setdefault(name, []).append(value)
        rows.append(Row(weights, order, bands, {name: tuple(values) for name, values in scores.items()}))
    return rows


def reordered(batches: Iterable[dict], card: DatasetCard, order: str, draw: int) -> Iterator[dict]:
    """Batches whose bands stand in another order, each in the units of the place it comes to: after normalisation they
    are the normalised bands in that order. "permuted" draws one of all c! orders for each record."""
    for batch in batches:
        if order == "fixed":
            yield batch
            continue
        places = np.stack([band_order(card.channels, order, draw, int(i)) for i in batch["index"]])
        normal = (batch["image"].astype(np.float32) - card.mean) / card.std
        moved = np.take_along_axis(normal, places[:, None, None], axis=3)
        yield {**batch, "image": moved * card.std + card.mean}


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
    return report.text_table(cells)


def write(
    rows: list[Row], card: DatasetCard, config: ConfigDict, origin: str, workdir: Path, permutations: int
) -> None:
    """Table to the log, robustness.json and the picture."""
    split = config.data.eval_split
    logger.info("%s %s, protocol: %s\n%s", card.name, split, card.protocol, table(rows))
    workdir.mkdir(parents=True, exist_ok=True)
    result = {
        "data": card.name, "synthetic": card.synthetic, "protocol": card.protocol, "split": split, "checkpoint": origin,
        "permutations": permutations, "rows": [dataclasses.asdict(row) for row in rows], "config": to_json(config),
    }  # fmt: skip
    report.write_json(workdir / "robustness.json", result)
    (workdir / "pictures").mkdir(exist_ok=True)
    synthetic = " (synthetic data)" if card.synthetic else ""
    report.save_picture(workdir / "pictures" / "robustness.png", picture(rows, f"{card.name} {split}{synthetic}"))


def picture(rows: list[Row], title: str) -> np.ndarray:
    """uint8 [h, w, 3]: a bar for each order, grouped by weights and channel count; whiskers: standard deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.8 s: only where a picture is drawn
    from matplotlib.figure import Figure

    name = next(iter(rows[0].scores))
    groups = list(dict.fromkeys((row.weights, row.channels) for row in rows))
    figure = Figure(figsize=(2.5 + 1.6 * len(groups), 4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(tasks.ORDERS)
    for k, order in enumerate(tasks.ORDERS):
        found = {(row.weights, row.channels): 100 * np.array(row.scores[name]) for row in rows if row.order == order}
        middle = [float(found[group].mean()) for group in groups]
        spread = [float(found[group].std()) for group in groups]
        places = np.arange(len(groups)) + (k - 1) * width
        bars = axes.bar(places, middle, width, yerr=spread if any(spread) else None, capsize=3, label=order)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(groups)), [f"{weights}, n = {n}" for weights, n in groups])
    axes.set_ylabel(f"{name} (%)")
    axes.set_title(title, fontsize=9)
    axes.margins(y=0.15)
    axes.legend(fontsize=8, title="channel order", title_fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
