"""DIR/reports/NAME/report.md, its tables as CSV and its pictures: every cell, and every comparison that the finished ones allow."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg import border_scores, metrics
from genseg.report import drawing, tables, writing
from genseg.study import pictures, results, running, statistics
from genseg.study.design import CONFUSION_SCORES, Cell, Study

FEWEST_NETWORKS = 3
"""Pre-trained networks an arm below which no interval is given: drawing from one or two says nothing of the others."""


@dataclass(frozen=True)
class Comparison:
    """Arm a minus arm b on a target. difference: of each of SCORES. iou: of each class, and p by Holm over the classes."""

    target: str
    a: str
    b: str
    primary: bool
    origins: tuple[int, ...]
    scenes: int
    classes: tuple[str, ...]
    difference: Mapping[str, statistics.Difference]
    iou: statistics.Difference
    holm: np.ndarray

    @property
    def pairs(self) -> int:
        return len(self.origins)


def compare(
    study: Study, cells: Sequence[Cell], out: Path, target: str, a: str, b: str, *, draws: int = 4000
) -> Comparison | None:
    """None without at least two pairs of finished runs. Raises UserError for runs that were not scored on the same labels."""
    found = results.pairs(cells, out, target, a, b)
    if len(found) < 2:
        return None
    of_all = results.comparable(out, [pair[side] for side in (0, 1) for pair in found])
    left, right = of_all[: len(found)], of_all[len(found) :]
    one = left[0]
    origins = tuple(study.pretraining_of(cell.pair) for cell, _ in found)
    confusions = [np.stack([scenes.confusion for scenes in side]) for side in (left, right)]
    difference = {
        name: statistics.paired(*confusions, origins, statistics.score(name, one.scored, one.absent), draws=draws)
        for name in CONFUSION_SCORES
    }
    borders = [np.stack([scenes.borders for scenes in side]) for side in (left, right)]
    of_borders = statistics.paired(*borders, origins, statistics.border_means(one.scored, one.absent), draws=draws)
    difference |= {name: of_borders.of(place) for place, name in enumerate(border_scores.NAMES)}
    each = statistics.paired(*confusions, origins, metrics.per_class_iou, draws=draws)
    if len(set(origins)) < FEWEST_NETWORKS:
        difference = {name: d.without_interval() for name, d in difference.items()}
        each = each.without_interval()
    primary = (a, b) == (study.primary.better, study.primary.than)
    return Comparison(
        target, a, b, primary, origins, len(one.names), one.classes, difference, each, statistics.holm(each.p)
    )


def write(study: Study, cells: Sequence[Cell], out: Path, sources: Mapping[str, str], data_dir: str) -> Path:
    """Writes everything to OUT/reports/NAME and returns the path of report.md: studies may share a folder of runs."""
    running.check_same_cells(out, cells)
    to = out / "reports" / study.name
    (to / "pictures").mkdir(parents=True, exist_ok=True)
    compared = []
    for target in study.targets:
        for b, a in itertools.combinations(study.arms, 2):
            wanted = (study.primary.better, study.primary.than)
            pair = wanted if {a, b} == set(wanted) else (a, b)
            if (found := compare(study, cells, out, target, *pair)) is not None:
                compared.append(found)
    compared.sort(key=lambda c: not c.primary)
    writing.write_atomically(to / "cells.csv", _csv(cell_rows(study, cells, out)))
    writing.write_atomically(to / "comparisons.csv", _csv(comparison_rows(study, compared)))
    writing.write_atomically(to / "classes.csv", _csv(class_rows(compared)))
    drawn = {
        "differences": pictures.differences(study, compared),
        "scores": pictures.scores(study, cells, out),
        "curves": pictures.curves(study, cells, out),
    }
    for name, picture in drawn.items():
        if picture is not None:
            drawing.save_picture(to / "pictures" / f"{name}.png", picture)
    path = to / "report.md"
    text = markdown(study, cells, compared, out, [n for n, p in drawn.items() if p is not None], sources, data_dir)
    writing.write_atomically(path, text)
    return path


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def cell_rows(study: Study, cells: Sequence[Cell], out: Path) -> list[list[str]]:
    """Header first: every cell, in whatever state; scores in per cent."""
    names = ["miou", "mf1", "oa", "boundary_iou_3px", "boundary_f1_3px", "top1", "top1_permuted", "top1_reversed"]
    rows = [["cell", "state", "starts from", "seed", *names, "seconds", "note"]]
    for cell in cells:
        found, now = running.result(out, cell), running.state(out, cell)
        scores = [results.score(found["scores"], name) if found else None for name in names]
        values = ["" if score is None else tables.percent(score) for score in scores]
        seconds = f"{found['seconds']:.0f}" if found else ""
        rows.append([cell.folder, now, cell.needs or "", str(cell.seed), *values, seconds, running.failure(out, cell)])
    return rows


def comparison_rows(study: Study, compared: Sequence[Comparison]) -> list[list[str]]:
    """Header first; points of a per cent."""
    rows = [
        ["target", "difference", "role", "score", "pairs", "pre-trained", "scenes", "mean", "low", "high", "p", "each"]
    ]
    for c in compared:
        for name, d in c.difference.items():
            role = "primary" if c.primary and name == study.primary.score else "secondary"
            each = " ".join(f"{100 * x:+.2f}" for x in d.each)
            values = [_points(d.mean), _points(d.low), _points(d.high), f"{float(d.p):.4f}"]
            origins = str(len(set(c.origins)))
            rows.append([c.target, f"{c.a} - {c.b}", role, name, str(c.pairs), origins, str(c.scenes), *values, each])
    return rows


def class_rows(compared: Sequence[Comparison]) -> list[list[str]]:
    """Header first; IoU of every class, points of a per cent."""
    rows = [["target", "difference", "class", "mean", "low", "high", "p", "p (Holm)"]]
    for c in compared:
        for i, name in enumerate(c.classes):
            values = [_points(x[i]) for x in (c.iou.mean, c.iou.low, c.iou.high)]
            p = ["-" if np.isnan(x[i]) else f"{x[i]:.4f}" for x in (c.iou.p, c.holm)]
            rows.append([c.target, f"{c.a} - {c.b}", name, *values, *p])
    return rows


def _points(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:+.2f}"


def verdict(d: statistics.Difference, a: str, b: str) -> str:
    """No stronger than the interval."""
    if np.isnan(d.low):
        return f"No verdict: an interval takes {FEWEST_NETWORKS} pre-trained networks an arm"
    if d.low > 0:
        return f"{a} is ahead: the interval excludes 0"
    if d.high < 0:
        return f"{b} is ahead: the interval excludes 0"
    return "cannot be told apart: the interval holds 0"


def markdown(
    study: Study, cells: Sequence[Cell], compared: Sequence[Comparison], out: Path, drawn: Sequence[str],
    sources: Mapping[str, str], data_dir: str,
) -> str:  # fmt: skip
    states = [running.state(out, cell) for cell in cells]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "running", "failed", "missing") if s in states)
    primary = study.primary
    parts = [
        f"# Study {study.name}\n",
        f"{len(cells)} runs: {counts}. Scores are per cent, differences are points of a per cent.\n",
        f"## Primary: {primary.score} of {primary.better} minus {primary.than}, named beforehand\n",
    ]
    for target in study.targets:
        found = next((c for c in compared if c.primary and c.target == target), None)
        if found is None:
            parts.append(f"- **{target}**: fewer than two pairs have ended; nothing to say yet.")
            continue
        d = found.difference[primary.score]
        planned = len(results.planned(cells, target, found.a, found.b))
        short = "" if found.pairs == planned else f" (of {planned} planned)"
        parts.append(
            f"- **{target}**: {_points(d.mean)} [{_points(d.low)}, {_points(d.high)}], {found.pairs} pairs{short} from "
            f"{len(set(found.origins))} pre-trained networks an arm, {found.scenes} scenes; sign-flip p = {float(d.p):.3f} "
            f"(smallest possible {statistics.smallest_p(found.pairs):.3f}). "
            + ("Unfinished, so no verdict." if short else f"{verdict(d, found.a, found.b)}.")
        )
    parts += [
        "\nIntervals: 95 %, paired bootstrap that draws pre-trained networks, fine-tuning runs of each, and test scenes "
        "together, on summed counts of pixels and of border pixels. The sign-flip test is two-sided, over all signs (of more "
        f"than {statistics.EXACT_PAIRS} pairs over {2**statistics.EXACT_PAIRS:,} random ones of a fixed seed), and takes the pairs as independent; "
        "pairs from one pre-trained network are not quite, so it is the more lenient of the two.\n",
        *(f"![{name}](pictures/{name}.png)\n" for name in drawn),
        "## All comparisons\n\nEverything but the primary comparison is secondary, and no p value here is corrected for "
        "their number.\n",
        _markdown_table(comparison_rows(study, compared)),
        "\n## Classes\n\nIoU; p by Holm over the classes of a comparison.\n",
        _markdown_table(class_rows(compared)),
        *_notes(cells, out),
        "\n## Runs\n\nAs in comparisons, miou, mf1 and oa of scenes that are cut into patches count each pixel once.\n",
        _markdown_table(cell_rows(study, cells, out)),
        "\n## Commands\n\nEach run again, or what is missing, in this order:\n",
        "\n".join(f"    {cell.command(out, sources, data_dir)}" for cell in cells),
    ]
    return "\n".join(parts) + "\n"


def _notes(cells: Sequence[Cell], out: Path) -> list[str]:
    """What is to be read with the scores, each sentence once, with the runs that it stands beside."""
    said: dict[str, list[str]] = {}
    for cell in cells:
        for note in (running.result(out, cell) or {}).get("notes", ()):
            said.setdefault(note, []).append(cell.folder)
    found = [
        f"- {note} ({', '.join(runs[:3])}{f' and {len(runs) - 3} more' if len(runs) > 3 else ''})"
        for note, runs in said.items()
    ]
    return ["\n## To be read with the scores\n", *found] if found else []


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])
