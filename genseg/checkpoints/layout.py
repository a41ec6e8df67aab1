"""Where a run's checkpoints lie, and how one is found and named."""

from __future__ import annotations

import math
from pathlib import Path

import orbax.checkpoint as ocp
from etils import epath

from genseg.errors import UserError

FOLDER, ASIDE = "checkpoints", "damaged"


def one_line(error: BaseException) -> str:
    """What an error says, in at most 300 characters of one line."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."


def rank(metrics: dict[str, float]) -> float:
    """The score, NaN below all others."""
    return metrics["score"] if math.isfinite(metrics["score"]) else -math.inf


def absolute(path: str) -> str:
    """Orbax wants absolute paths; addresses such as gs://bucket/x pass unchanged."""
    return path.rstrip("/") if "://" in path else str(Path(path).absolute())


def step_directory(path: str, best: bool) -> epath.Path:
    """One step's folder: `path` itself, or of a workdir (or its checkpoints folder) that of the latest or best step.

    Raises UserError when there is none.
    """
    root = epath.Path(absolute(path))
    if (root / "state").exists() and (root / "meta").exists():
        return root
    folder = root / FOLDER if (root / FOLDER).exists() else root
    if not folder.exists():
        raise UserError(f"no checkpoint at {path}: the folder does not exist; give a workdir or a step's folder")
    with ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(read_only=True, best_fn=rank),
        item_names=("state", "data", "meta"),
    ) as manager:
        step = manager.best_step() if best else manager.latest_step()
    if step is None:
        kind = "scored" if best else "complete"
        raise UserError(f"no {kind} checkpoint in {folder}; give a workdir whose training has saved one")
    return folder / str(step)
