"""A study's pictures as uint8 [h, w, 3]; None where nothing is there to draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genseg.study import results, running
from genseg.study.design import Cell, Study

if TYPE_CHECKING:
    from genseg.study.report import Comparison


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.8 s: only where a picture is drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, FigureCanvasAgg(figure), figure.subplots(1, columns, squeeze=False)[0]


def _pixels(canvas: Any) -> np.ndarray:
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def differences(study: Study, compared: Sequence[Comparison]) -> np.ndarray | None:
    """A line a comparison: mean and interval, every pair as a dot; the primary ones in colour."""
    if not compared:
        return None
    name = study.primary.score
    _, canvas, (axes,) = _figure(8, 1.2 + 0.42 * len(compared))
    for row, c in enumerate(reversed(compared)):
        d, colour = c.difference[name], "tab:red" if c.primary else "0.35"
        axes.plot([100 * d.low, 100 * d.high], [row, row], color=colour, linewidth=2)
        axes.plot(100 * d.each, np.full(len(d.each), row) + 0.16, ".", color=colour, alpha=0.5, markersize=5)
        axes.plot(100 * d.mean, row, "o", color=colour)
    labels = [f"{c.target}: {c.a} - {c.b} ({c.pairs} pairs)" for c in reversed(compared)]
    axes.set_yticks(range(len(compared)), labels, fontsize=8)
    axes.set_ylim(-0.5, len(compared) - 0.5)
    axes.axvline(0, color="0.7", linewidth=1)
    axes.set_xlabel(f"difference of {name} (points): mean, 95 % interval, pairs above it")
    axes.set_title(f"{study.name}; red: named beforehand", fontsize=9)
    return _pixels(canvas)


def scores(study: Study, cells: Sequence[Cell], out: Path) -> np.ndarray | None:
    """A panel a target: every run's score, lines between the runs of a pair."""
    name = study.primary.score
    found = {}
    for c in cells:
        ended = running.result(out, c) if c.target else None
        if ended is not None and (score := results.score(ended["scores"], name)) is not None:
            found[c.target, c.arm, c.pair] = 100 * score
    if not found:
        return None
    targets = [t for t in study.targets if any(place[0] == t for place in found)]
    _, canvas, panels = _figure(1.5 + 3.2 * len(targets), 3.6, len(targets))
    for axes, target in zip(panels, targets, strict=True):
        arms = [arm for arm in study.arms if any(place[:2] == (target, arm) for place in found)]
        for pair in range(study.pairs):
            line = [found.get((target, arm, pair), np.nan) for arm in arms]
            axes.plot(range(len(arms)), line, "o-", color=f"C{study.pretraining_of(pair)}", alpha=0.7, linewidth=0.8)
        axes.set_xticks(range(len(arms)), arms)
        axes.margins(x=0.15)
        axes.set_title(target, fontsize=9)
        axes.set_ylabel(f"{name} (%)")
    panels[0].figure.suptitle(f"{study.name}: every run; a colour a pre-training seed", fontsize=9)
    return _pixels(canvas)


def curves(study: Study, cells: Sequence[Cell], out: Path) -> np.ndarray | None:
    """Training loss over steps, a panel for pre-training and each target, a colour an arm."""
    groups: dict[str, list[tuple[str, np.ndarray]]] = {}
    for cell in cells:
        line = results.metrics(out, cell, "train/loss")
        if len(line):
            arm = cell.arm or cell.folder.split("/")[1].rpartition("-s")[0]
            groups.setdefault(cell.target or "pre-training", []).append((arm, line))
    if not groups:
        return None
    _, canvas, panels = _figure(1.5 + 3.4 * len(groups), 3.4, len(groups))
    names = list(dict.fromkeys([*study.pretrain, *study.arms]))
    for axes, (title, lines) in zip(panels, groups.items(), strict=True):
        for arm, line in lines:
            axes.plot(line[:, 0], line[:, 1], color=f"C{names.index(arm)}", alpha=0.5, linewidth=0.8)
        for arm in dict.fromkeys(arm for arm, _ in lines):
            axes.plot([], [], color=f"C{names.index(arm)}", label=arm)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        axes.legend(fontsize=7)
    return _pixels(canvas)
