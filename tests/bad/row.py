"""What a row of the table is, and ways to make and to damage files."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DONE, MISTAKE, AGAIN = 0, 2, 75


def nothing(folder: Path, base: Path) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Row:
    """One bad input. arguments: with {base} for the folder of sound things and {here} for the row's own; make: called
    with (here, base) before; status and sentence (any part of the last line): what must come of it; slow: compiles a
    network; own: what the command may change of what was there before."""

    name: str
    command: str
    arguments: tuple[str, ...]
    sentence: str
    make: Callable[[Path, Path], None] = nothing
    status: int = MISTAKE
    environment: tuple[tuple[str, str], ...] = ()
    slow: bool = False
    own: tuple[str, ...] = ()
    largest: int = 0  # bytes of a file that can be written, as on a disk that is nearly full; 0: any


def config(name: str) -> str:
    return f"--config={CONFIGS / name}"


def write(name: str, content: str | bytes) -> Callable[[Path, Path], None]:
    def make(here, base):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def special(kind: str) -> Callable[[Path], None]:
    """Makes something that is no file of bytes."""

    def make(path: Path) -> None:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path is short
            socket.socket(socket.AF_UNIX).bind(path.name)
            os.chdir(here)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "dangling link":
            path.symlink_to("nowhere")
        elif kind == "circle of links":
            path.symlink_to(path.name)

    return make


SPECIAL = ("pipe", "socket", "device", "folder", "dangling link", "circle of links")


def copied(what: str, change: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """A copy of a sound folder of the base, changed."""

    def make(here, base):
        shutil.copytree(base / what, here / what, symlinks=True)
        change(here / what)

    return make


def replaced(name: str, content: Callable[[Path], None] | bytes | None) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        if path.exists() or path.is_symlink():
            path.unlink()
        if callable(content):
            content(path)
        elif content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return change


def picture(array: np.ndarray, **options) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(array).save(path, **options)


def tiff(array: np.ndarray, **options) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **options)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(seed: int):
    """Four bits of a file, anywhere."""

    def change(path) -> None:
        data, rng = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(4):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))

    return change


WAYS = {
    "deleted": lambda path: path.unlink(), "empty": lambda path: path.write_bytes(b""), "cut": cut,
    "text": lambda path: path.write_bytes(b"hello"), "null": lambda path: path.write_bytes(b"null"),
    "a list": lambda path: path.write_bytes(b"[]"), "a number": lambda path: path.write_bytes(b"5"),
    "an empty mapping": lambda path: path.write_bytes(b"{}"), "latin-1": lambda path: path.write_bytes(b'{"a": "\xe9"}'),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()), "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    **{f"flipped {seed}": flipped(seed) for seed in range(3)},
}  # fmt: skip


def damaged(what: str, pattern: str, way):
    """A copy of base/WHAT in which the first file that matches is damaged."""

    def change(root) -> None:
        way(sorted(p for p in root.rglob(pattern) if p.is_file())[0])

    return copied(what, change)
