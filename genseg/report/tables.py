"""Tables of scores, as rows of text, aligned text and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from genseg.border_scores import DISTANCES, BorderScores
from genseg.data.card import DatasetCard
from genseg.metrics import SegmentationScores


def class_rows(card: DatasetCard, scores: SegmentationScores, confusion: np.ndarray) -> list[list[str]]:
    """Rows (header first) of the per-class table: percentages; '-' where a score is undefined.

    "accuracy" is the share of all pixels on whose being or not being of the class truth and prediction agree; what
    mmsegmentation calls a class's Acc is "recall" here.
    """
    total = max(confusion.sum(), 1)
    share = confusion.sum(1) / total
    accuracy = 1 - (confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)) / total
    rows = [["id", "class", "IoU", "F1", "precision", "recall", "accuracy", "share", "scored"]]
    for i, name in enumerate(card.classes):
        values = (scores.iou[i], scores.f1[i], scores.precision[i], scores.recall[i], accuracy[i], share[i])
        rows.append([str(i), name, *map(percent, values), "yes" if i in card.scored else "no"])
    return rows


BORDER_COLUMNS = [f"{name} {d}px" for name in ("bIoU", "bF1", "trimap") for d in DISTANCES]
"""Boundary IoU, boundary F1 and trimap IoU at each distance."""


def border_rows(card: DatasetCard, scores: BorderScores) -> list[list[str]]:
    """Rows (header first) of the per-class table of border scores, and a last one of the means over scored classes."""
    rows = [["id", "class", *BORDER_COLUMNS, "scored"]]
    each = np.concatenate([scores.iou, scores.f1, scores.trimap])
    for i, name in enumerate(card.classes):
        rows.append([str(i), name, *map(percent, each[:, i]), "yes" if i in card.scored else "no"])
    return [*rows, ["-", "mean", *map(percent, _border_means(scores)), "-"]]


def _border_means(scores: BorderScores) -> np.ndarray:
    return np.concatenate([scores.mean_iou, scores.mean_f1, scores.mean_trimap])


def part_rows(
    parts: Mapping[str, tuple[SegmentationScores, np.ndarray]], borders: Mapping[str, BorderScores] | None
) -> list[list[str]]:
    """Rows (header first) of a table of parts of a split (groups, scenes): name -> (scores, confusion counts), and
    name -> border scores; None where borders were not counted, which have no columns then."""
    rows = [["part", "pixels", "mIoU", "mF1", "mAcc", "OA", *(BORDER_COLUMNS if borders else ())]]
    for name, (scores, confusion) in parts.items():
        values = (scores.miou, scores.mf1, scores.macc, scores.oa, *(_border_means(borders[name]) if borders else ()))
        rows.append([name, str(confusion.sum()), *map(percent, values)])
    return rows


def confusion_rows(confusion: np.ndarray, classes: Sequence[str]) -> list[list[str]]:
    """Rows (header first) of counts: a row a true class, a column a predicted one."""
    counts = ([name, *map(str, row)] for name, row in zip(classes, confusion.tolist(), strict=True))
    return [["truth", *classes], *counts]


def percent(share: float) -> str:
    """0.5 -> '50.00'; '-' for NaN."""
    return "-" if np.isnan(share) else f"{100 * share:.2f}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def narrowed(rows: Sequence[Sequence[str]], width: int) -> Sequence[Sequence[str]]:
    """The rows without their columns of border scores, if `text_table` makes lines of more than `width` letters of them."""
    if len(text_table(rows).splitlines()[1]) <= width:
        return rows
    kept = [i for i, name in enumerate(rows[0]) if not re.search(r"(boundary_iou|boundary_f1|trimap_iou)_\d+px$", name)]
    return [[row[i] for i in kept] for row in rows]


def csv_text(rows: Sequence[Sequence[str]], protocols: Sequence[str]) -> str:
    """A last column says of every row below the header what its scores are scores of."""
    text = io.StringIO()
    lines = zip(rows, ["protocol", *protocols], strict=True)
    csv.writer(text, lineterminator="\n").writerows([*row, protocol] for row, protocol in lines)
    return text.getvalue()
