"""Studies: plans, statistics against closed cases, runs in real processes, and a report of whatever is there."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genseg import border_scores, metrics
from genseg.errors import UserError
from genseg.study import __main__ as command
from genseg.study import design, report, results, running, statistics

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


def runner(out: Path, program, **options) -> running.Runner:
    return running.Runner(
        out, design.cells(design.read(PLAIN)), SOURCES, "", **{"side_by_side": 2, "program": program, **options}
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


# Statistics


@settings(max_examples=40, deadline=None)
@given(data=st.data(), absent=st.sampled_from(["skip", "zero"]))
def test_scores_of_stacked_counts_are_those_of_the_metrics(data, absent):
    values = data.draw(st.lists(st.integers(0, 5), min_size=32, max_size=32))
    counts = np.array(values).reshape(2, 4, 4)
    scored = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
    for name in design.CONFUSION_SCORES:
        ours = statistics.score(name, scored, absent)(counts)
        for one, confusion in zip(ours, counts, strict=True):
            theirs = getattr(metrics.segmentation_scores(confusion, scored, absent), name)
            np.testing.assert_allclose(one, theirs, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), empty=st.booleans(), absent=st.sampled_from(["skip", "zero"]))
def test_border_scores_of_stacked_counts_are_those_of_each(seed, empty, absent):
    random = np.random.default_rng(seed)
    no_part_above_its_whole = [5, 6, 0, 2, 3, 1, 4]
    counts = np.sort(random.integers(0, 50, (2, 3, 7, 3, 4)), axis=2)[:, :, no_part_above_its_whole]
    counts[..., 0] *= not empty
    ours = statistics.border_means([0, 2, 3], absent)(counts)
    assert ours.shape == (2, 3, 9)
    for place in np.ndindex(2, 3):
        theirs = border_scores.border_scores(counts[place], [0, 2, 3], absent)
        np.testing.assert_array_equal(ours[place][3:6], theirs.mean_f1)
        assert dict(zip(border_scores.NAMES, ours[place], strict=True)) == border_scores.named_scores(theirs)


def counts_of(hits: np.ndarray, of: int = 1000) -> np.ndarray:
    """[pairs, scenes] right pixels of `of` -> counts whose "oa" is the share of right pixels."""
    wrong = of - hits
    return np.stack([np.stack([hits, wrong], -1), np.zeros((*hits.shape, 2), int)], -2)


OA = statistics.score("oa", [0], "skip")


def test_equal_differences_have_an_interval_of_no_width():
    b = np.full((6, 5), 500)
    d = statistics.paired(counts_of(b + 20), counts_of(b), [0, 0, 1, 1, 2, 2], OA)
    assert d.mean == pytest.approx(0.02) and d.low == pytest.approx(0.02) and d.high == pytest.approx(0.02)
    assert float(d.p) == pytest.approx(2**-5)


def test_over_scenes_alone_the_interval_is_scipys_bootstrap():
    random = np.random.default_rng(0)
    a, b = random.integers(400, 700, 40), random.integers(350, 650, 40)
    pairs = np.stack([np.broadcast_to(x, (2, 40)) for x in (a, b)])  # both pairs alike: only scenes vary
    d = statistics.paired(counts_of(pairs[0]), counts_of(pairs[1]), [0, 1], OA, draws=8000)
    found = stats.bootstrap((a / 1000, b / 1000), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True,
                            method="percentile", n_resamples=8000, rng=np.random.default_rng(1))  # fmt: skip
    low, high = found.confidence_interval
    assert (float(d.low), float(d.high)) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_over_runs_alone_the_spread_is_that_of_two_levels():
    """All scenes alike. The variance of a resampled mean is known: between origins, and within them."""
    effects = np.array([0, 60, 120])[:, None] + np.array([[-10, 10], [-30, 30], [0, 0]])
    hits = np.broadcast_to(500 + effects.reshape(6, 1), (6, 3))
    random = np.random.default_rng(0)
    taken = statistics.draw_pairs(random, np.array([0, 0, 1, 1, 2, 2]), 40_000)
    assert taken.shape == (40_000, 6)
    means = effects.reshape(6)[taken].mean(1)
    between, within = effects.mean(1).var() / 3, np.mean(effects.var(1)) / 6
    assert means.var() == pytest.approx(between + within, rel=0.05)
    d = statistics.paired(counts_of(hits), counts_of(np.full((6, 3), 500)), [0, 0, 1, 1, 2, 2], OA)
    assert d.low == pytest.approx(np.percentile(means, 2.5) / 1000, abs=0.004)


def test_resamples_of_unequal_numbers_of_pairs_keep_pairs_with_their_network():
    taken = statistics.draw_pairs(np.random.default_rng(0), np.array([0, 0, 1]), 30_000)
    shares = np.bincount(taken.ravel(), minlength=3) / taken.size
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.01)


def test_more_scenes_narrow_the_interval_and_coverage_is_near_95_per_cent():
    covered, random = 0, np.random.default_rng(3)
    for _ in range(150):
        runs = random.normal(20, 15, (8, 1))
        scenes = random.normal(0, 30, (1, 30))
        a = np.rint(500 + runs + scenes + random.normal(0, 5, (8, 30))).astype(int)
        b = np.full((8, 30), 500)
        d = statistics.paired(counts_of(a), counts_of(b), range(8), OA, draws=400, seed=int(random.integers(1 << 30)))
        covered += d.low <= 0.020 <= d.high
    assert 0.86 <= covered / 150 <= 0.99  # percentile intervals of 8 runs are a little short


def test_sign_flip_is_exact():
    assert float(statistics.sign_flip(np.array([1.0, 2, 3, 4, 5, 6]))) == pytest.approx(2 / 64)
    assert float(statistics.sign_flip(np.array([1.0, 2, 3]))) == pytest.approx(0.25)
    # By hand: |mean| of +-1 +-2 +-4 is at least |1 + 2 - 4| in all 8 ways.
    assert float(statistics.sign_flip(np.array([1.0, 2, -4]))) == pytest.approx(1.0)
    columns = np.array([[1.0, np.nan], [2, np.nan], [3, 1.0]])
    np.testing.assert_allclose(statistics.sign_flip(columns), [0.25, np.nan])


def test_sign_flip_of_many_pairs_draws_signs_within_bounded_memory():
    columns = np.random.default_rng(0).normal(0.4, 1, (40, 2))
    statistics.sign_flip(columns[:3])  # imports SciPy
    tracemalloc.start()
    try:
        (drawn,) = statistics.sign_flip(columns[:18, :1])
        assert tracemalloc.get_traced_memory()[1] < 32e6  # all 2^18 at once take 75 MB of signed values alone
    finally:
        tracemalloc.stop()
    signs = np.random.default_rng(1).choice([-1, 1], (200_000, 18))
    beyond = np.abs(signs @ columns[:18, 0]) >= np.abs(columns[:18, 0].sum())
    assert drawn == pytest.approx(beyond.mean(), abs=0.01) and 0.02 < drawn < 0.98
    many = statistics.sign_flip(columns)
    np.testing.assert_array_equal(many, statistics.sign_flip(columns))
    assert statistics.sign_flip(np.ones(40)) == statistics.smallest_p(40) == 2 / (2**16 + 1)
    assert statistics.sign_flip(np.ones(6)) == statistics.smallest_p(6) == 2 / 64


def test_holm_by_hand():
    adjusted = statistics.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06, 0.02])


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
