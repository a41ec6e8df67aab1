"""Services that runs are sent to where a config asks for it: Weights & Biases, MLflow. Where to, and as whom, is said to them
in their own ways (`wandb login`, WANDB_MODE=offline, MLFLOW_TRACKING_URI). mlflow-skinny writes to servers; to a folder of its own
only with MLFLOW_ALLOW_FILE_STORE=true, and to no database."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from genseg.errors import UserError

PROJECT = "genseg"


class Tracker(Protocol):
    """Where scalars and pictures of a run go to."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def image(self, step: int, name: str, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Wandb:
    """A run of the project "genseg", named as the workdir; the same workdir goes on with the same run."""

    def __init__(self, wandb: ModuleType, workdir: Path, config: Mapping[str, Any]):
        self._wandb = wandb
        self._run = wandb.init(
            project=PROJECT, name=workdir.name, dir=str(workdir), config=dict(config), resume="allow", id=_mark(workdir)
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._run.log({name: self._wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """A run of the experiment "genseg", named as the workdir, whose id is kept there to go on with it."""

    def __init__(self, mlflow: ModuleType, workdir: Path, config: Mapping[str, Any]):
        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        kept = workdir / "mlflow_run_id"
        if kept.exists():
            mlflow.start_run(run_id=kept.read_text(encoding="utf-8").strip())
            return
        kept.write_text(mlflow.start_run(run_name=workdir.name).info.run_id + "\n", encoding="utf-8")
        mlflow.log_params({key: str(value)[:500] for key, value in _flat(config).items()})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._mlflow.log_image(pixels, artifact_file=f"{name}_{step}.png")

    def close(self) -> None:
        self._mlflow.end_run()


KINDS = {"wandb": Wandb, "mlflow": Mlflow}
MENDS = {
    "wandb": "run `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to your server, or to file:/FOLDER with MLFLOW_ALLOW_FILE_STORE=true",
}


def started(names: Sequence[str], workdir: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """Trackers by name, of KINDS. Raises UserError for one that is not installed, or does not start."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            raise UserError(
                f"config.report.trackers names {name}, which is not installed; pip install 'genseg[trackers]', or leave it out"
            ) from None
    return [_start(name, module, workdir, config) for name, module in found.items()]


def _start(name: str, module: ModuleType, workdir: Path, config: Mapping[str, Any]) -> Tracker:
    try:
        return KINDS[name](module, workdir, config)
    except Exception as error:  # the services have errors of their own, for what the user has not set up
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"config.report.trackers: {name} does not start ({reason}); {MENDS[name]}, or leave it out"
        ) from error


def _mark(workdir: Path) -> str:
    return hashlib.sha256(str(workdir.resolve()).encode()).hexdigest()[:16]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
