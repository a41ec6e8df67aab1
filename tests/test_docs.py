"""Pages: every command names a module, flags, a config file and keys that there are; the site builds without a warning."""

import importlib
import os
import re
import shlex
import subprocess
import sys

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
def test_command(module, words, line):
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
    config = load_file(given["config"])
    for flag in given:
        if flag.startswith("config."):
            refuse_unknown_key(config, flag.removeprefix("config."))


def test_the_reference_has_every_key():
    script = "import sys; sys.path.insert(0, 'docs'); import hooks; print(hooks.reference(), hooks.data_reference())"
    done = subprocess.run([sys.executable, "-c", script], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    for key in ("optim.learning_rate", "csp.channels", "eval.stride", "data.image_pattern", "loss.smoothing"):
        assert f"`{key}`" in done.stdout


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "config" / "index.html").read_text()
    assert "optim.layer_decay" in page and "weight of the auxiliary head" in page
