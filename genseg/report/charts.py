"""Charts of runs side by side: curves, per-class bars, confusion. One picture for all, or SVGs for a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import outputs
from genseg.report.runs import Run

# Okabe and Ito's colours, of those the ones that stand out on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
INK = "#123456"  # of text and axes in SVGs, replaced by the page's own colour


def curves(axes: Any, runs: Sequence[Run], key: str, title: str) -> None:
    """One line a run over steps; shares in percent."""
    for i, run in enumerate(runs):
        steps, values = run.curve(key)
        if len(steps):
            scale = 100 if key.startswith("eval/") else 1
            axes.plot(
                steps,
                scale * values,
                color=COLOURS[i % 8],
                marker="." if len(steps) < 40 else "",
                ms=12 if len(steps) == 1 else 5,
                label=run.name,
            )
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)


def class_bars(axes: Any, runs: Sequence[Run]) -> None:
    """IoU a class and run in percent, with intervals where scenes were counted."""
    classes = runs[0].classes
    height = 0.8 / len(runs)
    places = np.arange(len(classes))
    for i, run in enumerate(runs):
        ends = None
        if run.interval is not None:
            ends = 100 * np.nan_to_num(np.abs(run.interval - run.iou))
        axes.barh(
            places + i * height, 100 * np.nan_to_num(run.iou), height, color=COLOURS[i % 8], label=run.name, xerr=ends,
            error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )  # fmt: skip
    axes.set_yticks(places + 0.4 - height / 2, classes)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_title("IoU, %" + (", 95 % over scenes" if any(r.interval is not None for r in runs) else ""), fontsize=10)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def border_bars(axes: Any, runs: Sequence[Run]) -> None:
    """Each border score and run in percent, a mean over the scored classes."""
    names = list(runs[0].borders)
    height = 0.8 / len(runs)
    places = np.arange(len(names))
    for i, run in enumerate(runs):
        values = 100 * np.nan_to_num([run.borders.get(name, np.nan) for name in names])
        axes.barh(places + i * height, values, height, color=COLOURS[i % 8], label=run.name)
    axes.set_yticks(places + 0.4 - height / 2, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_title("at borders, %, mean over classes", fontsize=10)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def confusion(axes: Any, run: Run) -> None:
    """Shares of each true class in percent."""
    counts = run.confusion
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(run.classes)), run.classes, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(run.classes)), run.classes, fontsize=8)
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 1:
                colour = "white" if share > 55 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(f"{run.name}: truth (rows) and prediction, %", fontsize=10)


def panels(runs: Sequence[Run]) -> list[tuple[Callable[[Any], None], float, float]]:
    """(draw, width, height in inches) of every chart that these runs have something for."""
    found: list[tuple[Callable[[Any], None], float, float]] = []
    keys = dict.fromkeys(key for run in runs for record in run.records for key in record)
    wanted = [
        ("train/loss", "training loss"),
        ("train/learning_rate", "learning rate"),
        ("train/images_per_second", "images per second"),
    ]
    wanted += [(f"eval/{name}", f"{name}, %") for name in ("miou", "top1", "top1_permuted", "top1_reversed")]
    for key, title in wanted:
        if key in keys:
            found.append((lambda axes, key=key, title=title: curves(axes, runs, key, title), 5.2, 3.2))
    alike = [run for run in runs if run.classes and run.classes == next(r.classes for r in runs if r.classes)]
    if alike:
        height = max(3.2, 0.22 * len(alike[0].classes) * (len(alike) + 0.6))
        found.append((lambda axes: class_bars(axes, alike), 5.2, height))
    with_borders = [run for run in runs if run.borders]
    if with_borders:
        height = max(3.2, 0.22 * len(with_borders[0].borders) * (len(with_borders) + 0.6))
        found.append((lambda axes: border_bars(axes, with_borders), 5.2, height))
    for run in runs:
        if run.confusion is not None:
            side = max(4.2, 0.36 * len(run.classes) + 1.8)
            found.append((lambda axes, run=run: confusion(axes, run), side, side))
    return found


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # 0.8 s: only where something is drawn

    return Figure(figsize=(width, height), layout="constrained")


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """One chart as SVG without background, whose text and axes have the colour of the text around it."""
    import matplotlib

    kinds = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    with matplotlib.rc_context(dict.fromkeys(kinds, INK) | {"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = _figure(width, height)
        draw(figure.add_subplot())
        figure.patch.set_alpha(0)
        figure.axes[0].patch.set_alpha(0)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()[text.getvalue().index("<svg") :]
    drawn = re.sub(
        r'(<svg[^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", drawn, count=1), count=1
    )
    return drawn.replace(INK, "currentColor")


def png(runs: Sequence[Run], path: Path) -> None:
    """All charts on one picture."""
    charts = panels(runs)
    columns = 2
    rows = [charts[i : i + columns] for i in range(0, len(charts), columns)]
    heights = [max(height for _, _, height in row) for row in rows]
    figure = _figure(11, sum(heights) + 0.6)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for i, row in enumerate(rows):
        for j, (draw, _, _) in enumerate(row):
            draw(figure.add_subplot(grid[i, j]))
    handles = [figure.axes[0].plot([], [], color=COLOURS[i % 8])[0] for i in range(len(runs))]
    figure.legend(handles, [run.name for run in runs], loc="outside upper center", ncols=min(len(runs), 4), fontsize=9)
    with outputs.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": outputs.MARK})
