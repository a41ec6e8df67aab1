"""What `genseg.score` does; its options are in `arguments`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from genseg import outputs, partition, texts, windows
from genseg.data import doubts
from genseg.data.card import DatasetCard
from genseg.data.files import masks
from genseg.errors import UserError
from genseg.predict import bands
from genseg.predict import run as runs
from genseg.predict.drawing import weights_of
from genseg.predict.network import Predictor
from genseg.predict.products import Products
from genseg.report import drawing
from genseg.score import pairs, report, sources


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


def _card_of(path: Path, *, needed: bool = True) -> DatasetCard | None:
    """Of the network that drew a map: from the record beside it; None where there is none that genseg wrote, unless needed."""
    record = path.with_name(path.name.rsplit(".", 1)[0].removesuffix("_classes") + ".json")
    mend = "give the network's --checkpoint"
    if not (record.is_file() and outputs.made_here(record)):
        if needed:
            raise UserError(f"{path} has no record {record.name} beside it that says its classes: {mend}.")
        return None
    with outputs.undamaged(record, mend):
        return DatasetCard.from_json(texts.as_json(texts.mapping(record, "record", mend)["card"]), mend)


def _maps_of(found: sources.Pairs, card: DatasetCard | None) -> tuple[DatasetCard, list[sources.Map]]:
    """The card that all maps are read by, and the maps. card: the network's; None: the first map's.

    Raises: UserError for a map whose record has other classes: its numbers would be taken for those of the card.
    """
    listed, whose = [], "the network"
    for scene, mask in found:
        if len(scene.files) > 1 or scene.files[0][1]:
            raise UserError(
                f"{scene} has several files or picked bands: with --maps, give each scene's one map as it is."
            )
        path = scene.files[0][0]
        own = _card_of(path, needed=card is None)
        if card is None:
            card, whose = own, str(path)
        if own is not None and own.classes != card.classes:
            raise UserError(
                f"The map {path} has the classes {', '.join(own.classes)} by its record, and {whose} has "
                f"{', '.join(card.classes)}: score maps of the same classes, in the same order."
            )
        listed.append(sources.Map(scene.name, path, mask, own))
    return card, listed


def _refuse_idle(arguments: argparse.Namespace) -> None:
    """Raises UserError for what says nothing because of how the truth is given, or of --maps."""
    given = {name for name, value in vars(arguments).items() if value not in (None, False, [], 0)}
    by_list = {"pairs", "prepared"} & given
    idle = {"split"} & given if "prepared" not in given else {"classes", "bands", "sensor"} & given
    if "maps" in given:
        idle |= {"bands", "sensor", "mode", "crop", "stride", "blend", "flip", "scales", "batch"} & given
    if by_list and arguments.scenes:
        raise UserError(
            f"Scenes are named ({arguments.scenes[0]}) beside --{min(by_list)}, which says which are scored: leave them out."
        )
    if idle:
        way = "--maps" if "maps" in given else "--prepared" if "prepared" in given else "--masks and --pairs"
        raise UserError(f"--{min(idle)} says nothing with {way}: leave it out.")


def score(arguments: argparse.Namespace) -> None:
    """Scores what the arguments name, writes tables and pictures and prints the summary; raises UserError."""
    out = outputs.given(arguments.out, "--out")
    ways = [name for name in ("masks", "pairs", "prepared") if getattr(arguments, name) is not None]
    if len(ways) != 1:
        raise UserError("Truth is given by one of --masks, --pairs and --prepared: give one of them.")
    if arguments.maps and arguments.prepared:
        raise UserError("--maps takes --masks or --pairs: maps have no prepared split.")
    if not arguments.maps and not arguments.checkpoint:
        raise UserError("There is no network to score: give --checkpoint, or --maps for maps that are there.")
    _refuse_idle(arguments)
    split = "val" if arguments.split is None else arguments.split
    table = None
    if arguments.classes is not None:
        table = masks.read_class_table(outputs.given(arguments.classes, "--classes"))
    ours = out / "score.json"
    names = ("classes.csv", "scenes.csv", "confusion.csv")
    outputs.claim(
        [ours, out / "confusion.png", out / "samples.png"], unmarked=[out / name for name in names], sign=ours
    )
    former, files = report.files_of(out), []
    partition.start(outputs.cache_dir() / "xla")
    weights = weights_of(arguments.checkpoint, ema=arguments.ema, best=arguments.best) if arguments.checkpoint else None
    origin = {"checkpoint": weights.path if weights else "", "truth": str(getattr(arguments, ways[0]))}
    seen = inference_of(arguments, weights.config) if weights else None
    if arguments.panels and not arguments.prepared:
        raise UserError("--panels are of a prepared split: genseg.predict draws a picture of each scene in files.")
    if arguments.panels < 0:
        raise UserError(f"--panels is {arguments.panels}: give how many records to draw.")
    strange: list[str] = []
    if arguments.prepared:
        if arguments.borders or arguments.errors:
            raise UserError("--borders and --errors are of scenes in files: give --masks or --pairs.")
        card, confusion, scenes, picture = sources.prepared(
            weights,
            seen,
            outputs.given(arguments.prepared, "--prepared"),
            split,
            arguments.batch,
            arguments.panels,
        )
        if picture is not None:
            drawing.save_picture(out / "samples.png", picture)
            files.append("samples.png")
        data = f"{arguments.prepared}, split {split}"
        notes = doubts.beside(card, split, confusion)
    else:
        found = pairs.listed(arguments.pairs) if arguments.pairs else pairs.by_name(arguments.scenes, arguments.masks)
        options = {"borders": arguments.borders, "errors": out if arguments.errors else None, "told": _told}
        if arguments.maps:
            card, listed = _maps_of(found, weights.card if weights else None)
            scenes = sources.drawn(card, listed, table, **options)
        else:
            card = weights.card
            given = None if arguments.bands is None else bands.mapping(arguments.bands, card)
            request = runs.Request(out, Products(), given, arguments.sensor)
            scenes = sources.network(
                Predictor(weights, seen, arguments.batch), found, request, table, strange=strange.append, **options
            )
        confusion, data = np.sum([scene.confusion for scene in scenes], axis=0), f"{len(scenes)} scenes"
        if arguments.errors:
            files += [sources.error_map(Path(), scene.name).as_posix() for scene in scenes]
        trained = tuple(f"of the training data: {note}" for note in card.notes)
        in_masks = doubts.of_classes("these masks", confusion.sum(1), card)
        notes = (*trained, *in_masks, *report.left_out(scenes, "maps" if arguments.maps else "images"), *strange)
    doubts.refuse_uncounted(confusion, card.scored, card.classes)
    how = "maps as they are" if arguments.maps else f"seen in {seen.describe()}"
    protocol = f"{card.protocol or card.name}; {data}; {how}"
    origin["inference"] = None if arguments.maps else dataclasses.asdict(seen)
    print(report.write(out, card, confusion, scenes, protocol, origin | {"files": files}, notes))
    if gone := report.remove(out, [name for name in former if name not in files]):
        print(f"\nRemoved, of the former scores in {out}: {', '.join(gone[:5])}{', ...' if len(gone) > 5 else ''}")


def _told(scene) -> None:
    total = max(int(scene.confusion.sum()), 1)
    print(f"{scene.name}  OA {100 * np.trace(scene.confusion) / total:.2f}", flush=True)
