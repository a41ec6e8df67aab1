"""Class maps of anyone's rasters, of any size, with a trained network.

    python -m genseg.predict --checkpoint=WORKDIR --out=DIR scene.tif other.tif rgb.png+thermal.png ...

Each file (or several files of one scene, joined by "+") must hold the bands that the network was trained on, in that
order and in the same units; FILE:4,3,2 takes these bands of a file, counted from 1, as in rgb.png+thermal.png:1. FILE_classes.tif or .png is an indexed picture: values are class ids, viewers show the
palette; pixels without a measurement get the ignore label. GeoTIFFs keep their place and projection. A scene is seen
through a sliding window; memory holds one row of windows, so its size does not matter.
"""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, cli, inputs, partition, tasks, windows
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.files.rasters import Raster, write_classes
from genseg.data.sets import own
from genseg.errors import UserError


class Measured:
    """A raster as the network takes it: values that are no measurement are the band's mean."""

    def __init__(self, raster: Raster, card: DatasetCard):
        """Raises: UserError unless band count and type are those of the card."""
        name = " + ".join(map(str, raster.paths))
        if raster.shape[2] != card.channels:
            raise UserError(
                f"{name} has {raster.shape[2]} band(s), but the network takes {card.channels} "
                f"({', '.join(b.name for b in card.bands)}): join files by '+', or pick bands by FILE:1,2,3."
            )
        if not np.can_cast(raster.dtype, card.dtype, "safe"):
            raise UserError(
                f"{name} holds {raster.dtype}, but the network was trained on {card.dtype}: convert it to the units of "
                f"the training images."
            )
        self._raster, self.shape = raster, raster.shape
        bands = zip(card.bands, raster.nodata, strict=True)
        self.card = dataclasses.replace(
            card, bands=tuple(b if v is None else dataclasses.replace(b, nodata=v) for b, v in bands)
        )

    def _stored(self, place: tuple[slice, slice]) -> np.ndarray:
        return self._raster[place].astype(self.card.dtype, copy=False)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        return pipeline.filled(self._stored(place), self.card)

    def measured(self, first: int, end: int) -> np.ndarray | None:
        """bool [end - first, width]: pixels that hold a measurement in every band; None if all do."""
        measured = own.measured_pixels(self._stored((slice(first, end), slice(None))), self.card)
        return None if measured is None else measured.all(axis=2)


class Predictor:
    """The network of a checkpoint, ready to draw class maps on this process's devices."""

    def __init__(self, weights: checkpoints.Weights, inference: windows.Inference, batch: int):
        """batch: windows at a time; 0 = 4 a device. Raises: UserError if it does not divide over the devices."""
        local = partition.local_mesh()
        self._batch = batch or 4 * local.size
        partition.check_batch(self._batch, local)
        config = ConfigDict(weights.config)
        config.eval.update({k: v for k, v in dataclasses.asdict(inference).items() if k != "multiple"})
        self.card, self.inference = weights.card, inference
        self._scorer = windows.make_scorer(tasks.build_segment(config, weights.card).scores, local)
        self._params, self._stats = partition.replicate((weights.params, weights.stats), local)
        self.nodata = 255 if self.card.ignore_label is None else self.card.ignore_label

    def rows(self, raster: Raster) -> Iterator[np.ndarray]:
        """uint8 [n, width] class ids from top to bottom."""
        image = Measured(raster, self.card)
        for _, row, ids in windows.class_rows(
            [(None, image)], lambda pixels: self._scorer(self._params, self._stats, pixels), inference=self.inference,
            classes=len(self.card.classes), batch=self._batch, fill=self.card.fill,
        ):  # fmt: skip
            measured = image.measured(row, row + len(ids))
            yield ids if measured is None else np.where(measured, ids, np.uint8(self.nodata))

    def write(self, scene: Sequence[tuple[Path, tuple[int, ...]]], target: Path) -> None:
        """The class map of a scene, given as (file, bands; see `Raster`), as the file `target`."""
        raster = Raster(*zip(*scene, strict=True))
        write_classes(target, self.rows(raster), raster.shape[:2], self.card, nodata=self.nodata, tags=raster.tags)


def inference_of(arguments: argparse.Namespace, config: dict) -> windows.Inference:
    """The command's windows; where it says nothing: windows of the training crop, every half of one, Hann blending."""
    crop = tuple(arguments.crop or config["augment"]["size"])
    return windows.Inference(
        mode=arguments.mode, crop=crop, stride=tuple(arguments.stride or (max(1, side // 2) for side in crop)),
        blend=arguments.blend, flip=arguments.flip, scales=tuple(arguments.scales),
        multiple=config["augment"]["eval_multiple"],
    )  # fmt: skip


def scenes_of(files: list[str], out: Path) -> dict[Path, list[tuple[Path, tuple[int, ...]]]]:
    """Target -> (file, bands from 1 or () for all) of its scene. Raises: UserError for files that are not there, and for
    two scenes of one name."""
    found: dict[Path, list[tuple[Path, tuple[int, ...]]]] = {}
    for text in files:
        scene = [_file_and_bands(part) for part in ([text] if Path(text).is_file() else text.split("+"))]
        first = scene[0][0]
        suffix = ".tif" if first.suffix.lower() in (".tif", ".tiff") else ".png"
        target = out / f"{first.stem}_classes{suffix}"
        if target in found:
            raise UserError(f"{found[target][0][0]} and {first} would both be written to {target}: predict them apart.")
        found[target] = scene
    return found


def _file_and_bands(text: str) -> tuple[Path, tuple[int, ...]]:
    """ "scene.tif:4,3,2" -> (scene.tif, (4, 3, 2)), unless a file has that very name."""
    match = re.fullmatch(r"(.+):(\d+(?:,\d+)*)", text)
    path, bands = (Path(match[1]), tuple(map(int, match[2].split(",")))) if match else (Path(text), ())
    if Path(text).is_file():
        path, bands = Path(text), ()
    if not path.is_file():
        raise UserError(f"There is no file {path}: give rasters that exist.")
    return path, bands


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m genseg.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a workdir of segmentation, or the folder of one step")
    parser.add_argument("--out", required=True, help="folder for the class maps; made if absent")
    parser.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="averaged weights; training's eval.ema")
    parser.add_argument("--mode", choices=windows.MODES, default="slide", help="through windows, or the whole scene")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="of windows; else the training crop")
    parser.add_argument("--stride", type=int, nargs=2, metavar=("H", "W"), help="of windows; else half the crop")
    parser.add_argument("--blend", choices=windows.BLENDS, default="hann", help="weights of overlapping windows")
    parser.add_argument("--flip", action="store_true", help="also see each window mirrored")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="see each window at these scales")
    parser.add_argument("--batch", type=int, default=0, help="windows at a time; 0 = 4 a device")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="rasters; FILE+FILE stacks bands, FILE:4,3,2 picks them"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 after a mistake that the message says how to mend."""
    arguments = parse(argv)

    def command() -> None:
        out = Path(arguments.out)
        scenes = scenes_of(arguments.files, out)
        partition.start(inputs.cache_dir() / "xla")
        weights = checkpoints.load_weights(arguments.checkpoint, ema=False, best=arguments.best)
        if weights.card.task != "segmentation":
            raise UserError(f"{weights.path} is a checkpoint of pre-training: give one of segmentation.")
        if arguments.ema or (arguments.ema is None and weights.config["eval"]["ema"]):
            weights = checkpoints.load_weights(arguments.checkpoint, ema=True, best=arguments.best)
        predictor = Predictor(weights, inference_of(arguments, weights.config), arguments.batch)
        print(f"Network    {weights.path}\nBands      {', '.join(b.name for b in weights.card.bands)}")
        print(f"Seen       {predictor.inference.describe()}")
        out.mkdir(parents=True, exist_ok=True)
        for target, scene in scenes.items():
            began = time.monotonic()
            predictor.write(scene, target)
            print(f"{target}  {time.monotonic() - began:.1f} s", flush=True)

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
