"""Raw downloads as they lie on disk: unpacked folders, zip archives, or both; and what is missing of them."""

import dataclasses
import logging
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from genseg import memory
from genseg.data.files.folders import files_below, leftover
from genseg.errors import UserError

logger = logging.getLogger(__name__)

_open_archives = threading.local()  # a ZipFile handle cannot be shared by threads


@dataclasses.dataclass(frozen=True)
class File:
    """A file in a folder, or a member of a zip archive. path: below the source, with "/"; an archive counts as a folder of
    its name without ".zip", since some archives hold a folder of that name and some only what is in it."""

    path: str
    size: int
    place: Path
    member: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]

    @property
    def folder(self) -> str:
        """Name of the folder that holds it, in lower case; "" at the top."""
        return "/".join(self.path.lower().split("/")[-2:-1])

    def read(self) -> bytes:
        """Raises: UserError if it cannot be read."""
        if words := memory.excess(self.size):
            raise UserError(f"{self} cannot be read ({words}): download it again.")
        try:
            return _archive(self.place).read(self.member) if self.member else self.place.read_bytes()
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
            again = ": download the archive again" if self.member else ""
            raise UserError(f"Cannot read {self} ({error}){again}.") from None

    def __str__(self) -> str:
        return f"{self.place}/{self.member}" if self.member else str(self.place)


def _archive(place: Path) -> zipfile.ZipFile:
    known = _open_archives.__dict__.setdefault("known", {})
    if place not in known:
        known[place] = zipfile.ZipFile(place)
    return known[place]


def listing(root: Path) -> list[File]:
    """All files below root and in the zip archives there, sorted by path; links followed, leftovers left out.

    Raises: UserError if an archive is damaged, and for links in a circle.
    """
    found = []
    for place in files_below(root):
        path = place.relative_to(root).as_posix()
        if place.suffix.lower() != ".zip":
            found.append(File(path, place.stat().st_size, place))
            continue
        try:
            members = _archive(place).infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"The archive {place} cannot be opened ({error}): download it again.") from None
        inner = [m.filename for m in members if m.filename.lower().endswith(".zip")]
        if inner:
            logger.warning(
                "%s holds archives such as %s, which are not read inside it: unpack it once.", place, inner[0]
            )
        for member in members:
            parts = member.filename.split("/")
            if not member.is_dir() and not any(leftover(p) for p in parts):
                found.append(File(f"{path[:-4]}/{member.filename}", member.file_size, place, member.filename))
    return sorted(found, key=lambda f: f.path)


def by_key(files: Iterable[File], key: Callable[[File], str | None]) -> dict[str, File]:
    """key -> file; of several with one key (an archive beside its unpacked folder) the unpacked one."""
    chosen: dict[str, File] = {}
    for file in files:
        name = key(file)
        if name is not None and (name not in chosen or (chosen[name].member and not file.member)):
            chosen[name] = file
    return chosen


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the inventory: what was looked for, what of it is there, and the names that are not."""

    what: str
    expected: int
    missing: tuple[str, ...]


def take_stock(name: str, root: Path, checks: list[Check], allow_incomplete: bool) -> tuple[str, ...]:
    """Logs the table found / expected / missing and returns notes for the card: () if all is there.

    Raises: UserError naming the first missing file if anything is missing and allow_incomplete is not set.
    """
    width = max(len(c.what) for c in checks)
    lines = [f"{'':<{width}}  {'found':>8} {'expected':>8} {'missing':>8}"]
    lines += [
        f"{c.what:<{width}}  {c.expected - len(c.missing):8d} {c.expected:8d} {len(c.missing):8d}"
        + (f"  first: {c.missing[0]}" if c.missing else "")
        for c in checks
    ]
    print(f"{name} in {root}\n" + "\n".join(lines))
    short = [c for c in checks if c.missing]
    if not short:
        return ()
    first = short[0]
    words = f"{len(first.missing)} of {first.expected} {first.what} are missing, the first is {first.missing[0]}"
    if not allow_incomplete:
        raise UserError(f"{name} in {root} is incomplete: {words}; add the files or set allow_incomplete.")
    note = "INCOMPLETE: " + "; ".join(f"{len(c.missing)} of {c.expected} {c.what} are missing" for c in short)
    note += ". Its scores cannot be compared with published ones."
    logger.warning("%s: %s", name, note)
    return (note,)
