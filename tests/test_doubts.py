"""What preparation doubts about a split stands beside every score; what no score can be of is refused; JSON is JSON."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tiny

import genseg
from genseg import band_use, config, robustness, tasks, texts, train
from genseg.data import doubts, prepare
from genseg.data.card import Band, DatasetCard
from genseg.errors import UserError
from genseg.report import __main__ as reports
from genseg.report import writing
from genseg.score import __main__ as command
from genseg.study import report as studies

pytestmark = pytest.mark.usefixtures("narrow_micro")

CARD = DatasetCard("a", "segmentation", (Band("grey"),), ("x", "y", "z"), (), 255, (0, 1), {}, "", True)
BANDS, CLASSES = ("red", "nir"), ("background", "building")


def test_a_card_whose_colours_are_no_colours_is_refused():
    with pytest.raises(UserError, match="not three numbers"):
        dataclasses.replace(CARD, palette=((1, 2, 3), (4, 5), (6, 7, 8)))


def strictly(path: Path):
    """As a strict reader takes it: without NaN and Infinity."""

    def refuse(word):
        raise ValueError(f"{path} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Masks of 0 and 255, a constant band and a spike; one training step."""
    root = tmp_path_factory.mktemp("doubtful")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for name in "ab":
            image = np.stack([rng.uniform(1, 2, (64, 64)), np.full((64, 64), 7.0)], 2).astype(np.float32)
            if (split, name) == ("train", "a"):
                image[3, 4, 0] = 1e9
            tifffile.imwrite(
                root / split / "images" / f"{name}.tif", image, photometric="minisblack", planarconfig="contig"
            )
            mask = np.where(image[..., 0] > 1.6, 255, 0).astype(np.uint8)
            tifffile.imwrite(root / split / "masks" / f"{name}.tif", mask)
    made = tiny.load("small_segment", "naip")
    data = {
        "source": str(root), "data_dir": str(root / "data"), "splits": ("train", "val"), "eval_split": "val", "bands": BANDS,
        "image_pattern": "{split}/images/{id}.tif", "mask_pattern": "{split}/masks/{id}.tif", "classes": CLASSES,
        "palette": (), "protocol": "",
    }  # fmt: skip
    with made.unlocked():
        made.data.update(data)
        made.augment.size, made.eval.crop, made.eval.stride = (64, 64), (64, 64), (32, 32)
        made.model.head_channels, made.model.aux_channels = 16, 8
        made.train.steps, made.train.warmup_steps, made.train.batch_size, made.report.panels = 1, 0, 8, 0
        made.eval.batch_size, made.eval.mode = 8, "whole"
    made = made.lock()
    train.train(made, str(root / "run"))
    return root, made


WANTED = (
    "Wild values are left out of the statistics: red 1 of 8,192",
    "Constant in training",
    "NEVER IN val: 'building'",
)


def has_all(notes) -> bool:
    return all(any(note.startswith(start) for note in notes) for start in WANTED)


def test_notes_stand_beside_every_score(trained, tmp_path, caplog, capsys):
    root, made = trained
    folder = prepare.ensure_prepared(made.data, made.data.data_dir)
    assert has_all(DatasetCard.read(folder).notes)
    assert has_all(strictly(root / "run" / "result.json")["notes"])
    for line in (root / "run" / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line
    with caplog.at_level("INFO"):
        robustness.run(made, str(root / "run"), permutations=1)
        band_use.run(made, str(root / "run"))
    for name in ("robustness", "band_use"):
        assert has_all(strictly(root / "run" / f"{name}.json")["notes"])
    assert caplog.text.count("NOTE       NEVER IN val: 'building'") >= 2
    assert reports.main([str(root / "run"), f"--out={tmp_path / 'page'}"]) == 0
    assert "NOTE       NEVER IN val" in capsys.readouterr().out
    checkpoint = f"--checkpoint={root / 'run'}"
    assert command.main([checkpoint, f"--prepared={folder}", "--split=val", f"--out={tmp_path / 'a'}"]) == 0
    assert has_all(strictly(tmp_path / "a" / "score.json")["notes"])
    assert "NOTE       NEVER IN val: 'building'" in capsys.readouterr().out


def test_notes_stand_beside_scores_of_files(trained, tmp_path, capsys):
    root, _ = trained
    argv = [f"--checkpoint={root / 'run'}", f"--masks={root / 'val' / 'masks'}", str(root / "val" / "images")]
    assert command.main([*argv, f"--out={tmp_path / 'b'}", "--borders"]) == 0
    notes = strictly(tmp_path / "b" / "score.json")["notes"]
    assert any(note.startswith("of the training data: Constant in training") for note in notes)
    assert any(note.startswith("NEVER IN these masks: 'building' (1 of 2 scored classes)") for note in notes)
    # Values of other units are said here as genseg.predict says them.
    other = tmp_path / "far"
    other.mkdir()
    for path in (root / "val" / "images").iterdir():
        tifffile.imwrite(
            other / path.name, tifffile.imread(path) * 1000, photometric="minisblack", planarconfig="contig"
        )
    argv = [*argv[:2], str(other), f"--out={tmp_path / 'c'}"]
    assert command.main(argv) == 0
    assert any("a.tif: " in note and "units" in note for note in strictly(tmp_path / "c" / "score.json")["notes"])


def test_a_study_lists_them_once(tmp_path):
    class Cell:
        def __init__(self, folder):
            self.folder = folder

    for name, notes in (("a", ["one", "two"]), ("b", ["two"])):
        (tmp_path / name).mkdir()
        result = {"scores": {}, "split": "val", "seconds": 1, "notes": notes}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    assert studies._notes([Cell("a"), Cell("b"), Cell("missing")], tmp_path) == [
        "\n## To be read with the scores\n", "- one (a)", "- two (a, b)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pixels", "ignored", "starts"),
    [
        ((5, 5, 0), 0.2, []),
        ((5, 0, 3), 0.2, ["NEVER IN val: 'y' (1 of 2 scored classes; 20.0% of the pixels are ignored)"]),
        ((0, 0, 3), None, ["NEVER IN val: 'x', 'y' (2 of 2 scored classes)."]),
        ((5, 5, 0), 0.7, ["MOSTLY IGNORED in val: 70.0%"]),
    ],
)
def test_sentences(pixels, ignored, starts):
    found = doubts.of_classes("val", np.array(pixels), CARD, ignored)
    assert len(found) == len(starts) and all(f.startswith(s) for f, s in zip(found, starts, strict=True))


def test_one_class_alone():
    one = DatasetCard("a", "segmentation", (Band("grey"),), ("x", "y"), (), 255, (1,), {}, "", True)
    assert doubts.of_classes("val", np.array([0, 4]), one)[0].startswith(
        "ONE CLASS IN val: all that counts there is 'y'"
    )


def test_what_no_score_can_be_of_is_refused():
    net = None
    task = tasks.Segment(net, CARD, None)
    with pytest.raises(UserError, match="No pixel counts"):
        task.summarize({"confusion": np.zeros((3, 3), int)})
    lone = np.zeros((3, 3), int)
    lone[2, 0] = 5
    with pytest.raises(UserError, match=r"No pixel that counts is of a scored class \('x', 'y'\)"):
        task.summarize({"confusion": lone})
    lone[0, 0] = 5
    found = task.summarize({"confusion": lone, "confusion_night": np.zeros((3, 3), int)})
    assert found.keys() == {"miou", "mf1", "macc", "oa"}


def test_json_is_json(tmp_path):
    odd = {"a": float("nan"), "b": [1.5, float("-inf"), {"c": np.float64("inf")}], "d": "NaN"}
    assert texts.as_json(odd, sort_keys=True) == '{"a": null, "b": [1.5, null, {"c": null}], "d": "NaN"}'
    with pytest.raises(TypeError):
        texts.as_json({"a": object()})
    writers = writing.Writers(str(tmp_path), step=0, active=True)
    writers.scalars(3, {"train/loss": 0.5, "train/odd": float("nan"), "eval/far": float("inf")})
    writers.close()
    assert strictly(tmp_path / "metrics.jsonl") == {"step": 3, "train/loss": 0.5}


def test_every_json_is_written_by_one_function():
    package = Path(genseg.__file__).parent
    users = [p.name for p in package.rglob("*.py") if re.search(r"json\.dumps?\(", p.read_text())]
    assert users == ["texts.py"]
    assert config.to_json(tiny.load("small_segment", "naip"))["task"] == "segment"
