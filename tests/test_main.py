"""Mistakes on the command line end in one sentence and status 2, without a traceback."""

import jax
import pytest
import tiny

from genseg import main

CONFIG = f"--config={tiny.ROOT / 'configs' / 'small_pretrain.py'}"
PRETRAIN = f"--config={tiny.ROOT / 'configs' / 'pretrain.py'}"
SEGMENT = f"--config={tiny.ROOT / 'configs' / 'small_segment.py'}:naip"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=w"], "--config is missing"),
        (
            ["--config=configs/nothing.py", "--workdir=w"],
            "the config file configs/nothing.py does not load: no such file; name one of",
        ),
        ([CONFIG], "--workdir is missing"),
        (
            [CONFIG, "--workdir=w", "--config.optim.lr=1"],
            "unknown config key config.optim.lr; the config file has all keys",
        ),
        ([CONFIG, "--workdir=w", "--config.data.sorce=x"], "key config.data.sorce; did you mean 'source'?"),
        ([CONFIG, "--workdir=w", "--config.trian.steps=1"], "key config.trian.steps; did you mean 'train'?"),
        ([CONFIG, "--workdir=w", "--config.train.steps=many"], "many"),
        ([CONFIG + ":chanels=4", "--workdir=w"], "error: 'chanels=4' behind the config's colon"),
        ([PRETRAIN + ":resnet50", "--workdir=w"], "error: no published recipe for 'resnet50'"),
        ([CONFIG, "--workdir=w", "--config.data.source=/no/such/folder"], "There is no data set at /no/such/folder"),
        (
            [
                SEGMENT,
                "--workdir=w",
                "--config.data.source=tests",
                "--config.data.image_pattern=('rgb/{split}-{id}.none',)",
            ],
            "nothing matches rgb/train-{id}.none.",
        ),
        ([CONFIG, "--workdir=w", "--config.mesh.data=3"], "does not cover the 1 devices"),
        ([CONFIG, "--workdir=w", "config.seed=1"], "unknown argument 'config.seed=1'"),
    ],
)
def test_one_sentence(arguments, message, tmp_path):
    arguments = [a.replace("--workdir=w", f"--workdir={tmp_path}/w") for a in arguments]
    process = tiny.process(arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    last = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(last) == 1 and message in last[0], errors


def test_batch_must_divide_over_devices(tmp_path):
    process = tiny.process(
        [CONFIG, f"--workdir={tmp_path}", "--config.train.batch_size=6"],
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "batch size 6 is not divisible by the 4 devices" in errors


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.3GiB.", "(trying to allocate 9.3GiB.); raise config.train"),
        ("RESOURCE_EXHAUSTED: XLA:TPU compile. Used 20.1G of 15.7G hbm. Exceeded", "(Used 20.1G of 15.7G hbm); raise config.train"),
    ],
)  # fmt: skip
def test_too_little_memory_is_said_so(error, message, monkeypatch, capsys):
    def out_of_memory(*_, **__):
        raise jax.errors.JaxRuntimeError(error)

    monkeypatch.setattr(main.app, "run", out_of_memory)
    with pytest.raises(SystemExit) as left:
        main.run([])
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_other_errors_keep_their_traceback(monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(main.app, "run", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        main.run([])
