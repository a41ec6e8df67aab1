"""Tables, intervals and pictures of scores, and the files that they are kept in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import border_scores, metrics, outputs
from genseg.data.card import DatasetCard
from genseg.report import drawing, tables, writing
from genseg.score.counting import Scene
from genseg.study import statistics

DRAWS, SEED = 2000, 0


@dataclasses.dataclass(frozen=True)
class Interval:
    """95 % of `DRAWS` resamples of whole scenes, each scored on its summed counts; shares in [0, 1]."""

    low: float
    high: float


def interval(confusions: np.ndarray, card: DatasetCard, name: str) -> Interval | None:
    """Percentile bootstrap over scenes, int64 [scenes, c, c]; None for fewer than two. name: "miou", "mf1" or "oa"."""
    count = len(confusions)
    if count < 2:
        return None
    random, score = np.random.default_rng(SEED), statistics.score(name, card.scored, card.absent)
    times = random.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    drawn = np.tensordot(times, confusions, axes=1)
    low, high = np.nanpercentile(score(drawn), (2.5, 97.5))
    return Interval(float(low), float(high))


def left_out(scenes: Sequence[Scene], what: str) -> tuple[str, ...]:
    """A sentence on the pixels that have a class in the masks and do not count. what: "maps" or "images"."""
    count = sum(scene.left_out for scene in scenes)
    if not count:
        return ()
    whole = count + sum(int(scene.confusion.sum()) for scene in scenes)
    why = {"maps": "the maps have no class there", "images": "the images have no measurement there"}[what]
    return (f"{count:,} of {whole:,} pixels with a class in the masks ({count / whole:.2%}) do not count: {why}.",)


def files_of(out: Path) -> list[str]:
    """What the score.json of `out` lists beside its tables, of a score that is to be replaced; [] where it says nothing."""
    try:
        listed = json.loads((out / "score.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def remove(out: Path, names: Sequence[str]) -> list[str]:
    """Removes the files of these names below `out` that genseg made; the names of those that are gone."""
    gone = []
    for name in names:
        path = out / name
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if inside and path.is_file() and not path.is_symlink() and outputs.made_here(path):
            path.unlink()
            gone.append(name)
    return gone


def write(
    out: Path, card: DatasetCard, confusion: np.ndarray, scenes: Sequence[Scene], protocol: str, origin: dict[str, Any],
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """Writes score.json, classes.csv, confusion.csv, scenes.csv, confusion.png; gives the text for people.

    confusion: of everything, by which the scores are; scenes: its parts. notes: to be read with the scores.
    """
    out.mkdir(parents=True, exist_ok=True)
    detail = metrics.segmentation_scores(confusion, card.scored, card.absent)
    scores: dict[str, Any] = {name: getattr(detail, name) for name in ("miou", "mf1", "macc", "oa")}
    scores = {name: value for name, value in scores.items() if not np.isnan(value)}
    stacked = np.stack([scene.confusion for scene in scenes])
    found = {name: interval(stacked, card, name) for name in ("miou", "mf1", "oa")}
    lines = [f"Protocol   {protocol}"]
    for name, label in (("miou", "mIoU"), ("mf1", "mF1"), ("macc", "mAcc"), ("oa", "OA")):
        spread = found.get(name)
        if name not in scores:
            continue
        behind = f"  [{tables.percent(spread.low)}, {tables.percent(spread.high)}]" if spread else ""
        lines.append(f"{label:<10} {tables.percent(scores[name])}{behind}")
    if any(found.values()):
        lines.append(f"           [95 % interval: {DRAWS} resamples of the {len(scenes)} scenes]")
    borders = of_scenes = None
    if all(scene.borders is not None for scene in scenes):
        counts = np.sum([scene.borders for scene in scenes], axis=0)
        borders = border_scores.named_scores(border_scores.border_scores(counts, card.scored, card.absent))
        of_scenes = {s.name: border_scores.border_scores(s.borders, card.scored, card.absent) for s in scenes}
        lines += [f"{name:<17} {tables.percent(value)}" for name, value in borders.items()]
    known = {name: value for name, value in (borders or {}).items() if not np.isnan(value)}
    result = {  # first: it says whose the tables are
        "software": outputs.MARK, "protocol": protocol, "scores": scores | known, "scenes": len(scenes),
        "notes": list(notes),
        "intervals": {name: dataclasses.astuple(i) for name, i in found.items() if i}, "confusion": confusion.tolist(),
        "classes": list(card.classes), "left_out": {s.name: s.left_out for s in scenes if s.left_out}, **origin,
    }  # fmt: skip
    writing.write_json(out / "score.json", result)
    rows = tables.class_rows(card, detail, confusion)
    parts = tables.part_rows(
        {s.name: (metrics.segmentation_scores(s.confusion, card.scored, card.absent), s.confusion) for s in scenes},
        of_scenes,
    )
    matrix = tables.confusion_rows(confusion, card.classes)
    for name, table in (("classes", rows), ("scenes", parts), ("confusion", matrix)):
        writing.write_atomically(out / f"{name}.csv", tables.csv_text(table, [protocol] * (len(table) - 1)))
    title = f"{card.name}, mIoU {tables.percent(detail.miou)}\n{protocol}"
    drawing.save_picture(out / "confusion.png", drawing.confusion_picture(confusion, card.classes, title))
    said = [f"NOTE       {note}" for note in notes]
    return "\n".join([*lines, *said, "", tables.text_table(rows), "", tables.text_table(parts[:21])]) + (
        f"\n... {len(parts) - 21} more scenes: {out / 'scenes.csv'}" if len(parts) > 21 else ""
    )
