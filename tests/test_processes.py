"""One device, four devices, and two processes of two devices in either order: the same training, in real processes."""

import itertools
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tiny

from genseg import checkpoints, tree

STEPS = 5
LAYOUTS = {"one device": (1, 1), "four devices": (1, 4), "two processes": (2, 2), "two processes, crossed": (2, 2)}

# Adam divides gradients by their size, so that in parameters whose gradient is nothing but rounding each step moves by
# the learning rate in a random direction. eps makes such steps small; the learning rates are the configs' own.
COMMON = [
    f"--config.train.steps={STEPS}", "--config.train.epochs=0", "--config.train.warmup_epochs=0",
    "--config.train.warmup_steps=2", "--config.train.batch_size=16", "--config.train.accumulation=2",
    "--config.eval.batch_size=8", "--config.report.log_every=1", "--config.ema.decay=0.9",
    "--config.model.drop_path=0.2", "--config.data.val_images=20", "--config.optim.eps=1e-4",
]  # fmt: skip
TASKS = {
    "pretrain": [
        f"--config={tiny.ROOT / 'configs' / 'demo_pretrain.py'}", "--config.data.train_images=56",
        "--config.mixing.prob=1.0", "--config.mixing.mixup=0.8", "--config.mixing.cutmix=1.0",
        "--config.mixing.group=4", "--config.erasing.prob=0.25",
    ],
    "segment": [
        f"--config={tiny.ROOT / 'configs' / 'demo_segment.py'}", "--config.data.train_images=40",
        "--config.augment.size=(32, 32)", "--config.report.panels=2",
    ],
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run(arguments: list[str], layout: str, **how) -> list[str]:
    """Runs all processes of a layout; returns what each wrote to standard error."""
    processes, devices = LAYOUTS[layout]
    if "crossed" in layout:  # and hybrid
        arguments, how = [*arguments, "--config.mesh.fsdp=2"], {**how, "CROSSED": "yes"}
    started = tiny.job(arguments, processes, devices, port=free_port(), **how)
    errors = [process.communicate(timeout=900)[1] for process in started]
    for process, text in zip(started, errors, strict=True):
        assert process.returncode == 0, text[-3000:]
    return errors


def spied(out: Path) -> list[dict]:
    """What each process saw."""
    return [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]


def order(out: Path, steps: int = STEPS) -> list[list[int]]:
    """Records of the first global batches: the processes' rows one after the other, or crossed device by device."""
    batches = zip(*(seen["order"][:steps] for seen in spied(out)), strict=True)
    if "crossed" not in out.name:
        return [list(itertools.chain(*rows)) for rows in batches]
    return [np.reshape(rows, (2, 2, -1)).swapaxes(0, 1).ravel().tolist() for rows in batches]


def losses(workdir: Path) -> list[float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def parameters(workdir: Path, *, ema: bool) -> dict[str, np.ndarray]:
    weights = checkpoints.load_weights(str(workdir), ema=ema)
    return dict(tree.items({"params": weights.params, "stats": weights.stats}))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_layouts_train_and_count_alike(task, tmp_path):
    data = [f"--config.data.data_dir={tmp_path / 'data'}"]
    for layout in LAYOUTS:
        workdir = tmp_path / layout
        run([f"--workdir={workdir}", *TASKS[task], *COMMON, *data], layout, spy=tmp_path / f"saw {layout}")
    first, *others = LAYOUTS
    assert len(losses(tmp_path / first)) == STEPS
    for layout in others:
        assert order(tmp_path / f"saw {layout}") == order(tmp_path / f"saw {first}")
        np.testing.assert_allclose(losses(tmp_path / layout), losses(tmp_path / first), rtol=1e-4, err_msg=layout)
        for ema in (False, True):
            expected, got = parameters(tmp_path / first, ema=ema), parameters(tmp_path / layout, ema=ema)
            assert expected.keys() == got.keys()
            for path, leaf in expected.items():
                np.testing.assert_allclose(got[path], leaf, rtol=1e-3, atol=2e-4, err_msg=f"{layout} {path}")

    # A finished run started again is evaluated again: here the same parameters in every layout.
    for layout in LAYOUTS:
        workdir = tmp_path / f"again {layout}"
        shutil.copytree(tmp_path / first, workdir)
        run([f"--workdir={workdir}", *TASKS[task], *COMMON, *data], layout, spy=tmp_path / f"counted {layout}")
    expected = spied(tmp_path / f"counted {first}")[0]["counts"]
    assert len(expected) == 2  # with the averages and without
    for layout in LAYOUTS:
        for seen in spied(tmp_path / f"counted {layout}"):
            assert seen["counts"] == expected
