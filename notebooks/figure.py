"""Writes docs/overview.png, the README's figure, from the pictures of the executed notebook 01 (drawn data)."""

import base64
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTH, TITLE = 760, 22


def pictures() -> list[Image.Image]:
    """Of the notebook's cells, in order."""
    cells = json.loads((DOCS / "notebooks" / "01_method.ipynb").read_text())["cells"]
    stored = [o["data"]["image/png"] for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode("".join(data)))).convert("RGB") for data in stored]


def figure() -> Image.Image:
    """Above what pre-training shows the network, below what fine-tuning makes of it."""
    orders, panels = pictures()
    orders = orders.crop((0, 0, orders.width, round(orders.height * 0.66)))
    orders = orders.resize((WIDTH, round(orders.height * WIDTH / orders.width)), Image.Resampling.LANCZOS)
    panels = panels.crop((0, 0, panels.width, round(panels.height * 0.485)))
    panels = panels.resize((WIDTH, round(panels.height * WIDTH / panels.width)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (WIDTH, orders.height + panels.height + 2 * TITLE), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    pen.text((8, 2), "pre-training: the photograph's channels, repeated and in random order", "black", font)
    canvas.paste(orders, (0, TITLE))
    pen.text(
        (8, TITLE + orders.height + 2), "fine-tuning: RGB + thermal by day and by night (drawn data)", "black", font
    )
    canvas.paste(panels, (0, 2 * TITLE + orders.height))
    return canvas.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # which keeps rare colours


if __name__ == "__main__":
    figure().save(DOCS / "overview.png", optimize=True)
