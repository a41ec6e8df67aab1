"""SIGKILL in real processes: the same command again ends in the same parameters, to the bit; on another layout of
processes and devices it takes the same records and ends in the same parameters but for rounding."""

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import test_processes
import tiny

from genseg import checkpoints, tree


def arguments(workdir: Path, data_dir: Path) -> list[str]:
    return [
        f"--config={tiny.ROOT / 'configs' / 'demo_pretrain.py'}", f"--workdir={workdir}",
        f"--config.data.data_dir={data_dir}", "--config.data.train_images=48", "--config.data.val_images=16",
        "--config.train.batch_size=8", "--config.train.epochs=0", "--config.train.steps=40",
        "--config.train.warmup_epochs=0", "--config.eval.batch_size=16", "--config.checkpoint.every=2",
        "--config.eval.every=10", "--config.report.log_every=1", "--config.ema.decay=0.9", "--config.mixing.prob=1.0",
        "--config.mixing.mixup=0.8", "--config.model.drop_path=0.1", "--config.mixing.group=4",
    ]  # fmt: skip


def finish(workdir: Path, data_dir: Path) -> None:
    process = tiny.process(arguments(workdir, data_dir))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def kill_after_step(workdir: Path, data_dir: Path, step: int) -> None:
    process = tiny.process(arguments(workdir, data_dir))
    path = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and f'"step": {step},' in path.read_text():
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1][-3000:]
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_killed_run_ends_in_the_parameters_of_an_uninterrupted_one(tmp_path):
    data_dir = tmp_path / "data"
    finish(tmp_path / "whole", data_dir)
    kill_after_step(tmp_path / "killed", data_dir, 13)
    assert not (tmp_path / "killed" / "result.json").exists()
    finish(tmp_path / "killed", data_dir)
    for ema in (False, True):
        whole, killed = (
            dict(tree.items(checkpoints.load_weights(str(tmp_path / name), ema=ema).params))
            for name in ("whole", "killed")
        )
        for path, leaf in whole.items():
            np.testing.assert_array_equal(leaf, killed[path], err_msg=path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # lines written after the last save before the kill were taken back
    scores = [json.loads((tmp_path / n / "result.json").read_text())["scores"] for n in ("whole", "killed")]
    assert scores[0] == scores[1]


KILLS = 24
UNFINISHED = "*orbax-checkpoint-tmp*"


class Moments:
    """Kills a run at random moments, by turns in training, in a save and in an evaluation."""

    def __init__(self, workdir: Path, saw: Path):
        self.workdir, self.saw, self.random = workdir, saw, random.Random(0)
        self.hit = {"step": 0, "save": 0, "evaluation": 0}

    def wait(self, kind: str, process: subprocess.Popen) -> None:
        """Until the moment has come. A step that no former start has made comes first: kills do not all fall on one state."""
        begin, further = self.steps(), False
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
            further = further or self.steps() > begin
            if not further:
                continue
            saving, evaluating = self.saving(), self.evaluating.exists()
            now = {"step": not saving and not evaluating, "save": saving and not evaluating, "evaluation": evaluating}
            if now[kind] and self.random.random() < (0.3 if kind == "evaluation" else 0.02):  # which is soon over
                return
        raise AssertionError(f"no {kind} to kill: {process.communicate()[1][-3000:]}")

    def kill(self, kind: str, process: subprocess.Popen) -> None:
        self.evaluating.unlink(missing_ok=True)
        self.wait(kind, process)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert "and an older one is used" not in errors, errors  # an older one may be half deleted; the newest is whole
        self.hit["evaluation" if self.evaluating.exists() else "save" if self.saving() else "step"] += 1

    def saving(self) -> bool:
        return any((self.workdir / "checkpoints").glob(UNFINISHED))

    @property
    def evaluating(self) -> Path:
        return self.saw / "evaluating"

    def steps(self) -> int:
        """The last step that the metrics tell of."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


@pytest.mark.slow
def test_a_run_killed_24_times_ends_in_the_state_of_an_uninterrupted_one(tmp_path):
    """All arrays of the last checkpoint are compared by their checksums: parameters, statistics, optimizer, averages."""

    def start(name: str) -> subprocess.Popen:
        more = [  # a step that takes longer than the eighth of a save: there are moments without one
            "--config.train.steps=400", "--config.train.batch_size=32", "--config.train.accumulation=4",
            "--config.checkpoint.every=8", "--config.eval.every=16",
        ]  # fmt: skip
        return tiny.job(
            [*arguments(tmp_path / name, tmp_path / "data"), *more], 1, 1, port=0, spy=tmp_path / f"saw {name}",
            JAX_COMPILATION_CACHE_DIR=str(tmp_path / "xla"),
        )[0]  # fmt: skip

    def finish(name: str) -> None:
        process = start(name)
        _, errors = process.communicate(timeout=1200)
        assert process.returncode == 0 and "and an older one is used" not in errors, errors[-3000:]

    finish("whole")
    moments = Moments(tmp_path / "killed", tmp_path / "saw killed")
    for number in range(KILLS):
        moments.kill(("step", "save", "evaluation")[number % 3], start("killed"))
    assert min(moments.hit.values()) >= 4, moments.hit
    reached = moments.steps()
    finish("killed")
    whole, killed = (last_meta(tmp_path / name) for name in ("whole", "killed"))
    assert len(whole["checksums"]) > 100 and whole["checksums"] == killed["checksums"]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["scores"] == results[1]["scores"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    aside = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "killed").glob("damaged/*/*"))
    print(f"{KILLS} kills up to step {reached}: {moments.hit}, set aside: {aside}")


def last_meta(workdir: Path) -> dict:
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    assert step == 400
    return json.loads((workdir / "checkpoints" / str(step) / "meta" / "metadata").read_text())


# (processes, devices each, fsdp): where training begins, and where it goes on.
MOVES = [((1, 1, 1), (2, 2, 2)), ((1, 4, 4), (1, 1, 1)), ((1, 4, 4), (1, 4, 2))]
STEPS, STOP = 8, 4


@pytest.mark.slow
@pytest.mark.parametrize("task", test_processes.TASKS)
def test_a_run_goes_on_in_another_layout(task, tmp_path):
    """With averages, accumulation, mixup and drop path. The bounds are those of layouts that differ from the start."""
    common = [
        *test_processes.TASKS[task], *test_processes.COMMON, f"--config.data.data_dir={tmp_path / 'data'}",
        f"--config.train.steps={STEPS}", f"--config.checkpoint.every={STOP}", "--config.checkpoint.keep=3",
    ]  # fmt: skip

    def run(name: str, layout: tuple[int, int, int]) -> Path:
        processes, devices, fsdp = layout
        started = tiny.job(
            [f"--workdir={tmp_path / name}", *common, f"--config.mesh.fsdp={fsdp}"], processes, devices,
            port=test_processes.free_port(), spy=tmp_path / f"saw {name}",
        )  # fmt: skip
        for process in started:
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors[-3000:]
        return tmp_path / name

    for begun in {begun for begun, _ in MOVES}:
        run(f"from {begun}", begun)
    for begun, moved in MOVES:
        whole, name = tmp_path / f"from {begun}", f"{begun} to {moved}"
        shutil.copytree(whole, tmp_path / name)  # as a kill behind step STOP leaves it
        shutil.rmtree(tmp_path / name / "checkpoints" / str(STEPS))
        (tmp_path / name / "result.json").unlink()
        run(name, moved)
        got, expected = (test_processes.order(tmp_path / f"saw {n}", STEPS) for n in (name, f"from {begun}"))
        assert len(expected) == STEPS and got[: STEPS - STOP] == expected[STOP:]
        np.testing.assert_allclose(
            test_processes.losses(tmp_path / name), test_processes.losses(whole), rtol=1e-4, err_msg=name
        )
        for ema in (False, True):
            expected = test_processes.parameters(whole, ema=ema)
            got = test_processes.parameters(tmp_path / name, ema=ema)
            assert expected.keys() == got.keys()
            for path, leaf in expected.items():
                np.testing.assert_allclose(got[path], leaf, rtol=1e-3, atol=2e-4, err_msg=f"{name} {path}")
