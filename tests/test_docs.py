"""Pages: every command names a module, flags, a config file and keys that there are; the site builds without a warning."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import tiny

from genseg import commands
from genseg.config import load_file, refuse_unknown_key

PAGES = [tiny.ROOT / "README.md", tiny.ROOT / "CONTRIBUTING.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
START = re.compile(r"(?:\S*python3? -m (genseg[\w.]*)|genseg) (.*)")


def code_lines(text):
    """Lines of code blocks, fenced or indented by four; those that end in a backslash joined with the next."""
    code, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            code.append(line)
    joined = re.sub(r"\\\n\s*", "", "\n".join(code))
    return [line.strip() for line in joined.splitlines()]


def said(line):
    """(module, arguments) of a command of genseg in a line, else None."""
    match = START.match(line)
    if not match:
        return None
    words = shlex.split(match[2], comments=True)
    if match[1]:
        return match[1], words
    if words[0].startswith("--"):
        return "genseg.commands", words
    command = commands.COMMANDS.get(words[0], commands.Command(f"genseg.{words[0]}", "unknown"))
    return command.module, words[1:]


def own_config(folder):
    """The config file that docs/own-rasters.md tells its reader to write."""
    text = re.search(r"```python\n# mine.py\n(.*?)```", (tiny.ROOT / "docs" / "own-rasters.md").read_text(), re.DOTALL)[
        1
    ]
    (folder / "mine.py").write_text(text)
    return folder / "mine.py"


FOUND = [
    pytest.param(*command, line, id=f"{page.name}: {line[:60]}")
    for page in PAGES
    for line in code_lines(page.read_text())
    if (command := said(line)) and "..." not in line
]


def test_commands_are_found():
    """The reading of pages above sees what a reader sees."""
    assert len(FOUND) > 30


@pytest.mark.parametrize(("module", "words", "line"), FOUND)
def test_command(module, words, line, tmp_path):
    place = commands._place(module)
    assert place, f"no module {module}"
    if module != "genseg.main":
        path = tiny.ROOT / f"{place.replace('.', '/')}.py"
        rooms = path.parent.glob("*.py") if path.name == "__main__.py" else [path]
        source = "".join(file.read_text() for file in rooms)
        if (path.parent / "command.py").exists():  # its inference options are those of predict
            source += (tiny.ROOT / "genseg/predict/command.py").read_text()
        if module in ("genseg.data.prepare", "genseg.data.show") and words and words[0].isidentifier():
            source += importlib.import_module("genseg.data").DATASETS[words[0]].__doc__
            source += "".join(importlib.import_module("genseg.data").DATASETS[words[0]].__dataclass_fields__)
        for word in words:
            if word.startswith("--"):
                flag = word[2:].split("=")[0].removeprefix("no-")
                assert flag in source or flag.replace("-", "_") in source, f"{module} has no --{flag}"
        return
    given = {w[2:].split("=")[0]: w.partition("=")[2] for w in words if w.startswith("--")}
    flags = {"config", "workdir", "mode", "topology", "checkpoint", "permutations"}
    assert all(flag in flags or flag.startswith("config.") for flag in given), given
    if given.get("config", "CONFIG") == "CONFIG":  # $CONFIG, or whichever the reader has
        return
    config = load_file(str(own_config(tmp_path)) if given["config"] == "mine.py" else given["config"])
    for flag in given:
        if flag.startswith("config."):
            refuse_unknown_key(config, flag.removeprefix("config."))


def test_the_reference_has_every_key():
    """The committed page holds the present definitions, where a clone or a forge shows it."""
    script = "import sys; sys.path.insert(0, 'docs'); import hooks; print(hooks.config_page(), end='')"
    done = subprocess.run([sys.executable, "-c", script], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    page = (tiny.ROOT / "docs" / "config.md").read_text()
    for key in ("optim.learning_rate", "csp.channels", "eval.stride", "data.image_pattern", "loss.smoothing"):
        assert f"`{key}`" in page
    assert page == done.stdout, "docs/config.md is not of the present keys: run `python docs/hooks.py`"


def test_the_table_of_dependencies_is_what_processes_import():
    """Every dependency and extra is named, and "at start" is what `genseg train --help` has to wait for."""
    project = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())["project"]
    page = (tiny.ROOT / "docs" / "dependencies.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| .* \| ([^|]+) \|$", page, re.MULTILINE))
    named = {re.split(r"[<>=;]", line)[0].strip() for line in project["dependencies"]}
    assert named == set(rows) - {"package", "extra", "---"}
    assert set(project["optional-dependencies"]) == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "tensorboardX": "tensorboardX"}
    script = "import sys, genseg; assert len([m for m in sys.modules if m.startswith('genseg')]) == 1\nimport genseg.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    for name, when in rows.items():
        module = modules.get(name, name.replace("-checkpoint", "").replace("-", "_"))
        assert name not in named or (module in loaded) == (when == "at start"), name


def test_errors_on_the_page_are_those_of_the_code():
    """The texts in the first column, but for what "..." stands for, are in genseg's strings."""
    texts = []
    for path in (tiny.ROOT / "genseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    rows = re.findall(r"^\| `([^`]+)`", (tiny.ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        parts = [part.strip() for part in row.replace(".data.split_lists.train", "...").split("...")]
        assert all(any(part in text for text in texts) for part in parts), row


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "config" / "index.html").read_text()
    assert "optim.layer_decay" in page and "weight of the auxiliary head" in page
