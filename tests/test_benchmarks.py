"""Benchmarks run, and print a line for each path; what they print is for people, not for tests."""

import importlib.util
import runpy
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


def benchmark(monkeypatch, capsys, *arguments: str) -> str:
    """What a row prints without peers."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.syspath_prepend(tiny.ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments, "--seconds", "0"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tiny.ROOT / "benchmarks" / "run.py"), run_name="__main__")
    assert end.value.code == 0
    return capsys.readouterr().out


def test_a_row_is_checked_timed_and_put_in_its_place_on_the_page(monkeypatch, capsys, tmp_path):
    page = tmp_path / "bench.md"
    page.write_text("# Title\n\n## jpeg\n\nold\n\n## start\n\nkept\n")
    monkeypatch.syspath_prepend(tiny.ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("rows.jpeg"), "COUNT", 4)
    printed = benchmark(monkeypatch, capsys, "jpeg", "--page", str(page))
    assert "| JPEG to 224 crop | genseg |" in printed and "differs from Pillow's" in printed
    assert page.read_text() == f"# Title\n\n{printed.rstrip()}\n\n## start\n\nkept\n"
