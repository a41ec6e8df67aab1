"""Where a command writes: never onto its inputs, nor onto what it did not make, and whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from genseg.errors import UserError

MARK = "genseg"
"""Stands in the files that commands write, as the software that made them: only these are written over."""
_HEAD = 1 << 16  # bytes in which the mark is looked for


def given(text: str, what: str, below: Path | None = None) -> Path:
    """A path that a user has given, on a command line, in a config or in a list: every one goes through here.

    "~" and "~name" are home directories, as in a shell; shells themselves leave those in "--out=~/maps" as they are. below: the
    folder that the path is relative to (default: the current one). Raises UserError, naming `what`, for an empty path, and for a
    home directory that there is not.
    """
    if not text.strip():
        raise UserError(f"{what} is empty; give a path ('.' is the current folder)")
    if "\0" in text:
        raise UserError(f"{what} holds a null byte; give a path without")
    as_written = Path(text) if below is None else below / text
    if not text.startswith("~") or (
        text.split("/")[0] != "~" and os.path.lexists(as_written)
    ):  # "~$scene.tif" is a name too
        return as_written
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{what} is {text}: there is no such home directory; write the whole path") from None


def cache_dir() -> Path:
    """The user's cache folder, shared by all runs: compiled programs, and data whose config.data.data_dir is ""."""
    return given(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "genseg"


def regular(path: Path, what: str) -> Path:
    """Raises UserError unless `path` is a file of bytes: a pipe or a device would be waited for, or read without end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"There is no {what} at {path}: give one that exists.") from None
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read ({error.strerror}): give another one.") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise UserError(f"The {what} {path} is {kind}: give a file.")
    return path


@contextlib.contextmanager
def undamaged(path: Path, mend: str) -> Iterator[None]:
    """Around the reading of a file that genseg wrote: whatever a parser says of bytes that it did not expect becomes a
    UserError that names the file and the mend."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of the file, not of what is in it
            raise
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged ({type(error).__name__}: {reason}); {mend}") from None


def claim(
    outputs: Iterable[Path], inputs: Iterable[Path] = (), *, unmarked: Iterable[Path] = (), sign: Path | None = None
) -> None:
    """Raises UserError if one of `outputs` is one of `inputs`, or a file that no command of genseg has made.

    Called before anything is computed: nothing is found out at the end of an hour's work. Half-made files of killed processes
    beside the outputs are removed. unmarked: outputs in formats without a place for the mark near their beginning; they are
    genseg's if `sign`, one of the others, is there.
    """
    unmarked, outputs = list(unmarked), list(outputs)
    for folder in {path.parent for path in (*outputs, *unmarked)}:
        clear_abandoned(folder)
    read = {_identity(path): path for path in inputs}
    for path in (*outputs, *unmarked):
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link to nothing; remove it, or give another place to write to")
        if not path.exists():
            continue
        if _identity(path) in read:
            raise UserError(f"{path} would be written over {read[_identity(path)]}, which is read; write elsewhere")
        if path.is_dir():
            raise UserError(f"{path} is a folder, and a file of this name is to be written; move it away")
        if not (sign is not None and sign.exists() if path in unmarked else made_here(path)):
            raise UserError(f"{path} exists and was not made by genseg; move it away, or write elsewhere")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def made_here(path: Path) -> bool:
    """Whether a file carries the mark."""
    regular(path, "file")
    with path.open("rb") as file:
        return MARK.encode() in file.read(_HEAD)


def partial(path: Path) -> Path:
    """Where what becomes `path` is made: beside it and hidden, in a name that says by which process of which machine."""
    name = path.name
    if len(os.fsencode(name)) > 200:  # names have at most 255 bytes
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    return path.with_name(f".partial-{name}-{_machine()}-{os.getpid()}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when that has gone well, and is removed
    otherwise. Whoever reads `path` sees the old file or the new one, never half of it."""
    temporary = partial(path)
    temporary.unlink(missing_ok=True)  # a link to somewhere
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # of a disk that is full, say: the system does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(final: Path, whole: str = "") -> Iterator[Path]:
    """A hidden folder to fill, which becomes `final` at the end and is removed if anything fails.

    whole: a file that is in `final` where another process has finished the same work meanwhile, which then stands.
    Raises: UserError if the parent of `final` cannot be written to.
    """
    clear_abandoned(final.parent)
    temporary = partial(final)
    try:
        try:  # within what removes it: Control-C may come at once
            temporary.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"Cannot write to {final.parent} ({error.strerror}): choose another folder.") from None
        yield temporary
        try:
            temporary.rename(final)
        except OSError:
            if not (whole and (final / whole).is_file()):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_abandoned(folder: Path) -> None:
    """Removes what processes of this machine that were killed have left half made in a folder."""
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        match = re.fullmatch(r"\.partial-.*-([0-9a-f]{8})-(\d+)(?:[.-][a-z.]+)?", path.name)
        if match is None or match[1] != _machine() or int(match[2]) == os.getpid():
            continue
        try:
            os.kill(int(match[2]), 0)
        except ProcessLookupError:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except (PermissionError, OverflowError):
            continue  # it lives, and is somebody else's


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
