"""What stands in a page's code blocks: commands for a shell, and Python."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

GENSEG = re.compile(r"(?:time )?(?:\S*python3? -m (genseg[\w.]*)|(genseg))(?: (.*)|$)")


class Block(NamedTuple):
    """kind: "shell", "python" or "text", which is none of both."""

    kind: str
    text: str


def blocks(page: str) -> list[Block]:
    """Code blocks of a Markdown page in order: fenced, by their language ("" is a shell), and indented, a shell's."""
    found: list[Block] = []
    lines, kind, margin, blank = [], "", 0, True

    def end() -> None:
        if text := "\n".join(line[margin:] for line in lines).strip("\n"):
            found.append(Block({"": "shell", "python": "python"}.get(kind, "text"), text))
        lines.clear()

    fenced = False
    for line in page.splitlines():
        mark = line.lstrip()
        if mark.startswith("```"):
            end()
            fenced, kind, margin = not fenced, "" if fenced else mark[3:].strip(), len(line) - len(mark)
            blank = True
        elif fenced or (lines and (not mark or line.startswith(" " * margin))):
            lines.append(line)
        elif blank and re.match(r" {4}\S| {7}\S", line) and not lines:
            margin, kind = len(line) - len(mark), ""
            lines.append(line)
        else:
            end()
        if not fenced:
            blank = not mark
    end()
    return found


def commands(shell: str) -> list[str]:
    """Lines of a shell's block, those that end in a backslash joined with the next; no blank ones and no comments."""
    joined = re.sub(r"\\\n\s*", "", shell)
    return [line for text in joined.splitlines() if (line := text.strip()) and not line.startswith("#")]


def words(text: str, variables: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """What bash makes of a command's arguments in `folder`: quotes, variables, ~, * and comments.

    variables: lines such as `FILES="--source DIR"` that stand before it."""
    script = "\n".join([*variables, f"printf '%s\\0' x {text}"])
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[1:-1]


def first_word(line: str) -> str:
    """The program of a command, behind settings of variables."""
    return next(word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word))
