"""What the command `genseg.predict` does."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from genseg import cli, outputs, partition
from genseg.errors import UserError
from genseg.predict import run as runs
from genseg.predict.drawing import Drawing, View, drawing_of
from genseg.predict.products import Products
from genseg.predict.scenes import scenes_of


def plan(drawing: Drawing) -> str:
    """What the command would do: grid, memory, and the time by two timed batches on this machine."""
    scenes, predictor, request = drawing.scenes, drawing.predictor, drawing.request
    inference, lines, count, most = predictor.inference, [], 0, 0
    for scene in scenes:
        image, place = runs.open_scene(scene, predictor, request)
        height, width, channels = image.shape
        window = inference.window(height, width)
        number = len(inference.places(height, width))
        count += number
        held = window[0] * max(width, window[1]) * (len(predictor.card.classes) + 1) * 4
        most = max(most, 3 * held + 2 * window[0] * width * channels * image.dtype.itemsize)
        where = "no place" if place.crs is None else str(place.crs)
        lines.append(f"{scene}: {height} x {width}, {number:,} windows of {window[0]} x {window[1]}, {where}")
        lines += [f"NOTE {scene}: {sentence}" for sentence in runs.doubts(image, place, request)]
    pixels = np.zeros((predictor.batch, *window, channels), image.dtype)
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
        if arguments.resume and arguments.overwrite:
            raise UserError("--resume leaves finished scenes alone and --overwrite makes them again: give one of them")
        drawing = drawing_of(
            arguments.checkpoint, scenes, out, _filled(Products, arguments), _filled(View, arguments), best=arguments.best,
            ema=arguments.ema, batch=arguments.batch, given=arguments.bands, sensor=arguments.sensor, aoi=arguments.aoi,
            overwrite=arguments.overwrite,
        )  # fmt: skip
        print(drawing.describe(), flush=True)
        if arguments.dry_run:
            print(plan(drawing))
        else:
            drawing.draw()

    return cli.run(command)


def _filled(kind: type, arguments: argparse.Namespace) -> Any:
    """A dataclass whose fields are options of these names."""
    return kind(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(kind)})
