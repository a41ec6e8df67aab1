"""What the command `genseg.predict` does."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import checkpoints, cli, outputs, partition, windows
from genseg.data.files import gdal
from genseg.errors import UserError
from genseg.predict import bands
from genseg.predict import run as runs
from genseg.predict.network import Predictor
from genseg.predict.polygons import Area
from genseg.predict.products import Products, paths
from genseg.predict.scenes import Scene, scenes_of


def inference_of(arguments: argparse.Namespace, config: dict) -> windows.Inference:
    """The command's windows; where it says nothing: windows of the training crop, every half of one, Hann blending."""
    crop = tuple(arguments.crop or config["augment"]["size"])
    return windows.Inference(
        mode=arguments.mode, crop=crop, stride=tuple(arguments.stride or (max(1, side // 2) for side in crop)),
        blend=arguments.blend, flip=arguments.flip, scales=tuple(arguments.scales),
        multiple=config["augment"]["eval_multiple"],
    )  # fmt: skip


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
        self.whole = 0
        self._bar = tqdm(unit="px", unit_scale=True, disable=None, leave=False)

    def __call__(self, what: str, scene: Scene, value: Any) -> None:
        target = paths(scene, self._out, self._products)["classes"]
        self.whole += what in ("done", "skipped")
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


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status: 0, or 2 after a mistake that a message says how to mend, of one scene or of
    the command."""

    def command() -> None:
        out = outputs.given(arguments.out, "--out")
        outputs.given(arguments.checkpoint, "--checkpoint")
        scenes = scenes_of(arguments.files, arguments.lists)
        products = Products(
            **{
                name: getattr(arguments, name)
                for name in ("probabilities", "entropy", "margin", "polygons", "smallest")
            },
            quicklook=arguments.quicklook,
        )
        _refuse_idle(arguments, scenes)
        _claim(scenes, out, products)
        partition.start(outputs.cache_dir() / "xla")
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
            with cli.saying(
                lambda: f"{told.whole} of {len(scenes)} scenes have their maps in {out}; the same command goes on there"
            ):
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


def _refuse_idle(arguments: argparse.Namespace, scenes: Sequence[Scene]) -> None:
    """Raises UserError for an option that would say nothing because of another one."""
    if arguments.smallest < 0 or (arguments.smallest and not arguments.polygons):
        raise UserError(f"--smallest is {arguments.smallest}: give the pixels of the smallest polygon, with --polygons")
    if arguments.resume and arguments.overwrite:
        raise UserError("--resume leaves finished scenes alone and --overwrite makes them again: give one of them")
    picked = next((str(scene) for scene in scenes if any(bands for _, bands in scene.files)), "")
    if picked and (arguments.bands or arguments.sensor):
        raise UserError(
            f"{picked} is given with its bands, as FILE:4,3,2, and {'--bands' if arguments.bands else '--sensor'} too: give one of them"
        )


def _claim(scenes: Sequence[Scene], out: Path, products: Products) -> None:
    """Refuses to write over what is read, and over what genseg has not made."""
    read = [path for scene in scenes for path, _ in scene.files if not gdal.remote(path)]
    for scene in scenes:
        where = paths(scene, out, products)
        unmarked = [where.pop(name) for name in ("areas", "polygons") if name in where]
        outputs.claim(where.values(), read, unmarked=unmarked, sign=where["classes"])
