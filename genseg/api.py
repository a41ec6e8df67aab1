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
    files: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    **options: Any,
) -> list[Path]:
    """Class maps of rasters (`genseg predict`); returns the maps of `out`, sorted.

    options: those of the command, with values: `stride=(256, 256)`, `flip=True`, `polygons=True`.
    Raises UserError unless every scene has got its map.
    """
    from genseg import predict

    if isinstance(files, str | os.PathLike):
        files = [files]
    arguments = ["--checkpoint", os.fspath(checkpoint), "--out", os.fspath(out)]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            arguments += [flag] if value else []
        elif isinstance(value, list | tuple):
            arguments += [flag, *map(str, value)]
        else:
            arguments += [flag, str(value)]
    try:
        status = predict.main([*arguments, "--", *(os.fspath(file) for file in files)])
    except SystemExit as error:
        raise UserError(
            f"genseg predict does not know one of the options {', '.join(options)}: see its --help"
        ) from error
    if status:
        raise UserError(f"not every scene has a map in {os.fspath(out)}; the line above says why")
    return sorted(p for p in outputs.given(os.fspath(out), "out").glob("*_classes.*") if p.suffix in (".tif", ".png"))


def prepare(name: str, data_dir: str | os.PathLike[str], **fields: Any) -> Path:
    """Raw files to a prepared data set, once (`genseg prepare`); returns its folder.

    fields: of `config.data` for this data set, such as source; the others have their defaults.
    """
    from genseg.data import DATASETS
    from genseg.data import prepare as preparing

    if name not in DATASETS:
        raise UserError(f"There is no data set {name!r}: it is one of {', '.join(sorted(DATASETS))}.")
    parts = [f"--{key}={value}" for key, value in fields.items()]
    try:
        data, _ = preparing.parse_command(
            [name, f"--data_dir={os.fspath(data_dir)}", *parts], "prepare", lambda p: None
        )
    except SystemExit as error:
        raise UserError(
            f"genseg.prepare does not know one of {', '.join(fields)} of {name}, or its value: see `genseg prepare {name} --help`"
        ) from error
    return preparing.ensure_prepared(data, outputs.given(os.fspath(data_dir), "data_dir"))


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
