"""Studies: plans, runs in real processes, and a report of whatever is there."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from genseg.errors import UserError
from genseg.study import __main__ as command
from genseg.study import design, report, results, running

PLAIN = {
    "name": "made",
    "pretrain": {
        "rgb": {"config": "rgb.py", "set": {"train.epochs": 1.0}, "seeds": (0, 1)},
        "csp": {"config": "csp.py:channels=4", "set": {}, "seeds": (0, 1)},
    },
    "pretrain_source": "photos",
    "arms": {
        "none": {"start": None, "set": {}},
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        "csp": {"start": "csp", "set": {"init.stem": "exact"}},
    },
    "targets": {"tiles": {"config": "tiles.py", "source": "tiles", "set": {"augment.size": (8, 8)}}},
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
CONVERTED = {"config": "csp.py", "set": {"init.stem": "repeat"}, "seeds": (0, 1), "after": "rgb"}
SOURCES = {"photos": "/photos", "tiles": "/tiles"}
# Stands for genseg.main: notes each start of a run, takes a moment, fails where the test says, writes counts and a result.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
import numpy as np
said = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
out = Path(said["workdir"]); out.mkdir(parents=True, exist_ok=True)
with (out / "starts").open("a") as f: f.write(f"{os.getpid()}\\n")
(out / "core").write_text(str(sorted(os.sched_getaffinity(0))) + os.environ.get("XLA_FLAGS", ""))
time.sleep(float(os.environ.get("MOMENT", "0.05")))
if said["config"] == os.environ.get("FAILS"): print("stopped: it fails; mend it"); sys.exit(2)
scores = {"top1": 0.5}
if "tiles" in said["config"]:
    seed = int(said["config.seed"])
    better = 4 * ("csp" in said.get("config.init.checkpoint", ""))
    confusion = np.array([[[20 + better + s, 5 - better], [3 - seed, 10 + seed]] for s in range(4)])
    # Borders, at every distance: 60 + `better` of 100 pixels of truth are met, by as many predicted ones as are met.
    borders = np.full((4, 7, 3, 2), 60 + better); borders[:, :2] = 100
    np.savez(out / "test_scene_counts.npz", scenes=np.array(["a", "b", "c", "d"]), confusion=confusion, borders=borders,
             classes=np.array(["field", "house"]), scored=np.array([0, 1]), absent="skip", step=1)
    total = confusion.sum(0); hit = np.diag(total)
    iou = hit / (total.sum(0) + total.sum(1) - hit)
    scores = {"miou": float(iou.mean()), "mf1": 0.5, "oa": float(hit.sum() / total.sum()), "boundary_f1_3px": (60 + better) / 100}
(out / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\\n{"step": 2, "train/loss": 1.0}\\n')
(out / "result.json").write_text(json.dumps({"scores": scores, "seconds": 60.0, "split": "test"}))
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return sys.executable, str(tmp_path / "program.py")


def runner(out: Path, program, study: dict = PLAIN, **options) -> running.Runner:
    return running.Runner(
        out, design.cells(design.read(study)), SOURCES, "", **{"side_by_side": 2, "program": program, **options}
    )


def test_cells_pair_arms_by_seed_and_the_primary_comparison_comes_first():
    study = design.read(PLAIN)
    cells = design.cells(study)
    assert len(cells) == 4 + 12 and len({c.folder for c in cells}) == 16
    assert {c.arm for c in cells[-4:]} == {"none"}
    by_place = {(c.arm, c.pair): c for c in cells if c.target}
    for pair in range(4):
        for arm in ("rgb", "csp"):
            assert by_place[arm, pair].needs == f"pretrain/{arm}-s{pair // 2}"
        assert {by_place[arm, pair].seed for arm in PLAIN["arms"]} == {pair}
    text = by_place["rgb", 3].command(Path("out"), SOURCES, "")
    assert text == (
        "python -m genseg.main --config=tiles.py --workdir=out/finetune/tiles/rgb-s3 --config.data.source=/tiles "
        "--config.init.checkpoint=out/pretrain/rgb-s1 '--config.augment.size=(8, 8)' --config.init.stem=repeat "
        "--config.seed=3"
    )


@pytest.mark.parametrize(
    "change, said",
    [
        ({"arms": {"a": {"start": "mae", "set": {}}}}, "'mae', which STUDY\\['pretrain'\\] lacks"),
        ({"primary": {"score": "miou", "better": "best", "than": "rgb"}}, "'best'"),
        ({"primary": {"score": "loss", "better": "csp", "than": "rgb"}}, "miou, mf1, oa"),
        ({"seeds": ()}, "seeds"),
        ({"colour": 1}, "colour"),
        ({"targets": {}}, "targets"),
        ({"pretrain": PLAIN["pretrain"] | {"later": CONVERTED | {"after": "mae"}}}, "'mae', which is no other entry"),
        ({"pretrain": PLAIN["pretrain"] | {"later": CONVERTED | {"seeds": (5,)}}}, "no seed 5"),
        ({"pretrain": {"csp": CONVERTED, "rgb": CONVERTED | {"after": "csp"}}}, "itself goes on"),
    ],
)
def test_a_study_that_does_not_fit_together_is_refused_in_a_sentence(change, said):
    with pytest.raises(UserError, match=said):
        design.read({**PLAIN, **change})


def test_runs_of_a_config_before_and_after_it_was_edited_are_not_one_study(program, tmp_path):
    file = tmp_path / "tiles.py"

    def write(size: int, comment: str = "") -> None:
        file.write_text(
            "from ml_collections import ConfigDict\n"
            f"def get_config(): {comment}\n    return ConfigDict(dict(augment=dict(size=({size}, 8))))\n"
        )

    target = {"config": str(file), "source": "tiles", "set": {}}
    study = {**PLAIN, "targets": {"tiles": target}}
    out = tmp_path / "out"
    write(8)
    one = runner(out, program, study)
    one.run()
    write(8, comment="# the same values")
    runner(out, program, study)
    write(16)
    with pytest.raises(UserError, match=r"tiles\.py holds other values than when .* was run"):
        runner(out, program, study)
    for path in (out / f"{cell.folder}.cell" for cell in one.cells if cell.target):
        path.write_text(json.dumps(json.loads(path.read_text())[:4]))  # as earlier versions wrote it
    runner(out, program, study)


def test_studies_of_this_repository_load_and_their_commands_fit_their_configs():
    from genseg import recipes
    from genseg.config import load_file

    for path in sorted((tiny.ROOT / "studies").glob("*.py")):
        study = design.load(str(path))
        for cell in {cell.kind: cell for cell in design.cells(study)}.values():
            with tiny_cwd(tiny.ROOT):
                config = load_file(cell.config)
            for key, value in cell.set:
                part, _, name = key.rpartition(".")
                section = config
                for word in part.split("."):
                    section = section[word]
                assert isinstance(value, type(section[name])), (path, key)
                section[name] = value
            recipes.complete(config)


def tiny_cwd(folder):
    return contextlib.chdir(folder)


def test_a_start_goes_on_from_another_of_the_same_seed_and_comes_behind_it():
    plain = PLAIN | {
        "pretrain": {"later": CONVERTED, **PLAIN["pretrain"]},
        "arms": PLAIN["arms"] | {"later": {"start": "later", "set": {}}},
        "primary": {"score": "miou", "better": "later", "than": "csp"},
    }
    folders = [cell.folder for cell in design.cells(design.read(plain))]
    cells = {cell.folder: cell for cell in design.cells(design.read(plain))}
    for seed in (0, 1):
        assert cells[f"pretrain/later-s{seed}"].needs == f"pretrain/rgb-s{seed}"
        assert folders.index(f"pretrain/rgb-s{seed}") < folders.index(f"pretrain/later-s{seed}") < 6
    assert cells["finetune/tiles/later-s3"].needs == "pretrain/later-s1"


# Runs


def test_runs_come_in_order_side_by_side_and_are_reported(tmp_path, program, monkeypatch):
    out = tmp_path / "out"
    one = runner(out, program)
    assert running.remaining(out, one.cells, 2).startswith("16 of 16 runs remain; how long is not known")
    one.run()
    assert {running.state(out, cell) for cell in one.cells} == {"done"}
    began = {c.folder: (out / c.folder / "starts").stat().st_mtime for c in one.cells}
    assert all(began[c.needs] < began[c.folder] for c in one.cells if c.needs)
    core = (out / one.cells[0].folder / "core").read_text()
    assert core.count(",") == 0 and "intra_op_parallelism_threads=1" in core
    (out / one.cells[-1].folder / "result.json").unlink()
    assert running.remaining(out, one.cells, 2) == "1 of 16 runs remain, about 30s with 2 side by side"

    few = report.compare(design.read(PLAIN), one.cells, out, "tiles", "csp", "rgb")
    assert np.isnan(few.difference["miou"].low) and np.isnan(few.iou.high).all()  # two networks an arm: no interval
    monkeypatch.setattr(report, "FEWEST_NETWORKS", 2)
    path = report.write(design.read(PLAIN), one.cells, out, SOURCES, "")
    text = path.read_text()
    assert "of more than 16 pairs over 65,536 random ones" in text
    assert "15 done, 1 missing" in text and "csp is ahead: the interval excludes 0" in text
    assert all(cell.command(out, SOURCES, "") in text for cell in one.cells)
    rows = list(csv.DictReader((out / "reports/made/comparisons.csv").open()))
    (primary,) = [row for row in rows if row["role"] == "primary"]
    assert (primary["difference"], primary["pairs"], primary["pre-trained"]) == ("csp - rgb", "4", "2")
    assert float(primary["low"]) > 0 and float(primary["p"]) == 0.125
    assert next(row["mean"] for row in rows if row["score"] == "boundary_f1_1px") == "+4.00"
    (sharp,) = [r for r in rows if r["score"] == "boundary_f1_3px" and r["difference"] == "csp - rgb"]
    assert (sharp["mean"], sharp["low"], sharp["high"]) == ("+4.00", "+4.00", "+4.00")  # all pairs and scenes alike
    assert {row["class"] for row in csv.DictReader((out / "reports/made/classes.csv").open())} == {"field", "house"}
    of_borders = design.read(PLAIN | {"primary": PLAIN["primary"] | {"score": "boundary_f1_3px"}})
    text = report.write(of_borders, one.cells, out, SOURCES, "").read_text()
    assert "boundary_f1_3px of csp minus rgb" in text and "+4.00 [+4.00, +4.00], 4 pairs" in text
    assert {p.name for p in (out / "reports/made/pictures").iterdir()} == {
        "differences.png",
        "scores.png",
        "curves.png",
    }


def test_a_run_that_fails_is_shown_and_left_until_retry(tmp_path, program, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("FAILS", "csp.py:channels=4")
    one = runner(out, program)
    one.run()
    states = [running.state(out, cell) for cell in one.cells]
    assert (states.count("failed"), states.count("missing"), states.count("done")) == (2, 4, 10)
    text = report.write(design.read(PLAIN), one.cells, out, SOURCES, "").read_text()
    assert "status 2: stopped: it fails; mend it" in text and "nothing to say yet" in text
    monkeypatch.delenv("FAILS")
    runner(out, program).run()
    assert running.state(out, one.cells[0]) == "done"
    assert [running.state(out, c) for c in one.cells].count("failed") == 2
    runner(out, program, retry=True).run()
    assert {running.state(out, cell) for cell in one.cells} == {"done"}


WORKER = """
import sys
sys.path.insert(0, "tests")
import test_study
from pathlib import Path
test_study.runner(Path(sys.argv[1]), (sys.executable, sys.argv[2])).run()
"""


def worker(out: Path, program, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out), program[1]], cwd=tiny.ROOT, env={**os.environ, **environment}
    )


def test_two_processes_share_the_runs_and_a_killed_one_is_taken_up(tmp_path, program):
    out = tmp_path / "out"
    first = worker(out, program, MOMENT="3600")  # far longer than any machine takes to come to the kills
    starts = [out / f"pretrain/{name}-s0/starts" for name in ("rgb", "csp")]
    cells = design.cells(design.read(PLAIN))
    try:
        deadline = time.monotonic() + 300
        while not all(path.exists() and path.read_text().endswith("\n") for path in starts):
            time.sleep(0.05)
            assert first.poll() is None and time.monotonic() < deadline
        assert [running.state(out, cell) for cell in cells].count("running") == 2
        first.kill()  # its runs live on, and keep their cells
        first.wait()
        assert [running.state(out, cell) for cell in cells].count("running") == 2
    finally:  # nothing sleeps on, whatever has failed
        first.kill()
        for path in starts:
            if path.exists() and (pid := path.read_text().strip()):
                os.kill(int(pid), signal.SIGKILL)
    both = [worker(out, program), worker(out, program)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    assert {running.state(out, cell) for cell in cells} == {"done"}
    for cell in cells:
        begun = len((out / cell.folder / "starts").read_text().split())
        assert begun == (2 if out / cell.folder / "starts" in starts else 1), cell.folder


def test_a_run_that_another_process_only_looks_at_is_waited_for(tmp_path, program, monkeypatch):
    out = tmp_path / "out"
    one = runner(out, program, side_by_side=1)
    one.cells = one.cells[:1]
    (cell,) = one.cells
    held, let_go = threading.Event(), threading.Event()
    claim, waiting = running.claim, one._waiting

    @contextlib.contextmanager
    def slow_to_look(*arguments):
        with claim(*arguments) as descriptor:
            if threading.current_thread() is looker:
                held.set()
                assert let_go.wait(300)
            yield descriptor

    def until_it_waits() -> bool:
        found = waiting()
        let_go.set()
        return found

    monkeypatch.setattr(running, "claim", slow_to_look)
    monkeypatch.setattr(one, "_waiting", until_it_waits)
    with claim(out, cell):  # leaves the file that a look locks
        pass
    looker = threading.Thread(target=running.state, args=(out, cell))
    looker.start()
    try:
        assert held.wait(300)
        one.run()
    finally:
        let_go.set()
        looker.join()
    assert running.state(out, cell) == "done"
    assert (out / cell.folder / "starts").read_text().count("\n") == 1


def test_studies_share_runs_of_equal_settings_and_refuse_others_of_the_same_name(tmp_path, program):
    out = tmp_path / "out"
    runner(out, program).run()
    begun = {path: path.read_text() for path in out.glob("*/**/starts")}
    both = design.cells(design.read(PLAIN | {"name": "other"}))
    running.Runner(out, both, SOURCES, "", side_by_side=2, program=program).run()
    assert {path: path.read_text() for path in begun} == begun and len(begun) == 16
    changed = PLAIN | {"targets": {"tiles": PLAIN["targets"]["tiles"] | {"set": {"augment.size": (9, 8)}}}}
    with pytest.raises(UserError, match="finetune/tiles/.*another name, or another --out"):
        running.Runner(out, design.cells(design.read(changed)), SOURCES, "", side_by_side=2, program=program)


@pytest.mark.parametrize("name", ["miou", "boundary_f1_3px"])
def test_counts_that_do_not_give_the_score_are_refused(tmp_path, program, name):
    out = tmp_path / "out"
    one = runner(out, program)
    one.run()
    cell = next(cell for cell in one.cells if cell.target)
    path = out / cell.folder / "result.json"
    found = json.loads(path.read_text())
    found["scores"][name] += 0.01
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=f"{name} of .*evaluates it anew"):
        results.scenes(out, cell)


def test_the_command_lists_runs_and_asks_for_sources(tmp_path, capsys):
    study = tmp_path / "made.py"
    text = f"STUDY = {PLAIN!r}\n"
    study.write_text(text)
    assert command.main([str(study), f"--out={tmp_path / 'out'}", "--list"]) == 2
    assert "rgb.py does not load" in capsys.readouterr().err
    for name, there in (
        ("rgb.py", "demo_pretrain"),
        ("csp.py:channels=4", "demo_pretrain"),
        ("tiles.py", "demo_segment"),
    ):
        text = text.replace(f"'{name}'", f"'{there}'")
    study.write_text(text)
    assert command.main([str(study), f"--out={tmp_path / 'out'}", "--list"]) == 0
    said = capsys.readouterr().out
    assert said.count("missing  python -m genseg.main") == 16 and "16 of 16 runs remain" in said
    assert command.main([str(study), f"--out={tmp_path / 'out'}"]) == 2
    assert "--source photos=FOLDER" in capsys.readouterr().err
    assert command.main([str(tmp_path / "none.py"), "--out=x"]) == 2
