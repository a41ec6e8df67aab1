"""What a run tells: clu metrics of the training steps, JSON lines, TensorBoard events, ETA lines, tables and pictures.

TensorBoard files are written with tensorboardX: clu's writers import TensorFlow, which training does not need.
(Annotations are evaluated here, because clu reads those of a metrics collection.)
"""

import csv
import io
import json
import logging
import os
import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from PIL import Image, ImageDraw, ImageFont

from genseg.data.card import DatasetCard
from genseg.metrics import SegmentationScores

logger = logging.getLogger(__name__)

NEVER = np.iinfo(np.int32).max
IGNORED = (255, 0, 255)  # magenta: no data set's palette has it


@flax.struct.dataclass
class FirstNonFinite(clu_metrics.Metric):
    """The first step whose loss or gradient was not finite; NEVER if there was none."""

    step: jax.Array

    @classmethod
    def empty(cls) -> "FirstNonFinite":
        return cls(step=jnp.int32(NEVER))

    @classmethod
    def from_model_output(cls, finite: jax.Array, step: jax.Array, **_) -> "FirstNonFinite":
        return cls(step=jnp.where(finite, NEVER, step).astype(jnp.int32))

    def merge(self, other: "FirstNonFinite") -> "FirstNonFinite":
        return type(self)(step=jnp.minimum(self.step, other.step))

    def compute(self) -> jax.Array:
        return self.step


@flax.struct.dataclass
class StepMetrics(clu_metrics.Collection):
    """Training metrics, accumulated on the device between two log lines: reading them is the loop's only sync."""

    loss: clu_metrics.Average.from_output("loss")
    grad_norm: clu_metrics.Average.from_output("grad_norm")
    learning_rate: clu_metrics.LastValue.from_output("learning_rate")
    first_non_finite: FirstNonFinite


class Writers:
    """metrics.jsonl and TensorBoard event files in a workdir; does nothing outside the main process."""

    def __init__(self, workdir: str, *, step: int, active: bool):
        """step: training goes on after this step; lines of later steps, written before a crash, are dropped."""
        self._active = active
        if not active:
            return
        import tensorboardX  # 0.3 s: kept out of `import genseg.train`

        self._path = Path(workdir) / "metrics.jsonl"
        keep_lines_up_to(self._path, step)
        self._lines = self._path.open("a")
        self._board = tensorboardX.SummaryWriter(workdir, purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._active:
            try:
                self._lines.write(json.dumps({"step": step, **values}) + "\n")
                self._lines.flush()
            except OSError as error:  # a full disk: checkpoints say what to do about it, see config.checkpoint.on_error
                logger.error("the metrics of step %d are not in %s: %s", step, self._path, error)
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """uint8 [h, w, 3]."""
        if self._active:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        if self._active:
            self._board.add_text(name, f"```\n{text}\n```", step)

    def close(self) -> None:
        if self._active:
            self._lines.close()
            self._board.close()


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drops lines of steps after `step`, and a last line that a crash cut short, from a metrics.jsonl."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= step:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))


def write_atomically(path: Path, text: str) -> None:
    """A reader, or a crash, sees the old file or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


class Progress:
    """Speed and remaining time, for one line of the log."""

    def __init__(self, step: int, steps: int, batch_size: int):
        self._steps, self._batch_size = steps, batch_size
        self._began = time.monotonic()
        self._mark = (self._began, step)
        self._waited = self._saved = 0.0

    def saved(self, seconds: float) -> None:
        """Adds time that the loop stood still for saving a checkpoint."""
        self._saved += seconds

    def save_wait(self) -> float:
        """Share of the time since the loop began that it stood still for saving."""
        return self._saved / max(time.monotonic() - self._began, 1e-9)

    def waited(self, seconds: float) -> None:
        """Adds time that the loop stood still for input."""
        self._waited += seconds

    def restart(self, step: int) -> None:
        """Leaves the time since the last line out, because something else than training took it."""
        self._mark, self._waited = (time.monotonic(), step), 0.0

    def lap(self, step: int) -> dict[str, float]:
        """{"images_per_second", "input_wait" (share of the time), "eta_seconds"} since the last lap, and "save_wait"."""
        now, (then, previous) = time.monotonic(), self._mark
        elapsed = max(now - then, 1e-9)
        rate = (step - previous) / elapsed
        lap = {
            "images_per_second": rate * self._batch_size,
            "input_wait": self._waited / elapsed,
            "save_wait": self.save_wait(),
            "eta_seconds": (self._steps - step) / max(rate, 1e-9),
        }
        self._mark, self._waited = (now, step), 0.0
        return lap


def duration(seconds: float) -> str:
    """3725 -> '1h02m05s'."""
    hours, rest = divmod(int(round(seconds)), 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m{secs:02d}s" if hours else f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def log_step(step: int, steps: int, values: Mapping[str, float]) -> None:
    """One line: step, loss, learning rate, speed, ETA."""
    logger.info(
        "step %d/%d | loss %.4f | lr %.2e | grad %.2f | %.0f img/s | input wait %.0f%% | ETA %s",
        step,
        steps,
        values["loss"],
        values["learning_rate"],
        values["grad_norm"],
        values["images_per_second"],
        100 * values["input_wait"],
        duration(values["eta_seconds"]),
    )


def score_line(scores: Mapping[str, float]) -> str:
    """{"miou": 0.5} -> 'miou 50.00'; scores in percent, as papers print them. Where there is one for each of several
    channel counts (top1_n3, ...), their mean stands for them."""
    return " | ".join(
        f"{name} {100 * value:.2f}" for name, value in scores.items() if not re.search(r"top\d\w*_n\d+$", name)
    )


def class_rows(card: DatasetCard, scores: SegmentationScores, confusion: np.ndarray) -> list[list[str]]:
    """Rows (header first) of the per-class table: percentages; '-' where a score is undefined.

    "accuracy" is the share of all pixels on whose being or not being of the class truth and prediction agree; what
    mmsegmentation calls a class's Acc is "recall" here.
    """
    total = max(confusion.sum(), 1)
    share = confusion.sum(1) / total
    accuracy = 1 - (confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)) / total
    rows = [["id", "class", "IoU", "F1", "precision", "recall", "accuracy", "share", "scored"]]
    for i, name in enumerate(card.classes):
        values = (scores.iou[i], scores.f1[i], scores.precision[i], scores.recall[i], accuracy[i], share[i])
        rows.append([str(i), name, *map(percent, values), "yes" if i in card.scored else "no"])
    return rows


def part_rows(parts: Mapping[str, tuple[SegmentationScores, np.ndarray]]) -> list[list[str]]:
    """Rows (header first) of a table of parts of a split (groups, scenes): name -> (scores, confusion counts)."""
    rows = [["part", "pixels", "mIoU", "mF1", "mAcc", "OA"]]
    for name, (scores, confusion) in parts.items():
        values = (scores.miou, scores.mf1, scores.macc, scores.oa)
        rows.append([name, str(confusion.sum()), *map(percent, values)])
    return rows


def confusion_rows(confusion: np.ndarray, classes: Sequence[str]) -> list[list[str]]:
    """Rows (header first) of counts: a row a true class, a column a predicted one."""
    counts = ([name, *map(str, row)] for name, row in zip(classes, confusion.tolist(), strict=True))
    return [["truth", *classes], *counts]


def percent(share: float) -> str:
    """0.5 -> '50.00'; '-' for NaN."""
    return "-" if np.isnan(share) else f"{100 * share:.2f}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def csv_text(rows: Sequence[Sequence[str]], protocols: Sequence[str]) -> str:
    """A last column says of every row below the header what its scores are scores of."""
    text = io.StringIO()
    lines = zip(rows, ["protocol", *protocols], strict=True)
    csv.writer(text, lineterminator="\n").writerows([*row, protocol] for row, protocol in lines)
    return text.getvalue()


def confusion_picture(confusion: np.ndarray, classes: Sequence[str], title: str) -> np.ndarray:
    """uint8 [h, w, 3]: rows (truth) in percent, largest shares darkest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.8 s: only where a picture is drawn
    from matplotlib.figure import Figure

    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    n = len(classes)
    side = max(4.0, 0.55 * n + 2.2)
    figure = Figure(figsize=(side + 0.6, side), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(n), classes, rotation=45, ha="right")
    axes.set_yticks(range(n), classes)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(
        "\n".join(part for line in title.splitlines() for part in textwrap.wrap(line, int(13 * side))), fontsize=9
    )
    for i in range(n):
        for j in range(n):
            if confusion[i].sum() and shares[i, j] >= 0.5:
                colour = "white" if shares[i, j] > 55 else "black"
                axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def text_picture(text: str, title: str) -> np.ndarray:
    """uint8 [h, w, 3]: a table as `text_table` makes it, columns aligned, below a title."""
    font = ImageFont.load_default(14)  # proportional: columns are placed one by one
    lines = text.splitlines()
    cells = max((len(line) for line in lines), default=1)
    advance, height = 9, 20
    head = [line for part in title.splitlines() for line in textwrap.wrap(part, max(cells, 60))]
    picture = Image.new("RGB", (max(cells, 60) * advance + 16, (len(head) + len(lines) + 1) * height + 8), "white")
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate([*head, "", *lines]):
        if row < len(head):
            draw.text((8, row * height + 4), line, "black", font)
            continue
        for match in re.finditer(r"\S+( \S+)*", line):  # columns are two spaces apart
            draw.text((8 + match.start() * advance, row * height + 4), match[0], "black", font)
    return np.asarray(picture)


def paint(label: np.ndarray, card: DatasetCard) -> np.ndarray:
    """int [h, w] -> uint8 [h, w, 3] in the card's palette; the ignore label and unknown ids are IGNORED's."""
    table = np.tile(np.asarray(IGNORED, np.uint8), (256, 1))
    table[: len(card.palette)] = np.asarray(card.palette, np.uint8)
    return table[np.clip(label, 0, 255)]


def band_panels(image: np.ndarray, card: DatasetCard) -> list[tuple[str, np.ndarray]]:
    """[h, w, c] as stored -> (name, uint8 [h, w, 3]) panels: red, green, blue as one colour panel, others in grey.

    8-bit bands keep their values, so that thermal or infrared look as they are; others are stretched over the card's
    range.
    """
    names = [band.name for band in card.bands]

    def to_bytes(i):
        band, low, high = image[..., i], card.bands[i].low, card.bands[i].high
        if image.dtype == np.uint8:
            return band
        return np.clip(255 * (band.astype(np.float32) - low) / max(high - low, 1e-9), 0, 255).astype(np.uint8)

    panels, rest = [], list(range(len(names)))
    if {"red", "green", "blue"} <= set(names):
        rgb = [names.index(colour) for colour in ("red", "green", "blue")]
        panels.append(("rgb", np.stack([to_bytes(i) for i in rgb], axis=-1)))
        rest = [i for i in rest if i not in rgb]
    return panels + [(names[i], np.repeat(to_bytes(i)[..., None], 3, axis=-1)) for i in rest]


def sample_panel(
    images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, card: DatasetCard, *, width: int = 256
) -> np.ndarray:
    """uint8 [h, w, 3]: a row a sample, with its bands, truth and prediction side by side, and a legend below."""
    rows, titles = [], []
    for image, label, prediction in zip(images, labels, predictions, strict=True):
        panels = band_panels(image, card)
        panels += [("truth", paint(label, card)), ("prediction", paint(prediction, card))]
        titles = [name for name, _ in panels]
        height = round(width * image.shape[0] / image.shape[1])
        tiles = [
            np.asarray(
                Image.fromarray(p).resize(
                    (width, height),
                    Image.Resampling.NEAREST if n in ("truth", "prediction") else Image.Resampling.BILINEAR,
                )
            )
            for n, p in panels
        ]
        rows.append(np.concatenate([np.pad(t, ((0, 4), (0, 4), (0, 0)), constant_values=255) for t in tiles], axis=1))
    body = np.concatenate(rows)
    head = Image.new("RGB", (body.shape[1], 18), "white")
    draw = ImageDraw.Draw(head)
    for i, title in enumerate(titles):
        draw.text((i * (width + 4) + 4, 3), title, fill="black")
    return np.concatenate([np.asarray(head), body, _legend(card, body.shape[1])])


def _legend(card: DatasetCard, width: int) -> np.ndarray:
    entries = [(name, tuple(card.palette[i])) for i, name in enumerate(card.classes)]
    if card.ignore_label is not None:
        entries.append(("ignored", IGNORED))
    columns = max(1, width // 150)
    legend = Image.new("RGB", (width, 20 * -(-len(entries) // columns) + 4), "white")
    draw = ImageDraw.Draw(legend)
    for i, (name, colour) in enumerate(entries):
        x, y = 150 * (i % columns) + 4, 20 * (i // columns) + 4
        draw.rectangle((x, y, x + 14, y + 12), fill=colour, outline="black")
        draw.text((x + 20, y), name, fill="black")
    return np.asarray(legend)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 [h, w, 3] as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
