"""What the finished cells of a study hold: scores, and confusion counts of scenes that are checked against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genseg import arrays, border_scores, outputs
from genseg.errors import UserError
from genseg.report import writing
from genseg.study import running, statistics
from genseg.study.design import Cell

_MEND = "run the command of {} once more, which evaluates it anew"


@dataclass(frozen=True)
class Scenes:
    """names [s]; confusion int64 [s, c, c]; borders int64 [s, 7, 3, c] (`border_scores`); classes [c]; scored: ids of the
    classes in the mean; absent: its rule."""

    names: tuple[str, ...]
    confusion: np.ndarray
    borders: np.ndarray
    classes: tuple[str, ...]
    scored: tuple[int, ...]
    absent: str

    @property
    def basis(self) -> dict[str, Any]:
        """What two runs must share to be compared. "labels": each scene's true pixels of every class."""
        classes = (self.classes, self.scored, self.absent)
        return {"scenes": self.names, "classes": classes, "labels": self.confusion.sum(2).tolist()}


def scenes(out: Path, cell: Cell) -> Scenes:
    """Raises UserError unless the counts are there and, summed, give the mIoU and the border scores that the run reported."""
    found = running.result(out, cell)
    path = out / cell.folder / f"{found['split']}_scene_counts.npz"
    if not path.exists():
        raise UserError(f"{path} is missing; {_MEND.format(cell.folder)}")
    mend = _MEND.format(cell.folder)
    stored = arrays.read(path, mend)
    with outputs.undamaged(path, mend):
        here = Scenes(
            tuple(stored["scenes"].tolist()), stored["confusion"], stored["borders"], tuple(stored["classes"].tolist()),
            tuple(stored["scored"].tolist()), str(stored["absent"]),
        )  # fmt: skip
    said = found["scores"]
    miou = statistics.score("miou", here.scored, here.absent)(here.confusion.sum(0))
    of_borders = statistics.border_means(here.scored, here.absent)(here.borders.sum(0))
    for name, ours in (("miou", miou), *zip(border_scores.NAMES, of_borders, strict=True)):
        theirs = score(said, name)
        if theirs is not None and abs(ours - theirs) > 1e-9:
            raise UserError(
                f"the counts in {path} give a {name} of {ours:.6f} and result.json says {theirs:.6f}; {mend}"
            )
    return here


def score(scores: Mapping[str, float], name: str) -> float | None:
    """`name` among a run's scores as comparisons have it: of scenes that are cut into patches with each pixel once. None where
    the run lacks it."""
    return scores.get(f"{name}_stitched", scores.get(name))


def comparable(out: Path, cells: Sequence[Cell]) -> list[Scenes]:
    """Of each cell. Raises UserError naming two that were scored on different scenes, classes or labels."""
    found = [scenes(out, cell) for cell in cells]
    basis = found[0].basis
    for cell, here in zip(cells, found, strict=True):
        if differing := [word for word, value in here.basis.items() if value != basis[word]]:
            raise UserError(
                f"{cells[0].folder} and {cell.folder} were scored on different {differing[0]}; remove both folders, and the "
                "same command runs them again on the same data"
            )
    return found


def planned(cells: Sequence[Cell], target: str, a: str, b: str) -> list[tuple[Cell, Cell]]:
    """The pairs of two arms on a target, in order."""
    left, right = ({c.pair: c for c in cells if (c.target, c.arm) == (target, arm)} for arm in (a, b))
    return [(left[pair], right[pair]) for pair in sorted(left.keys() & right.keys())]


def pairs(cells: Sequence[Cell], out: Path, target: str, a: str, b: str) -> list[tuple[Cell, Cell]]:
    """Those of `planned` of which both runs have ended."""
    return [pair for pair in planned(cells, target, a, b) if all(running.state(out, c) == "done" for c in pair)]


def metrics(out: Path, cell: Cell, name: str) -> np.ndarray:
    """float [lines, 2]: step and value of `name` in the cell's metrics.jsonl."""
    path = out / cell.folder / "metrics.jsonl"
    records = [record for _, record in writing.lines_of(path)] if path.exists() else []
    rows = [(record["step"], record[name]) for record in records if name in record]
    return np.array(rows, float).reshape(-1, 2)
