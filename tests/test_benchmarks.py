"""Benchmarks run, and print a line for each path; what they print is for people, not for tests."""

import subprocess
import sys

import pytest
import tiny


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_tiny"])
def test_training_step(backbone):
    script = tiny.ROOT / "benchmarks" / "train_step.py"
    arguments = ["--backbone", backbone, "--size", "32", "--batch", "2", "--repetitions", "1"]
    printed = subprocess.run(
        [sys.executable, script, *arguments], cwd=tiny.ROOT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    assert printed[0].startswith(f"{backbone}, 4 x 32 x 32, batch 2") and printed[2].split()[0] == "genseg"
