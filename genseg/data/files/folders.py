"""The files below a folder: one walk, wherever a folder stands for what is in it."""

from __future__ import annotations

import os
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
