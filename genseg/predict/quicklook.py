"""A picture of a scene beside its class map, with scale bar and legend."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from genseg import outputs
from genseg.data.card import DatasetCard
from genseg.data.files import validity
from genseg.report import drawing

SIDE = 640  # pixels of the longer side of each panel, at most
_GAP, _LINE = 12, 24


def every(height: int, width: int) -> int:
    """Every how many pixels are seen."""
    return max(1, -(-max(height, width) // SIDE))


def write(
    path: Path, image: np.ndarray, ids: np.ndarray, card: DatasetCard, *, metres: float | None, title: str
) -> None:
    """image [h w c] as stored and ids uint8 [h w] are of one size, `metres` across a pixel of them (None: not known)."""
    picture = Image.fromarray(draw(image, ids, card, metres=metres, title=title))
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", outputs.MARK)
    with outputs.replacing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def draw(image: np.ndarray, ids: np.ndarray, card: DatasetCard, *, metres: float | None, title: str) -> np.ndarray:
    """uint8 [h, w, 3]: title, image and map side by side, scale bar below the map, legend below in as many columns as fit."""
    title = title.encode("utf-8", "replace").decode()
    zoom = max(1, 320 // max(ids.shape))  # small tiles are shown larger
    panels = [_stretched(image, card), drawing.paint(ids, card)]
    panels = [np.kron(panel, np.ones((zoom, zoom, 1), np.uint8)) for panel in panels]
    height, width = panels[0].shape[:2]
    font = ImageFont.load_default(15)
    entries = [(name, card.palette[i]) for i, name in enumerate(card.classes)]
    entries.append(("no class", drawing.IGNORED))
    cell = 40 + max(int(font.getlength(name)) for name, _ in entries)
    total = max(2 * width + 3 * _GAP, cell + 2 * _GAP, int(font.getlength(title)) + 2 * _GAP)
    columns = max(1, (total - 2 * _GAP) // cell)
    rows = -(-len(entries) // columns)
    top = _LINE + _GAP
    below = top + height + _GAP
    canvas = Image.new("RGB", (total, below + _LINE + rows * _LINE + _GAP), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((_GAP, 8), title, "black", font)
    for i, panel in enumerate(panels):
        canvas.paste(Image.fromarray(panel), (_GAP + i * (width + _GAP), top))
    if metres is not None:
        _scale_bar(pen, font, width, metres / zoom, (_GAP, below))
    for i, (name, colour) in enumerate(entries):
        x, y = _GAP + cell * (i % columns), below + _LINE + _LINE * (i // columns)
        pen.rectangle((x, y + 2, x + 20, y + 18), tuple(colour), "black")
        pen.text((x + 28, y), name, "black", font)
    return np.asarray(canvas)


def _scale_bar(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
    metres: float,
    at: tuple[int, int],
) -> None:
    """1, 2 or 5 times a power of ten metres, at most a third of the panel."""
    most = metres * width / 3
    power = 10 ** math.floor(math.log10(most))
    length = next(f * power for f in (5, 2, 1) if f * power <= most)
    pixels, (x, y) = round(length / metres), at
    pen.rectangle((x, y + 6, x + pixels, y + 12), "black")
    pen.text((x + pixels + 8, y), f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m", "black", font)


def _stretched(image: np.ndarray, card: DatasetCard) -> np.ndarray:
    """uint8 [h, w, 3]: red, green and blue where the card names them, else the first three bands, or the one in grey; each
    band's middle 96 % over the whole brightness."""
    chosen = list(card.colours.values())
    if len(chosen) < 3:
        chosen = [0, 1, 2] if card.channels >= 3 else [0, 0, 0]
    out = []
    for i in chosen:
        values = image[..., i].astype(np.float32)
        good = (np.abs(values) < validity.LARGEST) & (values != card.bands[i].nodata)
        low, high = np.percentile(values[good], (2, 98)) if good.any() else (0, 1)
        out.append(np.clip(255 * (np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 255).astype(np.uint8))
    return np.stack(out, axis=-1)
