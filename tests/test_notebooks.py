"""The notebooks: what they call exists, their executed copies are of their present text, and they run from top to bottom."""

import ast
import importlib.util
import json
import re
import subprocess
import sys

import jupytext
import pytest
import tiny

import genseg

sys.path.insert(0, str(tiny.ROOT / "notebooks"))
import execute

LARGEST = 300_000  # bytes of an executed copy
NAMES = [path.stem for path in execute.SOURCES]
COPIES = [path.stem for path in sorted((tiny.ROOT / "docs" / "notebooks").glob("*.ipynb"))]


def code(notebook) -> list[str]:
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def copy_of(name):
    return json.loads((tiny.ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())


def said(notebook) -> str:
    """All that the cells printed, on standard output."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


def pictures(notebook) -> int:
    return sum("image/png" in o.get("data", {}) for cell in notebook["cells"] for o in cell.get("outputs", []))


def test_there_are_four():
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("name", NAMES)
def test_calls_only_what_exists(name):
    tree = ast.parse("\n\n".join(code(jupytext.read(tiny.ROOT / "notebooks" / f"{name}.py"))))
    called = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "genseg":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}"), alias.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "genseg":
            called.append(node.attr)
            assert callable(getattr(genseg, node.attr))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "genseg.load_config":
            given = node.args[0]
            if isinstance(given, ast.Constant) and given.value != "mine.py":  # which the notebook writes
                genseg.load_config(given.value)
    assert called, "a notebook of genseg calls it"


@pytest.mark.parametrize("name", COPIES)
def test_the_executed_copy_is_of_the_present_text_and_small(name):
    stored = copy_of(name)
    source = jupytext.read(tiny.ROOT / "notebooks" / f"{name}.py")
    assert ["".join(cell["source"]) for cell in stored["cells"]] == [cell["source"] for cell in source["cells"]], (
        "run `make notebooks`"
    )
    assert (tiny.ROOT / "docs" / "notebooks" / f"{name}.ipynb").stat().st_size < LARGEST
    # A picture is one word of 100,000 letters, at each of which this pattern would begin anew.
    words = re.sub(r'"image/png": "[^"]*"', "", json.dumps(stored))
    assert said(stored) and not re.findall(r"[^\"\s]*/(?:tmp|home|root|work|opt|usr|Users)/[^\"\s]*", words)
    assert all(output["output_type"] != "error" for cell in stored["cells"] for output in cell.get("outputs", []))


@pytest.mark.parametrize("name", NAMES)
def test_installs_the_clone_that_it_lies_in_and_fetches_one_elsewhere(name, tmp_path, monkeypatch):
    cell = next(text for text in code(jupytext.read(tiny.ROOT / "notebooks" / f"{name}.py")) if "REPOSITORY" in text)
    started = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda words, check: started.append(words))
    monkeypatch.chdir(tiny.ROOT / "docs" / "notebooks")
    exec(cell, {})
    assert [words[-1] for words in started] == [str(tiny.ROOT)]
    monkeypatch.chdir(tmp_path)
    exec(cell, {})
    assert [words[-1] for words in started[1:]] == ["genseg-source", "./genseg-source"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # the suite's eight devices and its quick compilation are not a reader's
    notebook = execute.executed(tiny.ROOT / "notebooks" / f"{name}.py", tmp_path)
    check_outputs(name, notebook, tmp_path)


@pytest.mark.parametrize("name", COPIES)
def test_the_executed_copy_shows_what_it_promises(name):
    check_outputs(name, copy_of(name), None)


def check_outputs(name, notebook, folder):
    """What a reader is told to see. folder: where it ran, or None of a stored copy."""
    text = said(notebook)
    if name.startswith("01"):
        rows = {line.split("  ")[0]: re.findall(r"\d+\.\d", line) for line in text.splitlines()}
        fixed, permuted, turned = map(float, rows["CSP, 4 channels"])
        assert min(fixed, permuted, turned) > 20 and max(abs(fixed - permuted), abs(fixed - turned)) < 5  # chance: 12.5
        assert all(float(rows[run][0]) > 20 for run in ("CSP", "RGB, inflated", "from scratch"))  # mIoU of 5 classes
        assert pictures(notebook) == 2
    elif name.startswith("02"):
        assert float(re.search(r"(\d+\.\d) % of the scene's pixels", text)[1]) > 80
        rows = re.findall(r"^\d+ +(\w+) +(\d+\.\d+) .* yes$", text, re.MULTILINE)
        assert len(rows) == 5 and all(float(iou) > 50 for _, iou in rows)  # none is missed, as the text says
        assert "EPSG:32632" in text and "scene_polygons.gpkg" in text and pictures(notebook) == 3
        if folder:
            import rasterio

            with (
                rasterio.open(folder / "maps" / "scene_classes.tif") as made,
                rasterio.open(folder / "scene.tif") as scene,
            ):
                assert made.transform == scene.transform and made.crs == scene.crs and made.shape == scene.shape
    elif name.startswith("03"):
        same, total = map(int, re.search(r"(\d+) of (\d+) parameters are the same", text).groups())
        assert same == total > 100 and "UperNetForSemanticSegmentation" in text
    else:
        assert "memory of the step" in text and "FLOPs of the step" in text and "49,000 steps" in text
        assert "result.json" in text and "INCOMPLETE" in text
