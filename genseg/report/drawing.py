"""Pictures as uint8 [h, w, 3]: confusion, tables, and bands beside truth and prediction."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from genseg import outputs
from genseg.data.card import DatasetCard

IGNORED = (255, 0, 255)  # magenta: no data set's palette has it


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
    if len(rgb := list(card.colours.values())) == 3:
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
    parts = [np.asarray(head), body, _legend(card, body.shape[1])]
    wide = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, wide - p.shape[1]), (0, 0)), constant_values=255) for p in parts])


def _legend(card: DatasetCard, width: int) -> np.ndarray:
    entries = [(name, tuple(card.palette[i])) for i, name in enumerate(card.classes)]
    if card.ignore_label is not None:
        entries.append(("ignored", IGNORED))
    font = ImageFont.load_default(12)
    cell = 32 + max(int(font.getlength(name)) for name, _ in entries)
    columns = max(1, width // cell)
    # A name wider than the panels makes the legend wider; `sample_panel` fills up the rest.
    legend = Image.new("RGB", (max(width, cell), 20 * -(-len(entries) // columns) + 4), "white")
    draw = ImageDraw.Draw(legend)
    for i, (name, colour) in enumerate(entries):
        x, y = cell * (i % columns) + 4, 20 * (i // columns) + 4
        draw.rectangle((x, y, x + 14, y + 12), fill=colour, outline="black")
        draw.text((x + 20, y - 1), name, "black", font)
    return np.asarray(legend)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 [h, w, 3] as PNG, with the mark that lets it be written over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made_by = PngInfo()
    made_by.add_text("Software", outputs.MARK)
    with outputs.replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=made_by)
