"""Real configs shrunk in size only, and real processes."""

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from genseg.nets.convnext import ConvNeXt
from genseg.nets.initializers import fan_in_init

ROOT = Path(__file__).resolve().parents[1]


def load(name: str, *arguments: str) -> ConfigDict:
    """`get_config(*arguments)` of configs/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


def pretrain(data_dir: Path, arguments: str = "") -> ConfigDict:
    """The demo's pre-training on 48 drawn images: 4 steps of 8."""
    config = load("demo_pretrain", arguments)
    config.data.data_dir = str(data_dir)
    config.data.train_images, config.data.val_images = 48, 20
    config.train.batch_size, config.train.epochs, config.train.steps = 8, 0.0, 4
    config.train.warmup_epochs, config.train.warmup_steps = 0.0, 1
    config.eval.batch_size = 8
    return config


def segment(data_dir: Path) -> ConfigDict:
    """The demo's fine-tuning on 16 drawn scenes: 3 steps of 8."""
    config = load("demo_segment")
    config.data.data_dir = str(data_dir)
    config.data.train_images, config.data.val_images = 16, 10
    config.train.batch_size, config.train.steps, config.train.warmup_steps = 8, 3, 1
    config.eval.batch_size = 8
    config.report.panels = 2
    return config


# One block a stage: what a compiler's time is spent on.
narrow = partial(ConvNeXt, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), init=fan_in_init, layer_scale=1.0)


def process(arguments: list[str], **environment: str) -> subprocess.Popen:
    """`python -m genseg.main ARGUMENTS` on one CPU device."""
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.Popen(
        [sys.executable, "-m", "genseg.main", *arguments],
        cwd=ROOT, env={**clean, "JAX_PLATFORMS": "cpu", **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def target(name: str, source: Path, data_dir: Path, arguments: str = "") -> ConfigDict:
    """configs/segment_NAME.py on a fixture of tests/data/made.py: its sizes and its length are cut, nothing else.

    The backbone keeps its name: see `narrow`.
    """
    config = load(f"segment_{name}", arguments)
    config.data.source, config.data.data_dir = str(source), str(data_dir)
    if "patch" in config.data:
        config.data.patch, config.data.stride = 32, 20
    config.augment.size = (32, 32)
    config.model.head_channels, config.model.aux_channels = 16, 8
    config.train.batch_size, config.train.epochs, config.train.steps = 8, 0.0, 2
    config.train.warmup_epochs, config.train.warmup_steps = 0.0, 1
    config.eval.batch_size = 8
    config.report.panels = 2 if name == "isaid" else 0  # drawing compiles a program of its own
    return config


def job(
    arguments: list[str], processes: int, devices: int, *, port: int, spy: Path | None = None, **environment: str
) -> list[subprocess.Popen]:
    """tests/spied.py ARGUMENTS in each process of a job, with `devices` CPU devices each; `spy`: folder for what it saw."""
    flags = [
        f"--xla_force_host_platform_device_count={devices}", "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM_", "TPU_"))}
    started = []
    for index in range(processes):
        place = {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
        program = [str(ROOT / "tests" / "spied.py"), str(spy or "-")]
        started.append(
            subprocess.Popen(
                [sys.executable, *program, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={
                    **clean, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags),
                    **(place if processes > 1 else {}), **environment,
                },
            )
        )  # fmt: skip
    return started
