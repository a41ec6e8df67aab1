"""Benchmarks run, and print a line for each path; what they print is for people, not for tests."""

import ast
import importlib
import importlib.util
import runpy
import sys

import pytest
import tiny


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


@pytest.mark.parametrize("path", sorted((tiny.ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_takes_from_genseg_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genseg":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), (
                    alias.name
                )


@pytest.mark.slow
def test_networks_are_timed_without_their_peers_too(monkeypatch, capsys):
    monkeypatch.syspath_prepend(tiny.ROOT / "benchmarks")
    job = importlib.import_module("job").Job
    jobs = (job("convnext_tiny", 32, 8, "float32", False), job("swin_tiny", 32, 8, "float32", True))
    monkeypatch.setattr(importlib.import_module("rows.networks"), "JOBS", jobs)
    printed = benchmark(monkeypatch, capsys, "networks", "--no-page")
    assert all(f"| {j.name} | genseg |" in printed for j in jobs)
