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


def bars(
    axes: Any,
    names: Sequence[str],
    runs: Sequence[Run],
    shares: Sequence[np.ndarray],
    title: str,
    *,
    ends: Sequence[np.ndarray | None] = (),
    written: bool = False,
) -> None:
    """A group of bars from 0 for each name, a bar a run, in percent.

    shares: of each run float [names] in [0, 1], NaN where undefined. ends: of each run an interval, float [2, names], or None.
    written: each bar's value stands at its end; else only what no bar shows, 0 and, of an undefined one, "-".
    """
    height = 0.8 / len(runs)
    places = np.arange(len(names))
    for i, (run, values) in enumerate(zip(runs, shares, strict=True)):
        percent = 100 * np.asarray(values, float)
        rows = places + i * height
        around = ends[i] if i < len(ends) else None
        axes.barh(
            rows, np.nan_to_num(percent), height, color=COLOURS[i % 8], label=run.name,
            xerr=None if around is None else np.nan_to_num(np.abs(100 * around - percent)),
            error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )  # fmt: skip
        for row, value in zip(rows, percent, strict=True):
            if text := bar_text(value, written=written):
                shown = 0.0 if np.isnan(value) else value
                outside = shown < 85
                axes.annotate(
                    text, (shown, row), (3 if outside else -3, 0), textcoords="offset points", va="center", fontsize=7,
                    ha="left" if outside else "right", color=INK if outside else "white",
                )  # fmt: skip
    axes.set_yticks(places + 0.4 - height / 2, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def bar_text(percent: float, *, written: bool) -> str:
    """What stands at a bar's end: "" of one that can be seen, unless `written`."""
    if np.isnan(percent):
        return "-"
    if written:
        return f"{percent:.2f}"
    return "" if percent >= 0.5 else "0" if percent == 0 else f"{percent:.2f}"


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
    scores = [name for name in ("miou", "top1", "top1_permuted", "top1_reversed") if f"eval/{name}" in keys]
    # One evaluation a run is no curve: an axis around its points would make the least difference look large.
    single = [name for name in scores if max(len(run.curve(f"eval/{name}")[0]) for run in runs) < 2]
    wanted += [(f"eval/{name}", f"{name}, %") for name in scores if name not in single]
    for key, title in wanted:
        if key in keys:
            found.append((lambda axes, key=key, title=title: curves(axes, runs, key, title), 5.2, 3.2))

    def grouped(names: Sequence[str], of: Sequence[Run], shares: Sequence[np.ndarray], title: str, **more: Any) -> None:
        height = max(3.2, 0.22 * len(names) * (len(of) + 0.6))
        found.append((lambda axes: bars(axes, names, of, shares, title, **more), 5.2, height))

    if single:
        found_once = [np.array([[*run.curve(f"eval/{name}")[1], np.nan][0] for name in single]) for run in runs]
        grouped(single, runs, found_once, "the one evaluation, %", written=True)
    alike = [run for run in runs if run.classes and run.classes == next(r.classes for r in runs if r.classes)]
    if alike:
        over = ", 95 % over scenes" if any(run.interval is not None for run in alike) else ""
        ends = [run.interval for run in alike]
        grouped(alike[0].classes, alike, [run.iou for run in alike], f"IoU, %{over}", ends=ends)
    with_borders = [run for run in runs if run.borders]
    if with_borders:
        names = list(with_borders[0].borders)
        shares = [np.array([run.borders.get(name, np.nan) for name in names]) for run in with_borders]
        grouped(names, with_borders, shares, "at borders, %, mean over classes")
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
