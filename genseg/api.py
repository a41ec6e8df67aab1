"""What the command lines do, as functions: for notebooks and other programs. `import genseg` gives them, and imports
nothing else before one is called.

    config = genseg.load_config("demo_segment", {"data.data_dir": "data", "train.steps": 100})
    result = genseg.finetune(config, "runs/first", start="runs/csp4")
    maps = genseg.draw_maps("runs/first", ["scene.tif"], "maps")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genseg import cli, outputs, recipes
from genseg.config import load_file, refuse_unknown_key
from genseg.errors import UserError


def load_config(name: str, changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """A config file of yours or of genseg's ("pretrain:convnext_tiny,channels=4"), complete and locked.

    changes: "section.key" -> value, what `--config.section.key=value` is on a command line.
    Raises UserError for a file or key that there is not, and for a value of another type or out of range.
    """
    config = load_file(name)
    for key, value in (changes or {}).items():
        refuse_unknown_key(config, key)
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place[section]
        try:
            place[last] = value
        except TypeError as error:
            raise UserError(f"config.{key} cannot be {value!r}: {error}") from None
    return recipes.complete(config)


def pretrain(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains a classifier of n-channel images (`genseg train` with a config of config.task "pretrain").

    Goes on where an earlier call with the same config and workdir stopped. Returns what result.json holds: "scores"
    (shares in [0, 1]), "protocol", "step", ... Raises UserError for what can be mended, TryAgain when told to end.
    """
    return _trained(config, workdir, "pretrain")


def finetune(
    config: ConfigDict, workdir: str | os.PathLike[str], *, start: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Trains a segmentation network (`genseg train` with a config of config.task "segment").

    start: workdir or checkpoint whose backbone it starts from; None: what config.init.checkpoint says.
    Otherwise as `pretrain`.
    """
    if start is not None:
        config = config.copy_and_resolve_references()
        with config.unlocked():
            config.init.checkpoint = str(outputs.given(os.fspath(start), "start"))
        config.lock()
    return _trained(config, workdir, "segment")


def train(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Either of the two, as config.task says; JAX's processes and genseg's log have been started (`genseg.main` does)."""
    from genseg import train as loop

    return loop.train(config, os.fspath(workdir))


def draw_maps(
    checkpoint: str | os.PathLike[str],
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    best: bool = False,
    ema: bool | None = None,
    mode: str = "slide",
    crop: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    blend: str = "hann",
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    batch: int = 0,
    lists: Sequence[str | os.PathLike[str]] = (),
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    aoi: str | os.PathLike[str] | None = None,
    probabilities: bool = False,
    entropy: bool = False,
    margin: bool = False,
    polygons: bool = False,
    smallest: int = 0,
    quicklook: bool = True,
    overwrite: bool = False,
) -> list[Path]:
    """Class maps of rasters (`genseg predict`, whose options these are).

    Args:
      checkpoint: workdir of segmentation, or the folder of one step; its latest step, or with `best` its best one.
      files: rasters, folders, patterns, "FILE+FILE" for one scene of two files; one of them, or several.
      out: folder for the maps, made if absent.
      ema: averaged weights; None: as its training's evaluation (config.eval.ema).
      mode: "slide", through windows of `crop` every `stride` pixels (None: the training crop, half of it), or "whole".
      blend: weights of overlapping windows, "hann" or "uniform".
      flip, scales: windows are seen mirrored too, and at these factors of their size.
      batch: windows at a time; 0: 4 a device.
      lists: CSV files, a scene a line, beside or instead of `files` (then []).
      bands: where the network's bands are, "red=4,nir=8" or {"red": 4, "nir": 8}, from 1.
      sensor: whose band numbers the files' names are, such as "sentinel2". aoi: polygons; pixels outside get no class.
      probabilities, entropy, margin, polygons, quicklook: what else is written of a scene.
      smallest: pixels of the smallest polygon. overwrite: finished scenes are made again.

    Returns: the class map of each scene, in the order of the scenes, made now or by an earlier call.

    Raises: UserError for what can be mended, and unless every scene has its map (those that could be drawn are there);
    TryAgain when told to end, and if another process is making one of the maps.
    """
    from genseg import memory

    memory.keep_freed()
    from genseg.predict import Products, View, drawing_of, scenes_of

    cli.start_log()
    given = [files] if isinstance(files, str | os.PathLike) else files
    with cli.raising():
        folder = outputs.given(os.fspath(out), "out")
        outputs.given(os.fspath(checkpoint), "checkpoint")
        scenes = scenes_of([os.fspath(file) for file in given], [os.fspath(file) for file in lists])
        drawing = drawing_of(
            os.fspath(checkpoint), scenes, folder,
            Products(
                probabilities=probabilities, entropy=entropy, margin=margin, polygons=polygons, smallest=smallest,
                quicklook=quicklook,
            ),
            View(mode=mode, crop=crop, stride=stride, blend=blend, flip=flip, scales=scales),
            best=best, ema=ema, batch=batch, given=bands, sensor=sensor, aoi=None if aoi is None else os.fspath(aoi),
            overwrite=overwrite,
        )  # fmt: skip
        print(drawing.describe(), flush=True)
        return drawing.maps()


def prepare(
    name: str, data_dir: str | os.PathLike[str], *, threads: int = 0, skip_corrupt: int = 0, **fields: Any
) -> Path:
    """Raw files to a prepared data set, once (`genseg prepare`); returns its folder.

    threads: 0 = one a core. skip_corrupt: how many undecodable files are left out, counted.
    fields: of `config.data` for this data set, such as source; the others have their defaults.
    Raises: UserError for what can be mended, TryAgain when told to end.
    """
    from genseg.data import DATASETS
    from genseg.data import prepare as preparing

    if name not in DATASETS:
        raise UserError(f"There is no data set {name!r}: it is one of {', '.join(sorted(DATASETS))}.")
    cli.start_log()
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in fields.items()}
    with cli.raising():
        data = preparing.completed({"name": name, **plain}, "genseg.prepare") | {"skip_corrupt": skip_corrupt}
        return preparing.ensure_prepared(data, outputs.given(os.fspath(data_dir), "data_dir"), threads=threads)


def _trained(config: ConfigDict, workdir: str | os.PathLike[str], task: str) -> dict[str, Any]:
    if not isinstance(config, ConfigDict):
        raise UserError(f"the config is {type(config).__name__}: give what genseg.load_config(NAME) returns")
    workdir = outputs.given(os.fspath(workdir), "workdir")
    config = recipes.complete(config)
    if config.task != task:
        other = {"pretrain": "finetune", "segment": "pretrain"}[task]
        raise UserError(f"config.task is '{config.task}': call genseg.{other}, or give another config")
    from genseg import partition

    partition.start(outputs.cache_dir() / "xla")
    cli.start_log()
    return train(config, workdir)
