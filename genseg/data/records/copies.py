"""Which prepared copy of a data set was made from files as they lie now.

A copy's folder is named by a fingerprint: options, names and sizes. Beside the records it keeps, of each source file, its times
and a digest of its bytes. A file whose times are still the same is the same; one whose times differ, because the data set was
copied or moved, or because it was edited, is read again and its digest decides. So an edit that keeps a file's size is noticed,
and a moved data set is read once and not prepared anew.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import hashlib
import json
import logging
import operator
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from genseg import outputs, texts
from genseg.data.files import downloads
from genseg.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = 2  # of the stored records; part of every fingerprint
UNCOUNTED = ("source", "allow_incomplete")  # options that records do not depend on, beyond the files that are there
_FILES = "files.json"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """text: 8 hex digits over options, names and sizes. files: those whose bytes decide the records, in a fixed order."""

    text: str
    files: tuple[Path, ...] = dataclasses.field(default=(), compare=False)

    def __str__(self) -> str:
        return self.text


def fingerprint(
    options: Any,
    root: Path | None = None,
    files: Iterable[Path] = (),
    version: int = 1,
    listed: Iterable[tuple[str, int]] = (),
) -> Fingerprint:
    """Over what decides the records: the options (a dataclass; those in UNCOUNTED do not count, so that a folder may move),
    the names below root and the sizes of the files, what is `listed`, and the version of the code that makes the records.

    files: also those whose contents are looked at where their times have changed. Without a root their names do not count
    (they are then told by `listed`).
    """
    fields = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in UNCOUNTED}
    digest = hashlib.sha256(f"{FORMAT} {version} {type(options).__name__} {fields!r}\n".encode())
    watched = tuple(dict.fromkeys(files))
    for path in watched if root is not None else ():
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
    for name, size in listed:
        digest.update(f"{name} {size}\n".encode())
    return Fingerprint(digest.hexdigest()[:8], watched)


def fingerprint_of_downloads(
    options: Any, files: Iterable[downloads.File], name: Callable[[downloads.File], str] = operator.attrgetter("path")
) -> Fingerprint:
    """`fingerprint` of files of `downloads.listing`, loose or in archives. name: what of a file counts beside its size."""
    used = list(files)
    return fingerprint(options, files=[f.place for f in used], listed=[(name(f), f.size) for f in used])


@dataclasses.dataclass(frozen=True)
class Seen:
    """times: of the last change of a file's contents and of its entry, ns. digest: of its bytes, "" if not taken yet."""

    times: tuple[int, int]
    digest: str = ""


def look(files: Sequence[Path]) -> list[Seen]:
    """The files' times, before anything is read of them."""
    return [Seen(_times(path)) for path in files]


def digested(files: Sequence[Path], seen: Sequence[Seen], threads: int) -> list[Seen]:
    """With the digests of all. Raises: UserError for a file that has changed since it was looked at."""

    def one(path: Path, before: Seen) -> Seen:
        digest = _digest(path)
        if _times(path) != before.times:
            raise UserError(f"{path} was changed while it was prepared: start again when it is complete.")
        return Seen(before.times, digest)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, files, seen))


def keep(folder: Path, files: Sequence[Path], seen: Sequence[Seen]) -> None:
    """Stores what is known of the files in a copy's folder."""
    rows = [[path.name, *one.times, one.digest] for path, one in zip(files, seen, strict=True)]
    with outputs.replacing(folder / _FILES) as temporary:
        temporary.write_text(texts.as_json(rows), encoding="utf-8")


def contents(folder: Path) -> str:
    """32 hex digits over the bytes of all files that a copy was made from, wherever they lie; "" where that is not known: of
    a copy without a list of files, and of files that were not looked at, such as remote ones."""
    path = folder / _FILES
    if not path.is_file():
        return ""
    with outputs.undamaged(path, f"remove {folder} and prepare the data again"):
        rows = [(str(name), str(digest)) for name, _, _, digest in json.loads(texts.read(path, "list of files"))]
    return hashlib.blake2b(texts.as_json(rows).encode(), digest_size=16).hexdigest() if rows else ""


def fitting(data_dir: Path, name: str, mark: Fingerprint, threads: int) -> tuple[Path | None, Path]:
    """The copy that was made from the files as they are now, or None; and the folder for another one."""
    stem, changed = f"{name}-{mark}", None
    present = [p for p in data_dir.glob(f"{stem}*") if re.fullmatch(r"(-\d+)?", p.name[len(stem) :])]
    made = sorted((p for p in present if (p / "card.json").is_file()), key=_number)
    for folder in reversed(made):  # the newest first
        changed = _first_changed(folder, mark.files, threads)
        if changed is None:
            logger.info("%s: the copy of %s, %s", name, made_on(folder), folder)
            return folder, folder
    if not made:
        return None, data_dir / stem
    logger.warning(
        "%s has changed since %s was prepared (%s): prepared anew beside it", changed, made[-1], made_on(made[-1])
    )
    return None, data_dir / f"{stem}-{_number(made[-1]) + 1}"


def made_on(folder: Path) -> str:
    """When a copy was prepared, as people write it."""
    return datetime.datetime.fromtimestamp((folder / "card.json").stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def _number(folder: Path) -> int:
    found = re.search(r"-[0-9a-f]{8}-(\d+)$", folder.name)
    return int(found[1]) if found else 1


def _first_changed(folder: Path, files: Sequence[Path], threads: int) -> Path | None:
    """The first file whose bytes are others than when a copy was made; None if all are the same. New times of files that are
    the same are stored."""
    known = _known(folder, len(files))
    if known is None:
        logger.info("%s was prepared by an earlier version of genseg, which did not note the files' times", folder)
        return None
    now = look(files)
    doubted = [i for i, (old, new) in enumerate(zip(known, now, strict=True)) if old.times != new.times]
    if not doubted:
        return None
    logger.info(
        "%d of %d files of %s have other times: their contents are compared", len(doubted), len(files), folder.name
    )
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for i, digest in zip(doubted, pool.map(_digest, [files[i] for i in doubted]), strict=True):
            if digest != known[i].digest:
                pool.shutdown(cancel_futures=True)
                return files[i]
            now[i] = Seen(now[i].times, digest)
    current = [new if new.digest else old for old, new in zip(known, now, strict=True)]
    with contextlib.suppress(OSError):  # a folder that may not be written to: compared again next time
        keep(folder, files, current)
    return None


def _known(folder: Path, count: int) -> list[Seen] | None:
    path = folder / _FILES
    if not path.is_file():
        return None
    with outputs.undamaged(path, f"remove {folder} and prepare the data again"):
        rows = json.loads(texts.read(path, "list of files"))
        if len(rows) != count:
            raise ValueError(f"it lists {len(rows)} files, not {count}")
        return [Seen((int(changed), int(entry)), str(digest)) for _, changed, entry, digest in rows]


def _times(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    return found.st_mtime_ns, found.st_ctime_ns


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or os.strerror(error.errno or 0)}.") from None
    return digest.hexdigest()
