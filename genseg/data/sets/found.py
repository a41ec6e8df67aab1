"""Rules for the files of a data set, whoever made it: they exist, are nobody's leftovers, and belong to one split."""

import logging
from pathlib import Path

from genseg import outputs
from genseg.errors import UserError

logger = logging.getLogger(__name__)


def existing_folder(source: str, what: str) -> Path:
    """Raises: UserError if `source` is empty or no folder."""
    if not source:
        raise UserError(f"config.data.source is empty: give the folder of {what}.")
    path = outputs.given(source, "config.data.source")
    if not path.is_dir():
        raise UserError(f"There is no data set at {path}: give the folder of {what}.")
    return path


def say_passed_over(paths: list[Path]) -> None:
    if paths:
        logger.warning("%d leftovers of other programs are passed over, such as %s", len(paths), paths[0])


def refuse_shared(images: dict[str, list[Path]]) -> None:
    """Raises UserError if a file is in two splits, or twice in one: scores would be of what was trained on. Links count as
    what they point to."""
    seen: dict[tuple[int, int], tuple[str, Path]] = {}
    for split, paths in images.items():
        for path in paths:
            found = path.stat()
            other, first = seen.setdefault((found.st_dev, found.st_ino), (split, path))
            if first is not path:
                where = f"twice in {split!r}" if other == split else f"both in {other!r} and in {split!r}"
                raise UserError(
                    f"{path} is {where}: give each split its own files ({{split}} in the patterns, lists, or blocks)."
                )
