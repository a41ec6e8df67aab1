"""Imports run downwards only, and start-up stays light."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"errors"},
    {"cli", "memory"},
    {"outputs"},
    {"texts", "arrays"},
    {"processes"},
    {"tree", "partition", "compiling", "config", "keys", "borders", "freezing", "draws"},
    {"nets", "data"},
    {"recipes"},
    {"csp", "bands", "mixing", "losses", "metrics", "border_scores", "optim", "windows", "plan"},
    {"tasks", "state", "transfer", "inputs", "scene_borders"},
    {"checkpoints", "report"},
    {"evaluate", "predict", "exchange"},
    {"step"},
    {"design"},
    {"start", "validation", "watch"},
    {"train"},
    {"dry_run", "robustness"},
    {"api"},
    {"study", "band_use", "seen"},
    {"score"},
    {"main"},
    {"demo"},
    {"commands"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# Within genseg/data: its rooms and the modules beside them. "DATASETS" is what its __init__ holds.
DATA_FLOORS = [
    {"card", "palette"},
    {"compare_cards", "doubts"},
    {"files", "augment"},
    {"records"},
    {"sets", "batches"},
    {"DATASETS"},
    {"prepare"},
    {"show"},
]
DATA_FLOOR = {name: number for number, names in enumerate(DATA_FLOORS) for name in names}


# A command that nothing imports may stand in a room whose modules lie below what it needs.
COMMANDS = {"data/show.py": "score"}


def imported(path: Path, package: str = "genseg") -> set[str]:
    """Modules and rooms right below `package` that a file imports, anywhere in it."""
    found = set()
    depth = package.count(".") + 1
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[depth] for a in node.names if a.name.startswith(f"{package}.")}
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            found.add(node.module.split(".")[depth])
    return found


def modules() -> list[Path]:
    return [p for p in sorted((ROOT / "genseg").rglob("*.py")) if p.name != "__init__.py" or p.parent.name != "genseg"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    place = path.relative_to(ROOT / "genseg")
    own = COMMANDS.get(str(place), place.parts[0].removesuffix(".py"))
    assert own in FLOOR, f"give {own} a floor"
    for name in imported(path) - {own, place.parts[0]}:
        assert FLOOR[name] < FLOOR[own], f"{own} -> {name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_imports_a_command_that_stands_below_what_it_needs(command):
    module = "genseg." + command.removesuffix(".py").replace("/", ".")
    package, _, name = module.rpartition(".")
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module != module and not (
                    node.module == package and name in {a.name for a in node.names}
                ), path
            elif isinstance(node, ast.Import):
                assert module not in {a.name for a in node.names}, path


DATA_MODULES = [
    p for p in modules() if p.is_relative_to(ROOT / "genseg/data") and p != ROOT / "genseg/data/__init__.py"
]


@pytest.mark.parametrize("path", DATA_MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_within_the_data_rooms_run_downwards(path):
    own = path.relative_to(ROOT / "genseg/data").parts[0].removesuffix(".py")
    assert own in DATA_FLOOR, f"give {own} a floor"
    for name in imported(path, "genseg.data") - {own}:
        assert DATA_FLOOR[name] < DATA_FLOOR[own], f"{own} -> {name}"


def test_configs_are_plain_data():
    """They import ml_collections, the definitions of the keys and the reading of the options behind their colon."""
    allowed = {"ml_collections", "genseg.config", "genseg.errors", "genseg.recipes"}
    for path in (ROOT / "configs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module in allowed, path
            assert not isinstance(node, ast.Import), path


def test_configs_load_without_jax():
    """A mistyped flag is answered at once, and --topology sets the environment before JAX is imported."""
    script = "import sys, genseg.main, genseg.recipes\nassert not {'jax', 'grain', 'rasterio', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_training_needs_none_of_the_heavy_packages():
    script = (
        "import sys\n"
        "import genseg.train\n"
        "heavy = {'tensorflow', 'rasterio', 'pyogrio', 'shapely', 'torch', 'onnx', 'matplotlib', 'tensorboardX'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.parametrize("module", ["commands", "main", "predict", "data.prepare", "data.show"])
def test_help_waits_for_nothing_that_takes_seconds(module):
    command = [sys.executable, "-X", "importtime", "-m", f"genseg.{module}", "--help"]
    ran = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in ran.stderr.splitlines() if line.startswith("import time")}
    assert "argparse" in imported or "absl.flags" in imported or module == "commands"
    assert not {"jax", "grain", "flax", "orbax.checkpoint", "rasterio", "matplotlib"} & imported
    assert f"genseg.{module}".split(".")[-1] in ran.stdout or "usage" in ran.stdout


def test_no_default_at_the_place_of_use():
    for path in modules():
        assert "config.get(" not in path.read_text(), path


def test_texts_are_utf8_wherever_genseg_runs():
    """Left out, the encoding is that of the machine's locale: names of classes would come back as others."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            said = isinstance(node, ast.Call) and any(k.arg == "encoding" for k in node.keywords)
            assert said or name not in ("read_text", "write_text"), f"{path}:{node.lineno}"


def test_files_are_short():
    """One subject a file. Those that are tables of names aside."""
    tables = {"imagenet_classes.py", "published_names.py", "names.py"}
    files = [p for p in (*modules(), *(ROOT / "configs").glob("*.py")) if p.name not in tables]
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert statistics.median(lines.values()) <= 150
    assert not {name: count for name, count in lines.items() if count > 400}


def test_nothing_is_said_twice():
    """No two places of genseg/ and configs/ share more than 12 equal lines of code or comment."""
    seen: dict[tuple[str, ...], str] = {}
    for path in (*modules(), *sorted((ROOT / "configs").glob("*.py"))):
        lines = [line.strip() for line in path.read_text().splitlines()]
        lines = [line for line in lines if line]
        for first in range(len(lines) - 12):
            run, place = tuple(lines[first : first + 13]), f"{path.relative_to(ROOT)}: {lines[first]}"
            assert seen.setdefault(run, place) == place, (seen[run], place)
