"""Every command and every piece of Python on every page is run, in the page's order, on small drawn data.

A page's commands run in a folder of their own that looks like a clone, with HOME in it, and find their files where the page says
(`tests/pages/places.py`); networks, sizes and steps are cut down in one place (`tests/pages/small.py`, `server.py`). What is not
run stands in NOT_RUN, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny

from genseg.commands import COMMANDS
from genseg.config import load_file, refuse_unknown_key
from tests.bad import runner
from tests.pages import places, reading, small

PAGES = [tiny.ROOT / "README.md", tiny.ROOT / "CONTRIBUTING.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
SMALL_PYTHON = {  # as in `small`, for what a page's Python sets
    '"data.data_dir": "data"': '"data.data_dir": "data", '
    + ", ".join(f"{k!r}: {v!r}" for k, v in (small.BOTH | small.SEGMENT | small.DATA["demo_segmentation"]).items()),
    "crop=(512, 512), stride=(256, 256)": "crop=(32, 32), stride=(24, 24)",
}


# ---- what is not run as it stands, and why ----


def of_make(line: str, folder: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (tiny.ROOT / "Makefile").read_text(), re.MULTILINE)
    _, target, *settings = line.partition("#")[0].split()
    assert target in targets, f"make has no target {target}"
    for row in settings:
        assert (tiny.ROOT / "benchmarks" / "rows" / f"{row.removeprefix('ROW=')}.py").exists()


def of_pip(line: str, folder: Path) -> None:
    extras = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\[(\w+(?:,\w+)*)\]", line)
    assert all(extra in extras for names in named for extra in names.split(",")), line
    for file in re.findall(r"-c (\S+)", line):
        assert (tiny.ROOT / file).exists()


def of_launch(line: str, folder: Path) -> None:
    """With --dry-run, which prints every command and runs none."""
    line = line.replace("sbatch --nodes=4 ", "bash ").replace("IMAGE=...", "IMAGE=genseg:tpu")
    line = re.sub(r"(launch/\w+\.sh)(?! --dry-run)", r"\1 --dry-run", line)
    environment = os.environ | {"HOME": str(folder), "PYTHON": sys.executable}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, f"{line}: {done.stdout}{done.stderr}"


def nothing(line: str, folder: Path) -> None:
    pass


NOT_RUN: list[tuple[str, str, Callable[[str, Path], None]]] = [
    (r"make \w", "minutes, and this very suite; the target exists", of_make),
    (r"(\S+/)?pip install|python3 -m venv", "installs from the network; extras and files exist", of_pip),
    (r"\. \.venv/bin/activate", "there is no environment to enter", nothing),
    (r"gcloud|rsync", "another company's program, and a machine that is not there", nothing),
    (r"([A-Z]+=\S+ )*(sbatch --nodes=4 )?launch/\w+\.sh", "clusters and clouds; --dry-run is run", of_launch),
    (r"--config\.", "flags alone; their keys exist", lambda line, folder: flags_exist(line)),
    (r"python benchmarks/(pod_table|tpu_blocks).py", "compiles for TPUs, for minutes or hours", nothing),
]  # fmt: skip


PYTHON_NOT_RUN = {
    "timm.create_model": "needs torch: `make parity` loads such folders with timm and transformers",
    "hf_hub_download": "fetches from the network",
}


def flags_exist(line: str) -> None:
    for key in re.findall(r"--config\.([\w.]+)=", line):
        refuse_unknown_key(load_file("pretrain"), key)


# ---- what a page expects to be there ----


class Page(NamedTuple):
    """files: path -> what draws it there (called with the path); base: runs and prepared data that the page presupposes, by the
    name in the base; swaps: words of the page that stand for something of the reader's; before: Python of the page that its
    pieces take for granted."""

    files: dict[str, Callable[[Path], None]] = {}
    base: dict[str, str] = {}
    swaps: dict[str, str] = {}
    before: str = ""
    slow: bool = True


RUN = "--config=configs/small_segment.py:naip --config.data.source=TILES"
OWN = {
    "README.md": Page(
        {"DIR": places.photographs, "TILES": places.naip, "ARCHIVES": places.imagenet, "ir_seg_dataset": places.mfnet,
         "scene.tif": lambda path: places.geotiff(path, 0)},
        {"convnext_tiny.safetensors": "timm/model.safetensors"},
    ),
    "CONTRIBUTING.md": Page(slow=False),  # its Python: tests/test_contributing.py
    "api.md": Page({"scene.tif": lambda path: places.geotiff(path, 0)}, {"runs/csp": "csp"}),
    "architecture.md": Page(before="from genseg.keys import key, at_least", slow=False),
    "config.md": Page(slow=False),
    "datasets.md": Page(
        {"downloads/MFNet": places.mfnet, "ir_seg_dataset": places.mfnet, "iSAID": lambda path: places.made.isaid(path),
         "PST900_RGBT_Dataset": lambda path: places.made.pst900(path), "Potsdam": places.potsdam, "Vaihingen": places.vaihingen, "DFC2020": places.dfc2020, "tiles": places.naip,
         "scene.tif": lambda path: places.geotiff(path, 0), ".": lambda path: (places.pictures(path), places.rgb_and_thermal(path))},
        {"runs/imagenet-csp4": "csp", "runs/rgbt": "naip"}, before="TILES = {}",
    ),
    "evidence.md": Page({"DIR": places.photographs}, slow=False),
    "index.md": Page({"TILES": places.own, "mine.py": places.own_config, "scene.tif": lambda path: places.geotiff(path, 0)}),
    "losses.md": Page({"ir_seg_dataset": places.mfnet}, {"PREPARED": "prepared"}),
    "method.md": Page(
        {"DIR": places.photographs, "TILES": places.naip, "ARCHIVES": places.imagenet},
        {"WORKDIR": "naip", "OTHER": "naip", "convnext_tiny.safetensors": "timm/model.safetensors"},
        {"--config.data.data_dir=DATA": "--config.data.data_dir=DATA --config.data.source=ARCHIVES",
         "--config.init.checkpoint=runs/rgb": "--config.init.checkpoint=runs/rgb --config.init.head=False",  # drawn: 3 classes
         "--config=CONFIG": RUN, "--mode=seen --config=CONFIG --workdir=DIR": f"--mode=seen {RUN} --workdir=seen"},
    ),
    "models.md": Page(
        {"ir_seg_dataset": places.mfnet}, {"convnext_tiny.safetensors": "timm/model.safetensors", "runs/csp4": "csp", "runs/naip": "naip"}
    ),
    "own-rasters.md": Page({"TILES": places.own, "scene.tif": lambda path: places.geotiff(path, 0, classes=places.CLASSES)}, slow=False),
    "pods.md": Page({"ARCHIVES": places.imagenet}, {}, {
            "--config.data.data_dir=DATA": "--config.data.data_dir=DATA --config.data.source=ARCHIVES",
            "--mode=dry_run": "--mode=dry_run --config.data.data_dir=DATA --config.data.source=ARCHIVES",
        }),
    "predict.md": Page(
        {".": lambda path: (places.scenes(path), places.rgb_and_thermal(path))},
        {"runs/naip": "naip", "runs/rgbt": "naip", "DATA/naip": "prepared"},
    ),
    "pretraining-data.md": Page(
        {"ARCHIVES": places.imagenet, "tensorflow_datasets": places.imagenet},
        slow=False,
    ),
    "resume.md": Page(slow=False),
    "small-runs.md": Page({"DIR": places.photographs, "TILES": places.naip, "MFNET": places.small_mfnet}),
}  # fmt: skip


# ---- running ----


class Server:
    """`tests.pages.server`: runs commands of genseg in forks, with compiled programs kept for all pages."""

    def __init__(self, folder: Path):
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
        environment["PYTHONPATH"] = f"{tiny.ROOT}{os.pathsep}{tiny.ROOT / 'tests'}"
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")  # read when JAX is imported
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.pages.server"], cwd=tiny.ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def run(self, command: str, arguments: list[str], folder: Path) -> runner.Outcome:
        asked = dict(command=command, arguments=arguments, folder=str(folder), environment={"HOME": str(folder)})
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        done = runner.Outcome(**json.loads(self.process.stdout.readline()))
        print(f"{done.seconds:5.1f} s  {command} {' '.join(arguments)[:150]}")
        assert done.status == 0, f"{command} {' '.join(arguments)}\nended with {done.status}:\n{done.out}\n{done.err}"
        return done


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.process.stdin.close()
    started.process.wait(timeout=30)


@pytest.fixture(scope="module")
def base(server, tmp_path_factory):
    """Runs that pages presuppose: "csp" and "rgb" are pre-trained, "naip" is a segmenter on four bands."""
    root = tmp_path_factory.mktemp("base")
    places.photographs(root / "DIR")
    places.naip(root / "TILES")
    for name, words in (
        ("csp", ["--config=small_pretrain", "--config.data.source=DIR"]),
        ("rgb", ["--config=small_pretrain:objective=rgb,channels=3", "--config.data.source=DIR"]),
        ("naip", ["--config=small_segment:naip", "--config.data.source=TILES", "--config.data.data_dir=data"]),
    ):
        server.run(runner.MAIN, small.trained([*words, f"--workdir={name}"]), root)
    server.run(runner.EXCHANGE, ["export", "--checkpoint", "rgb", "--format", "timm", "--output", "timm"], root)
    (prepared,) = (root / "data").iterdir()
    prepared.rename(root / "prepared")
    return root


def laid_out(page: Page, folder: Path, base: Path | None) -> None:
    places.clone(folder)
    for name, draw in page.files.items():
        draw(folder / name)
    for name, source in page.base.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (base / source).is_dir() else shutil.copy)(base / source, folder / name)


def run_page(path: Path, page: Page, folder: Path, server: Server | None) -> int:
    """Runs what stands on a page and returns how many commands and pieces of Python were run."""
    environment = os.environ | {"HOME": str(folder)}
    variables, former, count = [], "", 0
    for block in reading.blocks(path.read_text()):
        if block.kind == "text" or (block.kind == "python" and path.name == "CONTRIBUTING.md"):
            continue
        if block.kind == "python":
            text = block.text
            for said, meant in SMALL_PYTHON.items():
                text = text.replace(said, meant)
            if named := re.match(r"# (\w+\.py)\n", text):
                (folder / named[1]).write_text(text)
            elif not any(word in text for word in PYTHON_NOT_RUN):
                server.run("snippet", ["-c", f"{page.before}\n{text}"], folder)
            count += 1
            continue
        for line in reading.commands(block.text):
            if line.startswith("..."):  # the last whole command, with other arguments
                line = f"{former} {line.removeprefix('...')}"
            else:
                former = line.partition("  #")[0]
            skipped = [check for pattern, _, check in NOT_RUN if re.match(pattern, line)]
            if skipped:
                skipped[0](line, folder)
            elif re.match(r'[A-Z]+="', line):
                variables.append(line)
            else:
                run_line(line, page, variables, folder, environment, server)
            count += 1
    return count


def run_line(line: str, page: Page, variables: list[str], folder: Path, environment: dict, server: Server) -> None:
    line = re.sub(r"\[(--[^\]]*?)(?: \.\.\.)?\]", r"\1", line)  # what may be left out is given
    for said, meant in sorted(page.swaps.items(), key=lambda pair: -len(pair[0])):
        line = line.replace(said, meant)
    if match := re.match(r"(?:[A-Z_]+=\S+ )*python (benchmarks/\w+\.py) ?(.*)", line):
        words = reading.words(match[2], variables, folder, environment)
        server.run("snippet", [str(tiny.ROOT / match[1]), *BENCHMARKS.get(match[1], lambda w: w)(words)], folder)
        return
    match = reading.GENSEG.match(line)
    assert match, f"'{line}' is no command that this test knows: run it, list it in NOT_RUN, or mark its block as text"
    words = reading.words(match[3] or "", variables, folder, environment)
    command = next((key for key, module in runner.MODULES.items() if module.removesuffix(".__main__") == match[1]), "")
    if match[2] and words[0] in COMMANDS:
        first, *words = words
        module = COMMANDS[first].module
        command = next(key for key, name in runner.MODULES.items() if name.removesuffix(".__main__") == module)
        words = [*COMMANDS[first].first, *words]
    elif match[2]:
        command = runner.GENSEG
    assert command, f"'{line}' names no command of genseg"
    shorter = {runner.MAIN: small.trained, runner.PREPARE: small.prepared, runner.SHOW: small.prepared}
    if command == runner.STUDY and "--report" not in words:  # hours
        words = [word for word in words if word != "--list"] + ["--list"]
    server.run(command, shorter.get(command, lambda w: w)(words), folder)


BENCHMARKS: dict[str, Callable[[list[str]], list[str]]] = {
    "benchmarks/losses.py": lambda words: [*words, "--size=32", "--repeats=1"],
    "benchmarks/pod_floor.py": lambda words: [*words, "--backbones", "convnext_tiny"],
}


def has_commands(path: Path) -> bool:
    return any(block.kind != "text" for block in reading.blocks(path.read_text()))


def cases():
    for path in filter(has_commands, PAGES):
        marks = [pytest.mark.slow] if OWN.get(path.name, Page()).slow else []
        yield pytest.param(path, marks=marks, id=path.name)


def test_every_page_with_commands_is_known():
    assert {path.name for path in PAGES if has_commands(path)} == set(OWN)


@pytest.mark.parametrize("path", cases())
def test_what_a_page_says_runs(path, tmp_path, request, monkeypatch):
    page = OWN[path.name]
    monkeypatch.chdir(tmp_path)
    server = request.getfixturevalue("server")
    laid_out(page, tmp_path, request.getfixturevalue("base") if page.base else None)
    assert run_page(path, page, tmp_path, server) > 0
