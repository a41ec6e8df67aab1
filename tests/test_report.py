"""`genseg report`: workdirs side by side, read while they train and afterwards."""

import csv
import json
import re
import threading
import types
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from genseg import evaluate
from genseg.report import __main__ as command
from genseg.report import charts, page, runs

CLASSES = ("field", "<road>")


def workdir(root, name, *, seed, rate=0.1, done=True):
    """What training leaves, of drawn labels; returns (folder, truth, prediction) with int [scenes, pixels]."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (12, 200))
    prediction = np.where(rng.random(truth.shape) < rng.uniform(0, 0.5, (12, 1)), 1 - truth, truth)
    counts = np.zeros((12, 2, 2), np.int64)
    for s in range(12):
        np.add.at(counts[s], (truth[s], prediction[s]), 1)
    folder = root / name
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"seed": seed, "optim": {"learning_rate": rate}, "data": {"eval_split": "val"}})
    )
    lines = [{"step": s, "train/loss": 1 / s, "train/learning_rate": rate} for s in (1, 2, 3)]
    lines.append({"step": 3, "eval/miou": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "tr')
    if done:
        result = {
            "data": "fields",
            "split": "val",
            "synthetic": True,
            "protocol": "mIoU & more",
            "notes": [],
            "scores": {"miou": 0.5},
        }
        (folder / "result.json").write_text(json.dumps(result))
    whole = counts.sum(0)
    iou = [jaccard_score(truth.ravel(), prediction.ravel(), pos_label=c) for c in (0, 1)]
    with (folder / "pictures" / "val_classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "class", "IoU", "scored"], *([c, CLASSES[c], f"{100 * iou[c]:.2f}", "yes"] for c in (0, 1))]
        )
    with (folder / "pictures" / "val_confusion.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["truth", *CLASSES], *([CLASSES[c], *whole[c]] for c in (0, 1))])
    (folder / "pictures" / "val_borders.csv").write_text(
        "id,class,bIoU 3px,bF1 3px,scored\n0,field,10.00,20.00,yes\n-,mean,12.50,-,-\n"
    )
    np.savez(folder / "val_scene_counts.npz", confusion=counts, scenes=np.array([f"s{s}" for s in range(12)]))
    return folder, truth, prediction


def test_what_is_read_is_what_the_labels_say(tmp_path):
    folder, truth, prediction = workdir(tmp_path, "a", seed=1)
    (run,) = runs.read([str(folder)])
    scenes = {
        f"s{s}": jaccard_score(truth[s], prediction[s], average="macro") for s in range(12)
    }  # fmt: skip
    assert dict(run.scenes) == pytest.approx(scenes)
    assert run.scenes == sorted(run.scenes, key=lambda s: s[1])
    assert page.scene_rows(run)[1][1] == max(scenes, key=scenes.get)
    assert run.confusion.sum() == truth.size
    assert np.all(run.interval[0] < run.iou) and np.all(run.iou < run.interval[1])
    steps, losses = run.curve("train/loss")  # the cut last line is left out
    assert steps.tolist() == [1, 2, 3] and losses == pytest.approx([1, 1 / 2, 1 / 3])


def test_the_interval_is_that_of_scenes_drawn_anew():
    """Against a plain loop that draws whole scenes."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (20, 3, 3))
    found = runs.interval(counts)
    drawn = []
    for _ in range(3000):
        c = counts[rng.integers(0, 20, 20)].sum(0)
        drawn.append(np.diag(c) / (c.sum(0) + c.sum(1) - np.diag(c)))
    assert found == pytest.approx(np.percentile(drawn, [2.5, 97.5], axis=0), abs=0.015)
    assert runs.interval(counts[:4]) is None


def test_border_scores_are_read_and_drawn(tmp_path):
    folder, _, _ = workdir(tmp_path, "a", seed=1)
    (run,) = runs.read([str(folder)])
    assert run.borders["bIoU 3px"] == 0.125 and np.isnan(run.borders["bF1 3px"])
    drawn = "".join(charts.svg(*chart) for chart in charts.panels([run]))
    assert "at borders" in drawn and "bIoU 3px" in drawn


def drawn_axes(found):
    """Of each panel the axes that it was drawn on, by title."""
    axes = {}
    for draw, width, height in charts.panels(found):
        place = charts._figure(width, height).add_subplot()
        draw(place)
        axes[place.get_title()] = place
    return axes


def test_one_evaluation_is_bars_from_zero_and_two_are_a_curve(tmp_path):
    folders = [workdir(tmp_path, name, seed=1)[0] for name in ("a", "b")]
    place = drawn_axes(runs.read([str(f) for f in folders]))["the one evaluation, %"]
    assert place.get_xlim() == (0, 100) and [bar.get_width() for bar in place.patches] == [50, 50]
    assert [text.get_text() for text in place.texts] == ["50.00", "50.00"]
    with (folders[1] / "metrics.jsonl").open("w") as file:
        file.writelines(f'{{"step": {step}, "eval/miou": 0.4}}\n' for step in (2, 3))
    places = drawn_axes(runs.read([str(f) for f in folders]))
    assert "the one evaluation, %" not in places and len(places["miou, %"].lines) == 2


def test_a_score_of_nothing_is_written(tmp_path):
    folder, _, _ = workdir(tmp_path, "a", seed=1)
    (run,) = runs.read([str(folder)])
    run.iou[:] = (0, np.nan)
    place = next(axes for title, axes in drawn_axes([run]).items() if title.startswith("IoU"))
    assert [text.get_text() for text in place.texts] == ["0", "-"]


def test_a_table_wider_than_the_terminal_leaves_border_scores_to_the_page(tmp_path, capsys, monkeypatch):
    folder, _, _ = workdir(tmp_path, "a", seed=1)
    result = json.loads((folder / "result.json").read_text())
    borders = {
        f"{raw}{name}_{d}px": 0.1 for raw in ("", "ema_") for name in ("boundary_iou", "trimap_iou") for d in (1, 3, 5)
    }
    (folder / "result.json").write_text(json.dumps(result | {"scores": {"miou": 0.5, "oa": 0.6} | borders}))
    for columns, whole in ((119, False), (400, True)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert command.main([str(folder), "--out", str(tmp_path / "out")]) == 0
        text = capsys.readouterr().out
        assert ("trimap_iou_3px" in text) == whole and "60.00" in text and ("border scores: " in text) != whole
        assert whole or max(map(len, text.splitlines()[:3])) <= columns
        assert "trimap_iou_3px" in (tmp_path / "out" / "runs.html").read_text()


def test_best_median_and_worst_are_those_of_the_labels():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (7, 3, 3))
    means = [np.mean([c[k, k] / (c[k].sum() + c[:, k].sum() - c[k, k]) for k in (0, 2)]) for c in counts]
    order = np.argsort(means)[::-1]
    card = types.SimpleNamespace(scored=(0, 2))
    names = [f"s{i}" for i in range(7)]
    assert evaluate.ranked_records({"records": counts}, names, card) == [order[0], order[3], order[6]]
    patches = [name for name in names for _ in range(3)]  # three records a scene: the middle one stands for it
    cut = {f"scene:{name}": counts[i] for i, name in enumerate(names)}
    assert evaluate.ranked_records(cut, patches, card) == [3 * order[k] + 1 for k in (0, 3, 6)]
    assert evaluate.ranked_records({"records": counts[:2]}, names[:2], card) == []


def test_runs_that_do_not_compare_are_said_to(tmp_path, capsys):
    """As of users' own data, which all have one name and one protocol."""
    folders = {name: workdir(tmp_path, name, seed=seed)[0] for name, seed in (("a", 1), ("again", 1), ("other", 2))}

    def said(*names):
        assert command.main([*(str(folders[name]) for name in names), "--out", str(tmp_path / "out")]) == 0
        out, page = capsys.readouterr().out, (tmp_path / "out" / "runs.html").read_text()
        line = next((line for line in out.splitlines() if "do not compare" in line), "")
        assert line.removeprefix("NOTE       ") in page and ("do not compare" in page) == bool(line)
        return line

    def say(name, **more):
        path = folders[name] / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    assert said("a", "again") == "" == said("a")
    assert "scored on different labels (a and other): their" in said("a", "again", "other")
    table = folders["again"] / "pictures" / "val_classes.csv"
    text = table.read_text()
    table.write_text(text.replace("yes", "no", 1))
    assert "scored on different classes (a and again): their" in said("a", "again")
    table.write_text(text)
    stored = dict(np.load(folders["other"] / "val_scene_counts.npz"))
    stored["scenes"][3] = "elsewhere"
    np.savez(folders["other"] / "val_scene_counts.npz", **stored)
    assert "scored on different scenes (a and other): their" in said("a", "other")
    say("again", inference="whole images")  # the other, of an earlier version, does not say
    assert said("a", "again") == ""
    say("a", inference="windows of 32 x 32")
    assert "on images that were seen differently (a and again)" in said("a", "again")
    say("a", inference="whole images", protocol="another")
    assert "by different protocols (a and again)" in said("a", "again")
    for name in ("a", "again"):  # classification counts no scenes
        (folders[name] / "val_scene_counts.npz").unlink()
        say(name, protocol="top-1", images=9 if name == "a" else 8)
    assert "scored on different numbers of images (a and again): their" in said("a", "again")
    say("again", images=9, data="meadows")
    assert "scored on different data (a and again): their" in said("a", "again")


def test_only_differing_keys_are_listed(tmp_path):
    one, _, _ = workdir(tmp_path, "x/run", seed=1)
    two, _, _ = workdir(tmp_path, "y/run", seed=1, rate=0.2)
    read = runs.read([str(one), str(two)])
    assert [run.name for run in read] == ["x/run", "y/run"]
    assert runs.config_rows(read) == [["config", "x/run", "y/run"], ["optim.learning_rate", "0.1", "0.2"]]


class Page(HTMLParser):
    """Text, and whatever the page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.text, self.outside = "", []

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if (name == "src" and not value.startswith("data:")) or tag in ("script", "link"):
                self.outside.append((tag, name, value))


def test_the_page_is_whole_and_escapes_names(tmp_path, capsys):
    one, _, _ = workdir(tmp_path, "one", seed=1)
    two, _, _ = workdir(tmp_path, "two", seed=2, done=False)
    assert command.main([str(one), str(two), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "runs.html").read_text()
    read = Page()
    read.feed(text)
    assert not read.outside and not re.search(r"url\((?!#)", text)
    assert "<road>" not in text and "<road>" in read.text
    assert "mIoU & more" in read.text and "SYNTHETIC" in read.text and "(training)" in read.text
    assert (tmp_path / "out" / "runs.png").read_bytes().startswith(b"\x89PNG")
    assert "50.00" in capsys.readouterr().out


def test_following_ends_with_the_last_run(tmp_path):
    folder, _, _ = workdir(tmp_path, "one", seed=1, done=False)
    pages = tmp_path / "out" / "runs.html"
    thread = threading.Thread(
        target=command.main, args=([str(folder), "--out", str(tmp_path / "out"), "--follow", "--every", "1"],)
    )
    thread.start()
    while not pages.exists():
        thread.join(0.1)
    assert "http-equiv='refresh'" in pages.read_text()
    (folder / "result.json").write_text(json.dumps({"data": "d", "split": "val", "scores": {"miou": 0.5}}))
    thread.join(60)
    assert not thread.is_alive() and "http-equiv='refresh'" not in pages.read_text()


def test_a_folder_that_is_no_workdir_is_named(tmp_path, capsys):
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "is no workdir" in capsys.readouterr().err and not (tmp_path / "out").exists()
