"""Where a run's checkpoints lie, and how one is found and named."""

from __future__ import annotations

import json
import math

from etils import epath

from genseg import outputs
from genseg.errors import UserError

FOLDER, ASIDE = "checkpoints", "damaged"


def one_line(error: BaseException) -> str:
    """What an error says, in at most 300 characters of one line: of longer ones the beginning and the end, where TensorStore says
    why, behind the names of files."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:147]} ... {text[-148:]}"


def rank(metrics: dict[str, float]) -> float:
    """The score, NaN below all others."""
    return metrics["score"] if math.isfinite(metrics["score"]) else -math.inf


def absolute(path: str) -> str:
    """Orbax wants absolute paths; addresses such as gs://bucket/x pass unchanged."""
    return path.rstrip("/") if "://" in path else str(outputs.given(path, "the path of the checkpoint").absolute())


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
    steps = [step for step in steps_in(folder) if (folder / str(step) / "state").exists()]
    if best:
        scores = {step: score for step in steps if (score := _score(folder / str(step))) is not None}
        steps = [max(scores, key=lambda step: (scores[step], step))] if scores else []
    if not steps:
        kind = "scored" if best else "complete"
        raise UserError(
            f"no {kind} checkpoint in {folder}; give {_runs_in(folder) or 'a workdir whose training has saved one'}"
        )
    return folder / str(max(steps))


def _runs_in(folder: epath.Path) -> str:
    """Names workdirs that lie in a folder which was given in their place; "" where there is none."""
    runs = [child.name for child in sorted(folder.iterdir()) if (child / FOLDER).exists()] if folder.is_dir() else []
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    return f"one of the workdirs in it: {', '.join(runs[:5])}{more}" if runs else ""


def steps_in(folder: epath.Path) -> list[int]:
    """The steps whose folders lie in a folder of checkpoints, which need not exist.

    Raises UserError for a name such as "0006": Orbax takes it for step 6, and fails.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; checkpoints lie in one: move it away, or give another --workdir")
    found = []
    for name in sorted(path.name for path in folder.iterdir()):
        if name.isdigit():  # digits of other scripts, too
            if not name.isascii() or str(int(name)) != name:
                raise UserError(f"{folder / name} is no checkpoint of genseg, whose steps are named as 6; move it away")
            found.append(int(name))
    return found


def _score(step_dir: epath.Path) -> float | None:
    """The score that a step was saved with, as `rank` has it; None without one."""
    path = step_dir / "metrics" / "metrics"
    try:
        return rank(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except (ValueError, KeyError, TypeError):
        return None
