"""Which bands a fine-tuned network uses: `python -m genseg.main --mode=band_use ...`.

Each band in turn is taken from the images of the evaluation split in one of several ways, and the split is scored again.
What a network loses is how much it leans on the band, in that sense; bands that say the same stand in for each other, so
that a small loss does not mean that a band holds nothing.

  zero      the stored value 0: black
  mean      the band's mean, 0 after normalisation
  permuted  its pixels in another place of the same image: the values stay, where they lie is lost
  noised    normal noise of the band's standard deviation added
  absent    its mean, and the other bands times n / (n - 1), as `config.csp.drop` trains for
  swapped   red and blue in each other's place (the paper's reversed RGB), all other bands where they were
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, evaluate, inputs, outputs, partition, robustness, tasks, train
from genseg.config import to_json
from genseg.data import doubts
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.report import drawing, lines, tables, writing

logger = logging.getLogger(__name__)

WAYS = ("zero", "mean", "permuted", "noised", "absent")
SEED = tasks.PERMUTATION_SEED


@dataclasses.dataclass(frozen=True)
class Row:
    """Scores, shares in [0, 1], with `band` taken in the way `way`; both "" for images as they are."""

    band: str
    way: str
    scores: dict[str, float]


def taken(image: np.ndarray, band: int, way: str, card: DatasetCard, index: int) -> np.ndarray:
    """One image [h, w, c] as stored -> float32 [h, w, c] in the same units; random ways are functions of `index`."""
    image = image.astype(np.float32)
    random = np.random.default_rng([SEED, band, index & 0xFFFFFFFF])
    mean, std, one = card.mean[band], card.std[band], image[..., band]
    if way == "absent":
        if card.channels == 1:
            raise UserError(f"{card.name} has one band: without it there is no image; look at the other ways")
        image = card.mean + (image - card.mean) * card.channels / (card.channels - 1)
        new = np.full_like(one, mean)
    elif way == "permuted":
        new = random.permutation(one.ravel()).reshape(one.shape)
    elif way == "noised":
        new = one + std * random.standard_normal(one.shape, np.float32)
    else:
        new = np.full_like(one, {"zero": 0.0, "mean": mean}[way])
    image[..., band] = new
    return image


def swapped(image: np.ndarray, red: int, blue: int, card: DatasetCard) -> np.ndarray:
    """One image [h, w, c] with the normalised red and blue in each other's place, in the units of their new places."""
    image = image.astype(np.float32)
    normal = (image - card.mean) / card.std
    for here, there in ((red, blue), (blue, red)):
        image[..., here] = normal[..., there] * card.std[here] + card.mean[here]
    return image


class Without:
    """An `inputs.Inputs` whose evaluation images lack a band; set `band` and `way` before a pass ("" = as they are)."""

    def __init__(self, data: inputs.Inputs):
        self.card, self.config, self.eval_split = data.card, data.config, data.eval_split
        self.band, self.way = "", ""
        self._data = data

    def _altered(self, image: np.ndarray, index: int) -> np.ndarray:
        names = [band.name for band in self.card.bands]
        if not self.way:
            return image
        if self.way == "swapped":
            return swapped(image, self.card.colours["red"], self.card.colours["blue"], self.card)
        return taken(image, names.index(self.band), self.way, self.card, index)

    def eval_batches(self) -> Iterator[dict[str, Any]]:
        for batch in self._data.eval_batches():
            if self.way:
                rows = zip(batch["image"], batch["index"], strict=True)
                batch = {**batch, "image": np.stack([self._altered(image, int(index)) for image, index in rows])}
            yield batch

    def eval_records(self) -> Iterator[dict[str, Any]]:
        for record in self._data.eval_records():
            yield {**record, "image": self._altered(record["image"], int(record["index"]))} if self.way else record


def passes(card: DatasetCard) -> list[tuple[str, str]]:
    """(band, way) of each evaluation; ("", "") first: images as they are."""
    names = [band.name for band in card.bands]
    found = [("", ""), *((name, way) for name in names for way in WAYS if len(names) > 1 or way != "absent")]
    if {"red", "blue"} <= card.colours.keys():
        found.append(("red, blue", "swapped"))
    return found


def run(config: ConfigDict, workdir: str, *, checkpoint: str = "") -> list[Row]:
    """Scores a segmentation checkpoint on the whole of `config.data.eval_split`, as it is and without each band.

    Writes WORKDIR/band_use.json, WORKDIR/band_use.csv and WORKDIR/pictures/band_use.png. With the weights that
    `config.eval.ema` names.

    Args:
      workdir: of the run that is evaluated (its config.checkpoint.dir, if set), unless `checkpoint` names another.
      checkpoint: "" or what `checkpoints.load_weights` takes.
    Raises: UserError: no checkpoint, one of another network or of pre-training, or wrong data.
    """
    if config.task != "segment":
        raise UserError(f"--mode=band_use is for segmentation and config.task is '{config.task}'; use --mode=eval")
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    partition.check_batch(config.eval.batch_size, mesh)
    path = checkpoint or config.checkpoint.dir or workdir
    train.refuse_others(outputs.given(workdir, "--workdir"), "band_use.json")
    data = Without(inputs.open_inputs(config, checkpoints.load_card(path)))
    task = tasks.build(config, data.card, mesh.devices.flat[0].platform)
    evaluation = evaluate.Evaluation(task, data, mesh)
    rows, asked = [], passes(data.card)
    with partition.use_mesh(mesh):
        weights = checkpoints.load_weights(path, ema=bool(config.eval.ema and config.ema.decay > 0))
        params, stats = robustness.on_devices(weights, task, mesh)
        for data.band, data.way in asked:
            counts = evaluation(params, stats)
            scores = task.summarize(counts)
            rows.append(Row(data.band, data.way, scores))
            logger.info("%s %s: mIoU %s", data.band or "all bands", data.way, tables.percent(scores["miou"]))
    if partition.is_main_process():
        notes = doubts.beside(data.card, config.data.eval_split, counts["confusion"])
        write(rows, data.card, config, weights.path, outputs.given(workdir, "--workdir"), notes)
    return rows


def score_names(rows: list[Row]) -> list[str]:
    """mIoU of the split and of each of its groups ("miou_night"), and OA."""
    return [name for name in rows[0].scores if name == "miou" or name.startswith("miou_")] + ["oa"]


def table(rows: list[Row]) -> list[list[str]]:
    """Header first; per cent, with what is lost against images as they are."""
    names = score_names(rows)
    cells = [["band", "way", *(column for name in names for column in (name, f"{name} lost"))]]
    for row in rows:
        values = []
        for name in names:
            lost = rows[0].scores[name] - row.scores.get(name, np.nan)
            values += [tables.percent(row.scores.get(name, np.nan)), "-" if np.isnan(lost) else f"{100 * lost:+.2f}"]
        cells.append([row.band or "all bands", row.way or "as they are", *values])
    return cells


def write(
    rows: list[Row], card: DatasetCard, config: ConfigDict, origin: str, workdir: Path, notes: tuple[str, ...]
) -> None:
    """band_use.json, .csv and the picture. notes: to be read with the scores."""
    split, cells = config.data.eval_split, table(rows)
    text = lines.beside(tables.text_table(cells), notes)
    logger.info("%s %s, protocol: %s\n%s", card.name, split, card.protocol, text)
    (workdir / "pictures").mkdir(parents=True, exist_ok=True)
    writing.write_atomically(workdir / "band_use.csv", tables.csv_text(cells, [card.protocol] * len(rows)))
    result = {
        "data": card.name, "synthetic": card.synthetic, "protocol": card.protocol, "split": split, "checkpoint": origin,
        "notes": list(notes), "rows": [dataclasses.asdict(row) for row in rows], "config": to_json(config),
    }  # fmt: skip
    writing.write_json(workdir / "band_use.json", result)
    synthetic = " (synthetic data)" if card.synthetic else ""
    drawing.save_picture(workdir / "pictures" / "band_use.png", picture(rows, card, f"{card.name} {split}{synthetic}"))


def picture(rows: list[Row], card: DatasetCard, title: str) -> np.ndarray:
    """uint8 [h, w, 3]: a panel for the split and each group: points of mIoU lost, a group of bars a band."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.8 s: only where a picture is drawn
    from matplotlib.figure import Figure

    names = [name for name in score_names(rows) if name != "oa"]
    bands = list(dict.fromkeys(row.band for row in rows if row.band))
    ways = list(dict.fromkeys(row.way for row in rows if row.way))
    figure = Figure(figsize=(2 + 1.1 * len(bands), 0.6 + 2.6 * len(names)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    width = 0.85 / len(WAYS)
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        for k, way in enumerate(ways):
            found = [(bands.index(row.band), row) for row in rows if row.way == way]
            # A way of one pair of bands stands in the middle of its place.
            places = [place + (0 if way == "swapped" else (k - (len(WAYS) - 1) / 2) * width) for place, _ in found]
            lost = [100 * (rows[0].scores[name] - row.scores.get(name, np.nan)) for _, row in found]
            axes.bar(places, lost, width, label=way, color=f"C{k}")
        axes.set_xticks(range(len(bands)), bands)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_ylabel(f"{name} lost (points)")
        axes.set_title(f"{title}: {100 * rows[0].scores[name]:.1f} {name} with all bands", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside right upper")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
