"""What a workdir says of its run, while it trains and afterwards."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import arrays, outputs, texts
from genseg.config import differences
from genseg.errors import UserError
from genseg.metrics import per_class_iou, scene_means
from genseg.report import writing
from genseg.report.tables import BORDER_COLUMNS

DRAWS, SEED = 1000, 4604  # of scenes, for intervals
MEND = "remove it, or start the run's own command again, which evaluates anew"


@dataclasses.dataclass(frozen=True)
class Run:
    """config, result: as stored, {} while there is none. records: lines of metrics.jsonl. classes: names, () of
    pre-training. iou: float [classes] in [0, 1], NaN where undefined. interval: float [2, classes] or None: the central
    95 % of per-class IoU when scenes are drawn anew. confusion: float [classes, classes] counts, rows are truth, or None.
    scenes: (name, mIoU over its scored classes), worst first. borders: border score -> mean over scored classes in [0, 1],
    NaN where undefined. pictures: name -> file. labels: scene -> its true pixels of each class, {} where they
    were not counted. scored: ids of the classes in the mean."""

    name: str
    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]
    records: list[dict[str, Any]]
    classes: tuple[str, ...]
    iou: np.ndarray
    interval: np.ndarray | None
    confusion: np.ndarray | None
    scenes: list[tuple[str, float]]
    borders: dict[str, float]
    pictures: dict[str, Path]
    labels: dict[str, tuple[int, ...]]
    scored: tuple[int, ...]

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one key of metrics.jsonl."""
        points = [(r["step"], r[key]) for r in self.records if key in r]
        return np.array([p[0] for p in points]), np.array([p[1] for p in points], float)


def read(folders: Sequence[str]) -> list[Run]:
    """The runs in these workdirs, each named by the part of its path that tells it from the others.

    Raises UserError for a folder that is no workdir.
    """
    paths = [outputs.given(folder, "RUN").resolve() for folder in folders]
    for path, folder in zip(paths, folders, strict=True):
        if not (path / "config.json").is_file():
            raise UserError(f"{folder} is no workdir: it has no config.json; give folders that --workdir named")
    if len(set(paths)) < len(paths):
        raise UserError("a workdir is named twice; name each once")
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    for parts in range(1, max(len(p.parts) for p in paths) + 1):
        names = ["/".join(p.parts[-parts:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    return [str(p) for p in paths]


def _read(path: Path, name: str) -> Run:
    config, result = _json(path / "config.json"), _json(path / "result.json")
    with outputs.undamaged(path / ("result.json" if result else "config.json"), MEND):
        split = str(result["split"] if result else config["data"]["eval_split"])
        if result and not {"scores", "data"} <= result.keys():
            raise KeyError("scores or data")
        scores = result.get("scores", {})
        if not all(isinstance(value, int | float) for value in scores.values()):
            raise TypeError("a score is no number")
    tables, counts = path / "pictures", path / f"{split}_scene_counts.npz"
    with outputs.undamaged(tables / f"{split}_classes.csv", MEND):
        table = _rows(tables / f"{split}_classes.csv")
        classes = tuple(row["class"] for row in table)
        iou = np.array([float(row["IoU"]) / 100 if row["IoU"] != "-" else np.nan for row in table])
        scored = [i for i, row in enumerate(table) if row["scored"] == "yes"]
    with outputs.undamaged(tables / f"{split}_confusion.csv", MEND):
        matrix = _rows(tables / f"{split}_confusion.csv")
        confusion = np.array([[float(row[c]) for c in classes] for row in matrix]) if matrix and classes else None
        if confusion is not None and confusion.shape != (len(classes), len(classes)):
            raise ValueError(f"it has {len(confusion)} rows for {len(classes)} classes")
    with outputs.undamaged(counts, MEND):
        interval, scenes, labels = _scenes(counts, scored)
    with outputs.undamaged(tables / f"{split}_borders.csv", MEND):
        means = [row for row in _rows(tables / f"{split}_borders.csv") if row["class"] == "mean"]
        borders = {
            name: float(value) / 100 if value != "-" else np.nan
            for row in means
            for name, value in row.items()
            if name in BORDER_COLUMNS
        }
    pictures = {p.stem.removeprefix(f"{split}_"): p for p in sorted(tables.glob(f"{split}_*.png")) if p.is_file()}
    return Run(
        name, path, config, result, _lines(path), classes, iou, interval, confusion, scenes, borders, pictures, labels,
        tuple(scored),
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    """{} of one that is not there yet."""
    return texts.mapping(path, "file", MEND) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return list(csv.DictReader(io.StringIO(texts.read(path, "table"), newline="")))


def _lines(path: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl."""
    path = path / "metrics.jsonl"
    return [record for _, record in writing.lines_of(path)] if path.exists() else []


def _scenes(
    path: Path, scored: list[int]
) -> tuple[np.ndarray | None, list[tuple[str, float]], dict[str, tuple[int, ...]]]:
    if not path.is_file():
        return None, [], {}
    stored = arrays.read(path, MEND)
    counts, names = stored["confusion"], stored["scenes"]
    means = scene_means(counts, scored)
    scenes = sorted(
        ((str(n), float(m)) for n, m in zip(names, means, strict=True) if not np.isnan(m)), key=lambda s: s[1]
    )
    labels = {str(n): tuple(c) for n, c in zip(names, counts.sum(2).tolist(), strict=True)}
    return interval(counts), scenes, labels


def interval(counts: np.ndarray) -> np.ndarray | None:
    """int [s, c, c] -> float [2, c]: ends of the central 95 % of each class's IoU over DRAWS draws of s scenes with
    replacement (percentile bootstrap); None of fewer than 5 scenes, which say nothing about others."""
    s, c = counts.shape[0], counts.shape[1]
    if s < 5:
        return None
    weights = np.random.default_rng(SEED).multinomial(s, np.full(s, 1 / s), size=DRAWS)
    drawn = per_class_iou((weights @ counts.reshape(s, -1).astype(np.float64)).reshape(DRAWS, c, c))
    ends = np.full((2, c), np.nan)
    for k in range(c):
        values = drawn[~np.isnan(drawn[:, k]), k]
        if len(values):
            ends[:, k] = np.percentile(values, [2.5, 97.5])
    return ends


def config_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Rows (header first) of the keys in which the runs' configs differ."""
    keys: dict[str, None] = {}
    for run in runs[1:]:
        keys |= dict.fromkeys(line.split(":")[0] for line in differences(runs[0].config, run.config))

    def value(config: dict[str, Any], key: str) -> str:
        for part in key.split("."):
            if not isinstance(config, dict) or part not in config:
                return "(absent)"
            config = config[part]
        return str(config)

    return [["config", *(r.name for r in runs)], *([k, *(value(r.config, k) for r in runs)] for k in sorted(keys))]


def notes(runs: Sequence[Run]) -> list[str]:
    """What is to be read with the runs' scores, each sentence once."""
    return list(dict.fromkeys(str(note) for run in runs for note in run.result.get("notes", ())))


def protocols(runs: Sequence[Run]) -> list[str]:
    """What the runs' scores are scores of, and how images were seen, each line once."""
    lines = []
    for result in (run.result for run in runs if run.result.get("protocol")):
        lines.append(f"{result['protocol']}" + (f"; seen in {result['inference']}" if result.get("inference") else ""))
    return list(dict.fromkeys(lines))


def _basis(run: Run) -> dict[str, Any]:
    """What the runs' scores must share to be compared, by what is wrong where they do not; without what a run does not say, such
    as one of an earlier version."""
    result = run.result
    found: dict[str, Any] = {"by different protocols": result.get("protocol")}
    if run.labels:
        # They tell data apart that are called alike, as users' own are, and know those again that were prepared elsewhere.
        found |= {"on different classes": (run.classes, run.scored), "on different scenes": sorted(run.labels)}
        found["on different labels"] = run.labels
    else:
        found["on different data"] = [result["data"], result["split"]]
        found["on different numbers of images"] = result.get("images")
    found["on images that were seen differently"] = result.get("inference")
    return {what: value for what, value in found.items() if value}


def unlike(runs: Sequence[Run]) -> list[str]:
    """[a sentence on why the scores of finished runs do not compare, with two runs for each reason]; [] if nothing says so."""
    known = [(run.name, _basis(run)) for run in runs if run.result]
    said: dict[str, str] = {}
    for what in dict.fromkeys(what for _, basis in known for what in basis):
        (first, value), *others = [(name, basis[what]) for name, basis in known if what in basis]
        if other := next((name for name, theirs in others if theirs != value), None):
            said[what] = f"{what} ({first} and {other})"
    if len(said.keys() & {"on different scenes", "on different classes"}):
        said.pop("on different labels", None)  # goes without saying
    return [f"These runs were scored {', '.join(said.values())}: their scores do not compare."] if said else []


def score_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Rows (header first) of the runs' last scores in percent, their step and what they were scored on."""
    last = []
    for run in runs:
        scores = dict(run.result.get("scores", {}))
        if not scores:  # still training: the newest evaluation
            evaluated = [r for r in run.records if any(k.startswith("eval/") for k in r)]
            scores = {k.removeprefix("eval/"): v for k, v in (evaluated[-1] if evaluated else {}).items() if "/" in k}
        last.append(scores)
    names = list(dict.fromkeys(name for scores in last for name in scores))
    # The usual ones first, the other weights' scores last: a narrow page shows the first columns.
    usual = ("miou", "mf1", "macc", "oa", "top1")
    names.sort(key=lambda n: (n.startswith(("raw_", "ema_")), usual.index(n) if n in usual else len(usual)))
    rows = [["run", "step", *names, "scored on"]]
    for run, scores in zip(runs, last, strict=True):
        step = run.records[-1]["step"] if run.records else 0
        on = f"{run.result['data']} {run.result['split']}" if run.result else "(training)"
        on += ", SYNTHETIC" if run.result.get("synthetic") else ""
        rows.append([run.name, str(step), *(f"{100 * scores[n]:.2f}" if n in scores else "-" for n in names), on])
    return rows
