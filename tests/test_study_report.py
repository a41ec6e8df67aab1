"""What a study's report compares and shows, of runs whose files are written here."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from test_study import PLAIN, SOURCES

from genseg.errors import UserError
from genseg.study import design, pictures, report

SCENES = ("a", "b", "c", "d")


def finish(out: Path, cell: design.Cell, *, more: int = 0, names=SCENES, **scores: float | None) -> None:
    """A run that has ended. more: pixels by which a mask's first class differs. scores: of its result, None to leave one out."""
    folder = out / cell.folder
    folder.mkdir(parents=True, exist_ok=True)
    better = 4 * (cell.arm == "csp")
    confusion = np.array([[[20 + better, 5 - better + more * (s == 0)], [3, 10]] for s in range(len(names))])
    borders = np.full((len(names), 7, 3, 2), 60)
    total = confusion.sum(0)
    hit = np.diag(total)
    scores = {"miou": float((hit / (total.sum(0) + total.sum(1) - hit)).mean())} | scores
    np.savez(
        folder / "test_scene_counts.npz", scenes=np.array(names), confusion=confusion, borders=borders,
        classes=np.array(["field", "house"]), scored=np.array([0, 1]), absent="skip", step=1,
    )  # fmt: skip
    said = {"scores": {k: v for k, v in scores.items() if v is not None}, "seconds": 60.0, "split": "test"}
    (folder / "result.json").write_text(json.dumps(said))


def finished(out: Path, plain: dict = PLAIN) -> tuple[design.Study, list[design.Cell]]:
    study = design.read(plain)
    cells = design.cells(study)
    for cell in cells:
        finish(out, cell)
    return study, cells


@pytest.mark.parametrize(
    "change, word", [({"more": 1}, "labels"), ({"names": ("a", "b", "c", "e")}, "scenes"), ({"names": "abc"}, "scenes")]
)
def test_runs_that_were_scored_on_other_truth_are_not_compared(tmp_path, change, word):
    study, cells = finished(tmp_path)
    assert report.compare(study, cells, tmp_path, "tiles", "csp", "rgb").pairs == 4
    finish(tmp_path, next(c for c in cells if c.folder == "finetune/tiles/rgb-s2"), **change)
    said = f"finetune/tiles/csp-s0 and finetune/tiles/rgb-s2 were scored on different {word}; .*runs them again"
    with pytest.raises(UserError, match=said):
        report.compare(study, cells, tmp_path, "tiles", "csp", "rgb")
    with pytest.raises(UserError, match=f"different {word}"):
        report.write(study, cells, tmp_path, SOURCES, "")


def test_a_study_is_finished_with_the_pairs_that_its_primary_arms_can_have(tmp_path):
    first = {"config": "first.py", "set": {}, "seeds": (0, 1, 2)}  # of three seeds, gone on from with two
    plain = PLAIN | {
        "pretrain": {"first": first} | {k: v | {"after": "first"} for k, v in PLAIN["pretrain"].items()},
    }
    study, cells = finished(tmp_path, plain)
    text = report.write(study, cells, tmp_path, SOURCES, "").read_text()
    assert "4 pairs from 2 pre-trained networks" in text and "planned" not in text and "Unfinished" not in text
    (tmp_path / "finetune/tiles/rgb-s3/result.json").unlink()
    text = report.write(study, cells, tmp_path, SOURCES, "").read_text()
    assert "3 pairs (of 4 planned)" in text and "Unfinished, so no verdict" in text


def test_runs_are_shown_with_the_scores_that_are_compared_and_without_those_they_lack(tmp_path, monkeypatch):
    study, cells = finished(tmp_path)
    patches, without, *_ = (cell for cell in cells if cell.target)
    stitched = json.loads((tmp_path / patches.folder / "result.json").read_text())["scores"]["miou"]
    finish(tmp_path, patches, miou=0.99, miou_stitched=stitched, mf1=0.98, mf1_stitched=0.5, boundary_f1_3px=1.0)
    finish(tmp_path, without, miou=None)
    drawn = []
    monkeypatch.setattr(pictures, "_pixels", lambda canvas: drawn.append(canvas.figure))
    pictures.scores(study, cells, tmp_path)
    heights = np.concatenate([line.get_ydata() for line in drawn[0].axes[0].lines])
    assert np.isnan(heights).sum() == 1 and np.nanmax(heights) < 90 and np.isclose(heights, 100 * stitched).any()
    report.write(study, cells, tmp_path, SOURCES, "")
    rows = {row["cell"]: row for row in csv.DictReader((tmp_path / "reports/made/cells.csv").open())}
    shown = [rows[patches.folder][name] for name in ("miou", "mf1", "oa", "boundary_f1_3px")]
    assert shown == [f"{100 * stitched:.2f}", "50.00", "", "100.00"] and rows[without.folder]["miou"] == ""
