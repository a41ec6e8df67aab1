"""The command line of `genseg.predict`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import checkpoints, cli, inputs, outputs, partition, windows
from genseg.errors import UserError
from genseg.predict import bands
from genseg.predict import run as runs
from genseg.predict.network import Predictor
from genseg.predict.polygons import Area
from genseg.predict.products import Products, paths
from genseg.predict.scenes import Scene, scenes_of

DESCRIPTION = """Class maps of anyone's rasters, of any size, with a trained network.

    python -m genseg.predict --checkpoint=WORKDIR --out=DIR scene.tif folder/ "tiles/*.tif" rgb.png+thermal.png ...

A scene is one file, or several joined by "+"; FILE:4,3,2 takes these bands of a file, counted from 1. Bands are matched
by the names that files give them (red, B04, SWIR 1, ...) or that --bands gives; a file without names must hold the
bands that the network was trained on, in that order, and all must be in the units of the training images. Written are
NAME_classes.tif (a Cloud Optimised GeoTIFF in the scene's place, or NAME_classes.png), whose values are class ids, with
NAME_classes.qml for QGIS; NAME_areas.csv, NAME_quicklook.png, NAME.json, and what is asked for below. A scene is seen
through a sliding window; memory holds rows of windows, so its size does not matter. The same command again leaves
finished scenes alone; several at once, with one --out, share the scenes."""


def inference_of(arguments: argparse.Namespace, config: dict) -> windows.Inference:
    """The command's windows; where it says nothing: windows of the training crop, every half of one, Hann blending."""
    crop = tuple(arguments.crop or config["augment"]["size"])
    return windows.Inference(
        mode=arguments.mode, crop=crop, stride=tuple(arguments.stride or (max(1, side // 2) for side in crop)),
        blend=arguments.blend, flip=arguments.flip, scales=tuple(arguments.scales),
        multiple=config["augment"]["eval_multiple"],
    )  # fmt: skip


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m genseg.predict", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a workdir of segmentation, or the folder of one step")
    parser.add_argument("--out", required=True, help="folder for the maps; made if absent")
    parser.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="averaged weights; training's eval.ema")
    add_inference(parser)
    what = parser.add_argument_group("what is read")
    what.add_argument("--from", dest="lists", action="append", default=[], metavar="LIST", help="CSV, a scene a line")
    what.add_argument("--bands", metavar="NAME=PLACE,...", help="where the network's bands are, as in red=4,nir=8")
    what.add_argument("--sensor", choices=bands.SENSORS, help="whose band numbers the files' names are")
    what.add_argument("--aoi", metavar="FILE", help="polygons; pixels outside get no class")
    made = parser.add_argument_group("what is written beside the class map")
    made.add_argument("--probabilities", action="store_true", help="a band a class, 0 .. 250 for 0 .. 1")
    made.add_argument("--entropy", action="store_true", help="of the probabilities, over log(classes), 0 .. 250")
    made.add_argument("--margin", action="store_true", help="between the two largest probabilities, 0 .. 250")
    made.add_argument("--polygons", action="store_true", help="a GeoPackage of the map's regions")
    made.add_argument("--smallest", type=int, default=0, metavar="PIXELS", help="smaller polygons join a neighbour")
    made.add_argument("--quicklook", action=argparse.BooleanOptionalAction, default=True, help="a picture (default)")
    how = parser.add_argument_group("how")
    how.add_argument("--overwrite", action="store_true", help="make finished scenes again")
    how.add_argument("--resume", action="store_true", help="leave finished scenes alone: the default, said aloud")
    how.add_argument("--dry_run", action="store_true", help="say windows, memory and time, and write nothing")
    parser.add_argument("files", nargs="*", metavar="SCENE", help="files, folders, patterns; FILE+FILE stacks bands")
    return parser.parse_args(argv)


def add_inference(parser: argparse.ArgumentParser) -> None:
    """The options that `inference_of` reads, and --batch."""
    seen = parser.add_argument_group("how scenes are seen")
    seen.add_argument("--mode", choices=windows.MODES, default="slide", help="through windows, or the whole scene")
    seen.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="of windows; else the training crop")
    seen.add_argument("--stride", type=int, nargs=2, metavar=("H", "W"), help="of windows; else half the crop")
    seen.add_argument("--blend", choices=windows.BLENDS, default="hann", help="weights of overlapping windows")
    seen.add_argument("--flip", action="store_true", help="also see each window mirrored")
    seen.add_argument("--scales", type=float, nargs="+", default=[1.0], help="see each window at these scales")
    seen.add_argument("--batch", type=int, default=0, help="windows at a time; 0 = 4 a device")


def weights_of(checkpoint: str, *, ema: bool | None, best: bool) -> checkpoints.Weights:
    """A segmenter's weights; ema None: as its training's evaluation. Raises: UserError for other checkpoints."""
    weights = checkpoints.load_weights(checkpoint, ema=False, best=best)
    if weights.card.task != "segmentation":
        raise UserError(f"{weights.path} is a checkpoint of pre-training: give one of segmentation.")
    if ema or (ema is None and weights.config["eval"]["ema"]):
        weights = checkpoints.load_weights(checkpoint, ema=True, best=best)
    return weights


class _Told:
    """Lines and a bar of pixels for people."""

    def __init__(self, scenes: int, out: Path, products: Products):
        from tqdm import tqdm

        self._scenes, self._out, self._products = scenes, out, products
        self._bar = tqdm(unit="px", unit_scale=True, disable=None, leave=False)

    def __call__(self, what: str, scene: Scene, value: Any) -> None:
        target = paths(scene, self._out, self._products)["classes"]
        if what == "rows":
            self._bar.update(value)
        elif what == "opened":
            self._bar.total = (self._bar.total or 0) + value
            self._bar.set_description(scene.name)
        elif what == "done":
            self._say(f"{target}  {value:.1f} s")
        elif what == "skipped":
            self._say(f"{target}  is there already")
        elif what == "elsewhere":
            self._say(f"{target}  is being made by another process")
        elif what == "strange":
            self._say(f"NOTE {scene}: {value}; give the units of the training images.")
        elif what == "failed" and self._scenes > 1:
            cli.tell(value)

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def plan(scenes: Sequence[Scene], predictor: Predictor, request: runs.Request) -> str:
    """What the command would do: grid, memory, and the time by two timed batches on this machine."""
    inference, lines, count, most = predictor.inference, [], 0, 0
    for scene in scenes:
        image, place = runs.open_scene(scene, predictor, request)
        height, width, channels = image.shape
        window = inference.window(height, width)
        number = len(inference.places(height, width))
        count += number
        held = window[0] * max(width, window[1]) * (len(predictor.card.classes) + 1) * 4
        most = max(most, 3 * held + 2 * window[0] * width * channels * np.dtype(image.card.dtype).itemsize)
        where = "no place" if place.crs is None else str(place.crs)
        lines.append(f"{scene}: {height} x {width}, {number:,} windows of {window[0]} x {window[1]}, {where}")
        lines += [f"NOTE {scene}: {sentence}" for sentence in image.strange()]
    pixels = np.zeros((predictor.batch, *window, channels), image.card.dtype)
    np.asarray(predictor.score(pixels))  # compiles
    began = time.monotonic()
    for _ in range(2):
        np.asarray(predictor.score(pixels))
    seconds = (time.monotonic() - began) / 2 * -(-count // predictor.batch)
    lines.append(
        f"{len(scenes)} scene(s), {count:,} windows in batches of {predictor.batch}: about {seconds:.0f} s of the network on "
        f"{partition.local_mesh().size} device(s); host memory for rows of windows about {most / 2**20:.0f} MiB"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 after a mistake that a message says how to mend, of one scene or
    of the command."""
    arguments = parse(argv)

    def command() -> None:
        out = outputs.given(arguments.out, "--out")
        scenes = scenes_of(arguments.files, arguments.lists)
        products = Products(
            **{
                name: getattr(arguments, name)
                for name in ("probabilities", "entropy", "margin", "polygons", "smallest")
            },
            quicklook=arguments.quicklook,
        )
        _claim(scenes, out, products)
        partition.start(inputs.cache_dir() / "xla")
        weights = weights_of(arguments.checkpoint, ema=arguments.ema, best=arguments.best)
        predictor = Predictor(weights, inference_of(arguments, weights.config), arguments.batch)
        given = None if arguments.bands is None else bands.mapping(arguments.bands, weights.card)
        area = None if arguments.aoi is None else Area(outputs.regular(outputs.given(arguments.aoi, "--aoi"), "area"))
        request = runs.Request(out, products, given, arguments.sensor, area, arguments.overwrite)
        print(f"Network    {weights.path}\nBands      {', '.join(b.name for b in weights.card.bands)}")
        print(f"Seen       {predictor.inference.describe()}", flush=True)
        if arguments.dry_run:
            print(plan(scenes, predictor, request))
            return
        out.mkdir(parents=True, exist_ok=True)
        told = _Told(len(scenes), out, products)
        try:
            outcome = runs.predict(scenes, predictor, weights, request, told=told)
        finally:
            told.close()
        if outcome.failed:
            first = next(iter(outcome.failed.values()))
            if len(scenes) == 1:
                raise first
            raise UserError(
                f"{len(outcome.failed)} of {len(scenes)} scenes have no map, as said above; the others have."
            )

    return cli.run(command)


def _claim(scenes: Sequence[Scene], out: Path, products: Products) -> None:
    """Refuses to write over what is read, and over what genseg has not made."""
    read = [path for scene in scenes for path, _ in scene.files]
    for scene in scenes:
        where = paths(scene, out, products)
        marked = [
            where[name] for name in ("record", "quicklook", "probabilities", "entropy", "margin") if name in where
        ]
        outputs.claim(marked, read)
