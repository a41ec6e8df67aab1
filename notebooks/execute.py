"""`make notebooks`: runs the notebooks from top to bottom and writes them with their outputs to docs/notebooks/.

python notebooks/execute.py [NAME ...]        such as 02_own_rasters; all of them without a name
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat
from PIL import Image

COLOURS = 96
SLOW_COMPILE = re.compile(r"[^\n]*slow_operation_alarm[^\n]*\n+\*+\n[^\n]*\n\*+\n")
NO_WIDGETS = re.compile(r"[^\n]*TqdmWarning: IProgress not found[^\n]*\n[^\n]*\n")
HERE = Path(__file__).parent
SOURCES = sorted(p for p in HERE.glob("[0-9]*.py"))


def executed(source: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells, run in `folder`; raises CellExecutionError where one fails."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem}-{number}"  # the same from run to run
    python_path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": python_path}
    client = nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                tidy(output, folder)
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Each stream's pieces as one, in the place of its first; a log line is a piece of its own to Jupyter."""
    streams: dict[str, nbformat.NotebookNode] = {}
    kept = []
    for output in outputs:
        if output.output_type == "stream" and output.name in streams:
            streams[output.name].text += output.text
            continue
        if output.output_type == "stream":
            streams[output.name] = output
        kept.append(output)
    return kept


def tidy(output: nbformat.NotebookNode, folder: Path) -> None:
    """Pictures of few colours, rare ones kept, which are a third of the size; no paths of this machine and no letters of control."""
    if png := output.get("data", {}).get("image/png"):
        with io.BytesIO() as small:
            picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
            picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                small, "PNG", optimize=True
            )
            output["data"] = nbformat.from_dict({"image/png": base64.b64encode(small.getvalue()).decode()})
    if "text" in output:
        text = re.sub(r"\x1b\[[0-9;]*m", "", output["text"].replace(str(folder), "."))
        text = NO_WIDGETS.sub("", SLOW_COMPILE.sub("", text))  # of a busy machine; of one without ipywidgets
        text = re.sub(r"/tmp/ipykernel_\d+/\d+\.py", "cell", text)
        output["text"] = "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))


def main(names: list[str]) -> int:
    unknown = set(names) - {p.stem for p in SOURCES}
    if unknown:
        print(f"error: no notebook {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in SOURCES)}")
        return 2
    for source in SOURCES:
        if not names or source.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                notebook = executed(source, Path(folder))
            target = HERE.parent / "docs" / "notebooks" / f"{source.stem}.ipynb"
            nbformat.write(notebook, target)
            print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
