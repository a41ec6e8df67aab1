"""A look at a data set: bands, masks in their palette and class shares on one contact sheet.

    python -m genseg.data.show NAME --source DIR --output sheet.png [--show_split train] [--count 6]
    ... --checkpoint WORKDIR          # a trained network's class map beside each mask, and where they differ

A wrong band order, a mask that does not line up or a swapped palette is seen at once, before a week of training.
"""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from genseg import cli, outputs
from genseg.data import prepare
from genseg.data.augment.resizing import resize
from genseg.data.card import DatasetCard
from genseg.errors import UserError

if TYPE_CHECKING:
    from genseg.data.batches import pipeline

CELL = 192  # pixels a side of one picture
_GAP, _LINE = 6, 16
_LOOKS = 5000  # records whose labels are read, of classification
_IGNORED = ((255, 0, 255), (90, 0, 90))  # checks, so that no palette is mistaken for it
RIGHT, WRONG = (235, 235, 235), (178, 24, 43)

Network = Callable[[np.ndarray], np.ndarray]
"""An image [h w c] as stored to class ids uint8 [h w]."""


def stretch(band: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stored values [h w] to uint8, `low` .. `high` to 0 .. 255."""
    return np.clip((band.astype(np.float32) - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


def colour_mask(ids: np.ndarray, card: DatasetCard) -> np.ndarray:
    """uint8 [h w 3]; ignored pixels in magenta checks."""
    y, x = np.indices(ids.shape)
    out = np.array(_IGNORED, np.uint8)[(y // 6 + x // 6) % 2]
    inside = ids < len(card.classes)
    out[inside] = np.array(card.palette, np.uint8)[ids[inside]]
    return out


def pictures(example: dict, card: DatasetCard, network: Network | None = None) -> list[tuple[str, np.ndarray]]:
    """(title, uint8 [h w 3]) of a segmentation example: colours, other bands, mask, mask over the first picture; with a
    network its class map, and where that differs from the mask."""
    image, out = example["image"], []
    # Three standard deviations: a few hot pixels must not hide the rest.
    ranges = [(max(b.low, b.mean - 3 * b.std), min(b.high, b.mean + 3 * b.std)) for b in card.bands]
    visible = tuple(card.colours.values())
    if len(visible) == 3:
        # One range of all three keeps the colours.
        low, high = min(ranges[i][0] for i in visible), max(ranges[i][1] for i in visible)
        out.append(("red green blue", stretch(image[..., list(visible)], low, high)))
    else:
        visible = ()
    for i, band in enumerate(card.bands):
        if i not in visible:
            out.append((band.name, np.repeat(stretch(image[..., i : i + 1], *ranges[i]), 3, axis=2)))
    mask = colour_mask(example["label"], card)
    out.append(("mask", mask))
    out.append(("mask on image", cv2.addWeighted(out[0][1], 0.5, mask, 0.5, 0)))
    if network is not None:
        ids = network(example["image"])
        wrong = np.array((RIGHT, WRONG), np.uint8)[(ids != example["label"]).astype(int)]
        wrong[example["label"] >= len(card.classes)] = mask[example["label"] >= len(card.classes)]
        out += [("mask predicted", colour_mask(ids, card)), ("mask wrong", wrong)]
    return out


def sheet(split: pipeline.Split, count: int, network: Network | None = None) -> Image.Image:
    """A contact sheet of `count` records evenly spread over the split (classification: of each class); of segmentation
    with what `network` makes of each."""
    card = split.card
    font = ImageFont.load_default(12)
    rows: list[tuple[str, list[tuple[str, np.ndarray]]]] = []
    shares = np.zeros(256, np.int64)
    if card.task == "classification":
        # Class by class; the sheet stays readable with up to 40 classes. Labels lie in the records: a few thousand are
        # looked at, since reading all of ImageNet takes an hour.
        seen = np.unique(np.linspace(0, len(split) - 1, min(_LOOKS, len(split))).astype(int))
        labels = np.array([split.record(int(i)).label for i in seen])
        for label in range(min(len(card.classes), 40)):
            places = seen[labels == label]
            chosen = places[np.linspace(0, len(places) - 1, min(count, len(places))).astype(int)] if len(places) else []
            rows.append(
                (
                    f"{card.classes[label]} ({len(places)} of {len(seen)} looked at)",
                    [("", split.decode(int(i))["image"]) for i in chosen],
                )
            )
    else:
        for i in np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)):
            example = split.decode(int(i))
            counts = np.bincount(example["label"].ravel(), minlength=256)
            shares += counts
            present = [
                f"{card.classes[k]} {counts[k] / counts.sum():.1%}" for k in np.flatnonzero(counts[: len(card.classes)])
            ]
            if ignored := counts[len(card.classes) :].sum():
                present.append(f"ignored {ignored / counts.sum():.1%}")
            rows.append((f"{example['name']}   {', '.join(present)}", pictures(example, card, network)))
    return _draw(card, split.name, rows, shares, font)


def _draw(card: DatasetCard, split: str, rows: list, shares: np.ndarray, font) -> Image.Image:
    cell = CELL if card.task == "segmentation" else 96
    # A row is as high as its tallest picture.
    tall = [max(round(cell * p.shape[0] / max(p.shape[:2])) for _, p in cells) if cells else 0 for _, cells in rows]
    columns = max(len(cells) for _, cells in rows)
    legend = len(card.classes) if card.task == "segmentation" else 0
    top = 3 * _LINE
    titles = _LINE if card.task == "segmentation" else 0
    height = top + sum(tall) + len(rows) * (_LINE + titles + _GAP) + (legend + 1) * _LINE + _GAP
    canvas = Image.new("RGB", (max(columns * (cell + _GAP) + _GAP, 760), height), (24, 24, 28))
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 4), f"{card.name}, {split}" + ("  SYNTHETIC" if card.synthetic else ""), "white", font)
    bands = ", ".join(f"{b.name} {b.low:g}..{b.high:g}" for b in card.bands)
    draw.text((_GAP, 4 + _LINE), f"{card.channels} bands of {card.dtype}: {bands}", "white", font)
    y = top
    for (text, cells), high in zip(rows, tall, strict=True):
        draw.text((_GAP, y), text, "white", font)
        y += _LINE
        for column, (title, picture) in enumerate(cells):
            x = _GAP + column * (cell + _GAP)
            scale = cell / max(picture.shape[:2])
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            # Masks keep hard borders; pictures are averaged when they shrink.
            hard = title.startswith("mask") or scale >= 1
            if hard:
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
            else:
                picture = resize(picture, size[1], size[0], "bilinear")
            canvas.paste(Image.fromarray(picture), (x, y + titles))
            if titles:
                draw.text((x, y), title, (170, 170, 180), font)
        y += high + titles + _GAP
    total = max(int(shares.sum()), 1)
    for i in range(legend):
        draw.rectangle((_GAP, y + 2, _GAP + 20, y + _LINE - 3), fill=tuple(card.palette[i]), outline="white")
        averaged = "" if i in card.scored else "  (not averaged)"
        draw.text(
            (_GAP + 28, y),
            f"{i} {card.classes[i]}  {shares[i] / total:.2%} of the pixels shown{averaged}",
            "white",
            font,
        )
        y += _LINE
    return canvas


def network_of(checkpoint: str, card: DatasetCard, *, best: bool) -> Network:
    """A trained segmenter, as its training's evaluation sees images. Raises: UserError if it does not fit the data."""
    from ml_collections import ConfigDict

    from genseg import partition, tasks
    from genseg.data import compare_cards
    from genseg.predict import drawing
    from genseg.predict.network import Predictor

    partition.start(outputs.cache_dir() / "xla")
    weights = drawing.weights_of(checkpoint, ema=None, best=best)
    names = compare_cards.bands_for_network(weights.card, card)
    places = card.places_of(names)
    fed = compare_cards.card_for_network(weights.card, card.only(names))
    weights = dataclasses.replace(weights, card=fed)
    predictor = Predictor(weights, tasks.build_segment(ConfigDict(weights.config), fed).inference, 0)

    def class_map(image: np.ndarray) -> np.ndarray:
        image = image[..., list(places)] if places else image
        return np.concatenate([rows.ids() for _, rows in predictor.score_rows(predictor.groups([(None, image)]))])

    return class_map


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 after a mistake that the message says how to mend."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--output", required=True, help="PNG to write")
        parser.add_argument("--show_split", default="train", help="split to look at")
        parser.add_argument("--count", type=int, default=6, help="records, or records a class")
        parser.add_argument("--checkpoint", help="a workdir of segmentation: what its network makes of the records")
        parser.add_argument("--best", action="store_true", help="its best checkpoint instead of the latest")

    data, others = prepare.parse_command(argv, "python -m genseg.data.show", extra)

    def command() -> None:
        target = outputs.given(others.output, "--output")
        outputs.claim([target])
        if others.count < 1:
            raise UserError(f"--count is {others.count}: show at least one record.")
        folder = prepare.ensure_prepared(data, prepare.kept_in(others.data_dir), threads=others.threads)
        from genseg.data.batches import pipeline  # takes seconds

        split = pipeline.open_split(folder, others.show_split)
        target.parent.mkdir(parents=True, exist_ok=True)
        made_by = PngInfo()
        made_by.add_text("Software", outputs.MARK)
        network = None
        if others.checkpoint is not None:
            checkpoint = str(outputs.given(others.checkpoint, "--checkpoint"))
            network = network_of(checkpoint, split.card, best=others.best)
        picture = sheet(split, others.count, network)
        with outputs.replacing(target) as temporary:
            picture.save(temporary, format="PNG", pnginfo=made_by)
        print(split.card.describe())
        print(f"Look at    {others.output}")

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
