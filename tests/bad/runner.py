"""Runs a command of genseg in a fork of a process that has loaded all of it: a bad input costs milliseconds.

The process that forks has started no backend of JAX and no threads; each fork has limits of time and memory of its own.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

SECONDS, BYTES = 90, 3 << 30
MAIN, PREPARE, SHOW, PREDICT, EXCHANGE = "main", "prepare", "show", "predict", "exchange"
SCORE, STUDY, REPORT, DEMO, GENSEG = "score", "study", "report", "demo", "genseg"


MODULES = {
    MAIN: "genseg.main", PREPARE: "genseg.data.prepare", SHOW: "genseg.data.show", PREDICT: "genseg.predict",
    EXCHANGE: "genseg.exchange.__main__", SCORE: "genseg.score.__main__", STUDY: "genseg.study.__main__",
    REPORT: "genseg.report.__main__", DEMO: "genseg.demo", GENSEG: "genseg.commands",
}  # fmt: skip


def load() -> None:
    """Imports whatever the commands import, before the first fork."""
    for module in (
        *MODULES.values(),
        "genseg.dry_run.run",
        "genseg.robustness",
        "genseg.band_use",
        "genseg.score.command",
        "genseg.predict.command",
        "genseg.study.report",
    ):
        importlib.import_module(module)


def entry(command: str) -> Callable[[list[str]], int]:
    """arguments -> exit status."""
    module = importlib.import_module(MODULES[command])
    return module.main if command != MAIN else lambda arguments: module.run(["genseg", *arguments])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """status: the exit status, negative for a signal. peak: bytes of memory."""

    status: int
    out: str
    err: str
    seconds: float
    peak: int


def run(
    command: str, arguments: list[str], folder: Path, environment: dict[str, str], *, seconds: int = SECONDS,
    memory: int = BYTES, largest: int = 0,
) -> Outcome:  # fmt: skip
    """`python -m genseg.COMMAND ARGUMENTS` in `folder`; its output goes through files, so that no pipe can fill up."""
    texts = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
    began = time.monotonic()
    child = os.fork()
    if not child:
        status = 70
        try:
            status = _inside(command, arguments, folder, environment, texts, seconds, memory, largest)
        finally:
            os._exit(status)
    _, ended, usage = os.wait4(child, 0)
    out, err = (path.read_text(errors="replace") for path in texts)
    return Outcome(os.waitstatus_to_exitcode(ended), out, err, time.monotonic() - began, usage.ru_maxrss << 10)


def _inside(command, arguments, folder, environment, texts, seconds, memory, largest) -> int:
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    for number, path in enumerate(texts, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w", encoding=environment.get("PYTHONIOENCODING", "utf-8"), closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    os.chdir(folder)
    sys.argv = ["genseg", *arguments]  # ml_collections looks there for what is overridden
    for name, value in environment.items():
        os.environ[name] = value
        if value is None:
            del os.environ[name]
    status = 0
    try:
        status = entry(command)(list(arguments)) or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content: what a command must leave alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"
        elif path.is_file() and path.stat().st_size > 1 << 30:  # says so; nothing of it is on the disk
            found[str(path)] = str(path.stat().st_size)
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def changes(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its size and the time it was written: `fingerprint` of what is large."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not path.is_dir():
            found[str(path)] = f"{status.st_size} {status.st_mtime_ns}"
    return found
