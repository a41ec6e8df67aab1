"""The files below a folder: one walk, wherever a folder stands for what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from genseg.errors import UserError


def leftover(name: str) -> bool:
    """Whether other systems have left a file or folder of this name: hidden ones, macOS's copies, thumbnails."""
    return name.startswith((".", "__MACOSX", "@eaDir")) or name.lower() in ("thumbs.db", "desktop.ini")


def files_below(root: Path) -> list[Path]:
    """All files below a folder, sorted, leftovers apart. Symbolic links count as what they point to, files and folders alike;
    those to nothing are passed over, as what is not there. Raises: UserError for links in a circle."""
    found: list[Path] = []
    _walk(root, {}, found)
    return sorted(found)


_BESIDE = (".msk", ".aux.xml", ".hdr", ".ovr")  # behind a raster's name
_INSTEAD = (".hdr", ".tfw", ".pgw", ".jgw", ".wld", ".prj", ".rpb", ".aux")  # in place of its suffix


def with_beside(paths: Iterable[Path]) -> list[Path]:
    """The files, each followed by those beside it that say more about a raster: masks, headers, its place on the ground."""
    found, listed = [], {}
    for path in paths:
        folder = path.parent
        if folder not in listed:  # one look at a folder, not a dozen a file
            listed[folder] = set(os.listdir(folder))
        found += [path, *(folder / name for name in _names_beside(path) if name in listed[folder])]
    return found


def beside(path: Path) -> list[Path]:
    """The files beside one raster that `with_beside` would name, overviews apart, which say nothing of its own pixels."""
    return [
        side for name in _names_beside(path) if not name.endswith(".ovr") and (side := path.parent / name).is_file()
    ]


def _names_beside(path: Path) -> list[str]:
    """World files are also called by the whole suffix, and either by some programs in capitals."""
    ends = [path.name + end for end in _BESIDE] + [path.stem + end for end in _INSTEAD]
    ends += [f"{path.name}w", *(path.stem + end.upper() for end in (*_INSTEAD, f"{path.suffix}w"))]
    return [name for name in dict.fromkeys(ends) if name != path.name]


def told_apart(names: Sequence[str], paths: Sequence[Path], *, suffix: bool = False) -> list[str]:
    """The names of files, of which those that are given to several become the last parts of their paths that tell them apart:
    a/x.tif and b/x.tif, both called x, are a/x and b/x. Names that one file alone has stay, also where it is given twice.

    suffix: whether names have their suffix. Without, it is added where files of one folder differ in it alone."""
    alike: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        alike.setdefault(name, []).append(i)
    found, taken = list(names), {name for name, places in alike.items() if len(places) == 1}
    for places in alike.values():
        whole = {i: Path(os.path.abspath(paths[i])) for i in places}
        if len(set(whole.values())) > 1:
            longer = _shortest(
                {i: p if suffix else p.with_suffix("") for i, p in whole.items()}, len(set(whole.values())), taken
            )
            longer = longer or _shortest(whole, len(set(whole.values())), taken)
            for i, name in longer.items():
                found[i] = name
            taken |= set(longer.values())
    return found


def _shortest(paths: dict[int, Path], count: int, taken: set[str]) -> dict[int, str]:
    """The fewest last parts of paths that make `count` names, none of them taken; {} where none do."""
    for parts in range(1, max(len(p.parts) for p in paths.values())):
        names = {i: "/".join(p.parts[1:][-parts:]) for i, p in paths.items()}
        if len(set(names.values())) == count and not taken & set(names.values()):
            return names
    return {}


def _walk(folder: Path, above: dict[tuple[int, int], Path], found: list[Path]) -> None:
    here = folder.stat()
    if holder := above.get((here.st_dev, here.st_ino)):
        raise UserError(
            f"{folder} is {holder} again, by a symbolic link: the files below would have no end; remove the link."
        )
    with os.scandir(folder) as entries:
        kept = sorted((entry for entry in entries if not leftover(entry.name)), key=lambda entry: entry.name)
    for entry in kept:
        try:
            below = entry.is_dir()
        except OSError as error:
            raise UserError(
                f"{folder / entry.name} cannot be read ({error.strerror}): remove it, or mend it."
            ) from None
        if below:
            _walk(folder / entry.name, above | {(here.st_dev, here.st_ino): folder}, found)
        elif entry.is_file():
            found.append(folder / entry.name)
