"""What a command line and a program both ask for: scenes, a network, how it sees them and what is written, put together."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genseg import checkpoints, cli, outputs, partition, windows
from genseg.data.files import gdal
from genseg.errors import TryAgain, UserError
from genseg.predict import bands
from genseg.predict import run as runs
from genseg.predict.area import Area
from genseg.predict.network import Predictor
from genseg.predict.products import Products, paths
from genseg.predict.scenes import Scene


@dataclasses.dataclass(frozen=True)
class View:
    """How scenes are seen: fields of `windows.Inference`. crop: (height, width) of windows; None: the training crop.
    stride: (rows, columns) between them; None: half the crop. Raises: UserError for values that these cannot have."""

    mode: str = "slide"
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    blend: str = "hann"
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, known in (("mode", windows.MODES), ("blend", windows.BLENDS)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        for name in ("crop", "stride"):
            pair = getattr(self, name)
            if pair is not None and (len(_listed(pair)) != 2 or not all(isinstance(side, int) for side in pair)):
                raise UserError(f"{name} is {pair!r}: give two whole numbers of pixels, (height, width)")
        factors = _listed(self.scales)
        if not factors or not all(isinstance(s, int | float) and 0 < s <= windows.LARGEST_SCALE for s in factors):
            raise UserError(
                f"scales is {self.scales!r}: give factors above 0 and up to {windows.LARGEST_SCALE}, (1.0,) for none"
            )

    def inference(self, config: Mapping[str, Any]) -> windows.Inference:
        """With what it leaves open from the stored config of a run of segmentation."""
        height, width = self.crop or config["augment"]["size"]
        return windows.Inference(
            mode=self.mode, crop=(height, width),
            stride=(self.stride[0], self.stride[1]) if self.stride else (max(1, height // 2), max(1, width // 2)),
            blend=self.blend, flip=self.flip, scales=tuple(self.scales), multiple=config["augment"]["eval_multiple"],
        )  # fmt: skip


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def weights_of(checkpoint: str, *, ema: bool | None, best: bool) -> checkpoints.Weights:
    """A segmenter's weights; ema None: as its training's evaluation. Raises: UserError for other checkpoints."""
    weights = checkpoints.load_weights(checkpoint, ema=False, best=best)
    if weights.card.task != "segmentation":
        raise UserError(f"{weights.path} is a checkpoint of pre-training: give one of segmentation.")
    if ema or (ema is None and weights.config["eval"]["ema"]):
        weights = checkpoints.load_weights(checkpoint, ema=True, best=best)
    return weights


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Scenes, the network that sees them, and what is written of each; see `drawing_of`."""

    scenes: list[Scene]
    weights: checkpoints.Weights
    predictor: Predictor
    request: runs.Request

    def describe(self) -> str:
        """Lines: the network, its bands, how it sees scenes."""
        names = ", ".join(band.name for band in self.weights.card.bands)
        return f"Network    {self.weights.path}\nBands      {names}\nSeen       {self.predictor.inference.describe()}"

    def draw(self) -> runs.Outcome:
        """Writes the products of all scenes that are not finished, with a line a scene on standard output.

        Raises: UserError if a scene has no map in the end, after all others have theirs.
        """
        out, scenes = self.request.out, self.scenes
        out.mkdir(parents=True, exist_ok=True)
        told = _Told(len(scenes), out, self.request.products)
        try:
            with cli.saying(
                lambda: f"{told.whole} of {len(scenes)} scenes have their maps in {out}; the same command goes on there"
            ):
                outcome = runs.predict(scenes, self.predictor, self.weights, self.request, told=told)
        finally:
            told.close()
        if outcome.failed:
            if len(scenes) == 1:
                raise next(iter(outcome.failed.values()))
            raise UserError(
                f"{len(outcome.failed)} of {len(scenes)} scenes have no map, as said above; the others have."
            )
        return outcome

    def maps(self) -> list[Path]:
        """Draws, and returns the class map of each scene, in their order, made now or by an earlier call.

        Raises: UserError as `draw` does; TryAgain if another process is making one of them.
        """
        outcome = self.draw()
        if outcome.elsewhere:
            raise TryAgain(
                f"{outcome.elsewhere[0]} is being made by another process; call again when that one has ended"
            )
        return [paths(scene, self.request.out, self.request.products)["classes"] for scene in self.scenes]


def drawing_of(
    checkpoint: str, scenes: list[Scene], out: Path, products: Products, view: View, *, best: bool = False,
    ema: bool | None = None, batch: int = 0, given: str | Mapping[str, int] | None = None, sensor: str | None = None, aoi: str | None = None,
    overwrite: bool = False,
) -> Drawing:  # fmt: skip
    """Starts JAX and loads the network; what can be refused before is.

    Args:
      checkpoint: a workdir of segmentation, or the folder of one step.
      best, ema: see `weights_of`. batch: windows at a time; 0 = 4 a device.
      given: see `bands.mapping`. sensor: of `bands.SENSORS`. aoi: a file of polygons.
      overwrite: finished scenes are made again.
    Raises: UserError for whatever of it is wrong, and for what would be written over.
    """
    _refuse_idle(scenes, products, given, sensor)
    _claim(scenes, out, products)
    partition.start(outputs.cache_dir() / "xla")
    weights = weights_of(checkpoint, ema=ema, best=best)
    predictor = Predictor(weights, view.inference(weights.config), batch)
    places = None if given is None else bands.mapping(given, weights.card)
    area = None if aoi is None else Area(outputs.regular(outputs.given(aoi, "--aoi"), "area"))
    return Drawing(scenes, weights, predictor, runs.Request(out, products, places, sensor, area, overwrite))


def _refuse_idle(
    scenes: Sequence[Scene], products: Products, given: str | Mapping[str, int] | None, sensor: str | None
) -> None:
    """Raises UserError for an option that would say nothing because of another one, and for a sensor that is not known."""
    smallest = products.smallest
    if smallest < 0 or (smallest and not products.polygons):
        raise UserError(f"--smallest is {smallest}: give the pixels of the smallest polygon, with --polygons")
    if sensor is not None and sensor not in bands.SENSORS:
        raise UserError(f"--sensor is {sensor!r}: give one of {', '.join(bands.SENSORS)}")
    picked = next((str(scene) for scene in scenes if any(places for _, places in scene.files)), "")
    if picked and (given or sensor):
        raise UserError(
            f"{picked} is given with its bands, as FILE:4,3,2, and {'--bands' if given else '--sensor'} too: give one of them"
        )


def _claim(scenes: Sequence[Scene], out: Path, products: Products) -> None:
    """Refuses to write over what is read, and over what genseg has not made."""
    read = [path for scene in scenes for path, _ in scene.files if not gdal.remote(path)]
    for scene in scenes:
        where = paths(scene, out, products)
        unmarked = [where.pop(name) for name in ("areas", "polygons") if name in where]
        outputs.claim(where.values(), read, unmarked=unmarked, sign=where["classes"])


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
        elif what == "removed":
            self._say(f"{target}  removed, of the map before: {', '.join(value)}")
        elif what == "skipped":
            self._say(f"{target}  is there already")
        elif what == "elsewhere":
            self._say(f"{target}  is being made by another process")
        elif what == "doubt":
            self._say(f"NOTE {scene}: {value}")
        elif what == "failed" and self._scenes > 1:
            cli.tell(value)

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()
