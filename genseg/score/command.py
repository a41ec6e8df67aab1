"""The command line of `genseg.score`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genseg import cli, inputs, outputs, partition, windows
from genseg.data.card import DatasetCard
from genseg.data.files import masks
from genseg.errors import UserError
from genseg.predict import bands
from genseg.predict import run as runs
from genseg.predict.command import weights_of
from genseg.predict.network import Predictor
from genseg.predict.products import Products
from genseg.report import drawing
from genseg.score import pairs, report, sources

DESCRIPTION = """Scores of a trained network, or of maps, on labelled data.

    python -m genseg.score --checkpoint=RUN --out=DIR --masks=masks/ images/      # pairs of files, by name
    python -m genseg.score --checkpoint=RUN --out=DIR --pairs=pairs.csv           # lines of IMAGE[,IMAGE...],MASK
    python -m genseg.score --checkpoint=RUN --out=DIR --prepared=DATA/naip --split=test
    python -m genseg.score --maps --out=DIR --masks=masks/ maps/*_classes.tif     # maps of genseg.predict

A network is fed through the card that it was trained with, and sees scenes as its training's evaluation did unless the
options say otherwise. Written are score.json, classes.csv, confusion.csv and .png, scenes.csv (with --errors also an
error map a scene); 95 % intervals are over whole scenes."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m genseg.score", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="a workdir of segmentation, or the folder of one step")
    parser.add_argument("--out", required=True, help="folder for tables and pictures; made if absent")
    parser.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="averaged weights; training's eval.ema")
    what = parser.add_argument_group("what is scored (one of)")
    what.add_argument("--masks", metavar="FOLDER", help="with a mask of each scene's name, or NAME_mask, _label, _gt")
    what.add_argument("--pairs", metavar="CSV", help="a scene a line: its files, then its mask")
    what.add_argument("--prepared", metavar="FOLDER", help="a prepared data set (genseg.data.prepare)")
    what.add_argument("--split", default="val", help="of --prepared (default val)")
    what.add_argument("--maps", action="store_true", help="scenes are class maps: no network is run")
    what.add_argument("--classes", metavar="TABLE", help="CSV or YAML: what the masks' numbers or colours mean")
    what.add_argument("--bands", metavar="NAME=PLACE,...", help="where the network's bands are, as in red=4,nir=8")
    what.add_argument("--sensor", choices=bands.SENSORS, help="whose band numbers the files' names are")
    seen = parser.add_argument_group("how scenes are seen; else as in training's evaluation")
    seen.add_argument("--mode", choices=windows.MODES)
    seen.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"))
    seen.add_argument("--stride", type=int, nargs=2, metavar=("H", "W"))
    seen.add_argument("--blend", choices=windows.BLENDS)
    seen.add_argument("--flip", action=argparse.BooleanOptionalAction)
    seen.add_argument("--scales", type=float, nargs="+")
    seen.add_argument("--batch", type=int, default=0, help="windows at a time; 0 = 4 a device")
    parser.add_argument(
        "--borders", action="store_true", help="also Boundary IoU, boundary F1 and trimap IoU of scenes"
    )
    parser.add_argument("--panels", type=int, default=0, metavar="N", help="samples.png: N records of a prepared split")
    parser.add_argument("--errors", action="store_true", help="also NAME_errors.tif: 0 right, 1 wrong, 255 not counted")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="files, folders, patterns, as of genseg.predict")
    return parser.parse_args(argv)


def inference_of(arguments: argparse.Namespace, config: dict) -> windows.Inference:
    """Training's evaluation, but for what the command says."""
    fields = {}
    for name in ("mode", "crop", "stride", "blend", "flip", "scales"):
        given = getattr(arguments, name)
        value = config["eval"][name] if given is None else given
        fields[name] = tuple(value) if isinstance(value, list | tuple) else value
    if arguments.crop and not arguments.stride:
        fields["stride"] = tuple(max(1, side // 2) for side in arguments.crop)
    return windows.Inference(**fields, multiple=config["augment"]["eval_multiple"])


def _card_of(path: Path) -> DatasetCard:
    """Of the network that drew a map: from the record beside it."""
    record = path.with_name(path.name.replace("_classes", "").rsplit(".", 1)[0] + ".json")
    try:
        return DatasetCard.from_json(json.dumps(json.loads(record.read_text())["card"]))
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{path} has no record {record.name} beside it that says its classes: give the network's --checkpoint."
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse(argv)
    return cli.run(lambda: _score(arguments))


def _score(arguments: argparse.Namespace) -> None:
    out = outputs.given(arguments.out, "--out")
    ways = [name for name in ("masks", "pairs", "prepared") if getattr(arguments, name)]
    if len(ways) != 1:
        raise UserError("Truth is given by one of --masks, --pairs and --prepared: give one of them.")
    if arguments.maps and arguments.prepared:
        raise UserError("--maps takes --masks or --pairs: maps have no prepared split.")
    if not arguments.maps and not arguments.checkpoint:
        raise UserError("There is no network to score: give --checkpoint, or --maps for maps that are there.")
    table = masks.read_class_table(Path(arguments.classes)) if arguments.classes else None
    outputs.claim([out / "score.json"])
    partition.start(inputs.cache_dir() / "xla")
    weights = weights_of(arguments.checkpoint, ema=arguments.ema, best=arguments.best) if arguments.checkpoint else None
    origin = {"checkpoint": weights.path if weights else "", "truth": str(getattr(arguments, ways[0]))}
    seen = inference_of(arguments, weights.config) if weights else None
    if arguments.panels and not arguments.prepared:
        raise UserError("--panels are of a prepared split: genseg.predict draws a picture of each scene in files.")
    if arguments.panels < 0:
        raise UserError(f"--panels is {arguments.panels}: give how many records to draw.")
    if arguments.prepared:
        if arguments.borders or arguments.errors:
            raise UserError("--borders and --errors are of scenes in files: give --masks or --pairs.")
        confusion, scenes, picture = sources.prepared(
            weights, seen, Path(arguments.prepared), arguments.split, arguments.batch, arguments.panels
        )
        if picture is not None:
            drawing.save_picture(out / "samples.png", picture)
        card, data = weights.card, f"{arguments.prepared}, split {arguments.split}"
    else:
        found = pairs.listed(arguments.pairs) if arguments.pairs else pairs.by_name(arguments.scenes, arguments.masks)
        card = weights.card if weights else _card_of(found[0][0].files[0][0])
        options = {"borders": arguments.borders, "errors": out if arguments.errors else None, "told": _told}
        if arguments.maps:
            scenes = sources.drawn(card, found, table, **options)
        else:
            given = None if arguments.bands is None else bands.mapping(arguments.bands, card)
            request = runs.Request(out, Products(), given, arguments.sensor)
            scenes = sources.network(Predictor(weights, seen, arguments.batch), found, request, table, **options)
        confusion, data = np.sum([scene.confusion for scene in scenes], axis=0), f"{len(scenes)} scenes"
    if not confusion.sum():
        raise UserError("No pixel counts: every pixel of every mask is ignored, or not measured; give other masks.")
    how = "maps as they are" if arguments.maps else seen.describe()
    protocol = f"{card.protocol or card.name}; {data}; {how}"
    origin["inference"] = None if arguments.maps else dataclasses.asdict(seen)
    print(report.write(out, card, confusion, scenes, protocol, origin))


def _told(scene) -> None:
    total = max(int(scene.confusion.sum()), 1)
    print(f"{scene.name}  OA {100 * np.trace(scene.confusion) / total:.2f}", flush=True)
