"""SIGKILL in real processes: the same command again ends in the same parameters, to the bit."""

import json
import signal
import time
from pathlib import Path

import numpy as np
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
            dict(tree.items(checkpoints.load_weights(str(tmp_path / name), ema=ema).params)) for name in ("whole", "killed")
        )
        for path, leaf in whole.items():
            np.testing.assert_array_equal(leaf, killed[path], err_msg=path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)  # lines written after the last save before the kill were taken back
    scores = [json.loads((tmp_path / n / "result.json").read_text())["scores"] for n in ("whole", "killed")]
    assert scores[0] == scores[1]
