"""The notebooks' code runs from the first cell to the last, and their outputs are not committed."""

import json
import os
import subprocess
import sys

import pytest
import tiny

NOTEBOOKS = sorted((tiny.ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_no_outputs_and_python_that_compiles(path):
    for cell in code_cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_runs_from_top_to_bottom(path, tmp_path):
    text = "\n\n".join("".join(cell["source"]) for cell in code_cells(path))
    assert "\nQUICK = False" in text
    script = tmp_path / "notebook.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(tiny.ROOT)!r})\n" + text.replace("QUICK = False", "QUICK = True", 1)
    )
    one_device = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=one_device, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "quickstart" / "mine" / "result.json").read_text())["step"] == 2
