"""Real configs shrunk in size only, and real processes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

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


def process(arguments: list[str], **environment: str) -> subprocess.Popen:
    """`python -m genseg.main ARGUMENTS` on one CPU device."""
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.Popen(
        [sys.executable, "-m", "genseg.main", *arguments],
        cwd=ROOT, env={**clean, "JAX_PLATFORMS": "cpu", **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
