"""The comparisons of `make parity`, which need torch, transformers, timm, jax2onnx and onnxruntime."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "transformers", "timm", "jax2onnx", "onnxruntime")
PHOTO = SHARED / "mfnet-subset" / "images" / "00125D.png"


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason="run `make parity` once: it installs torch"
)
@pytest.mark.parametrize(("script", "lines"), [("live.py", 14), ("outside.py", 12)], ids=["networks", "exports"])
def test_beside_the_references(script, lines):
    """In a process of its own: the tests' XLA flags trade speed and rounding for quick compilation."""
    photo = [f"--image={PHOTO}"] if script == "outside.py" and PHOTO.exists() else []
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "parity" / script), *photo],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert [line[:4] for line in done.stdout.splitlines()] == ["ok  "] * lines, done.stdout
