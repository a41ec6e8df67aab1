"""Which mask belongs to which scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genseg import outputs, texts
from genseg.data.files import gdal
from genseg.errors import UserError
from genseg.predict.scenes import Scene, apart, scenes_of

SUFFIXES = (".tif", ".tiff", ".png", ".npy")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_truth")


def by_name(given: Sequence[str], folder: str) -> list[tuple[Scene, Path]]:
    """Scenes as `scenes_of` finds them, with the mask in `folder` of the same name, or of it and one of ENDINGS; a map's own
    "_classes" apart. Raises: UserError for a scene without a mask, or with two."""
    place = outputs.given(folder, "--masks")
    if not place.is_dir():
        raise UserError(f"There is no folder of masks at {place}: give one that exists.")
    found = [(scene, _mask_of(scene, place)) for scene in scenes_of(given)]
    whose: dict[Path, Scene] = {}
    for scene, mask in found:
        if (other := whose.setdefault(mask, scene)) is not scene:
            raise UserError(f"{other} and {scene} would both be scored by {mask}: give a list by --pairs.")
    return found


def _mask_of(scene: Scene, folder: Path) -> Path:
    name = scene.name.removesuffix("_classes")
    wanted = [folder / f"{stem}{ending}{suffix}" for stem in dict.fromkeys((name, Path(name).name))
              for ending in ENDINGS for suffix in SUFFIXES]  # fmt: skip
    found = [path for path in wanted if path.is_file()]
    if not found:
        raise UserError(
            f"{scene} has no mask in {folder}: name it {Path(name).name}.tif or .png there (or with _mask, _label, _gt), or "
            f"give a list by --pairs."
        )
    if len(found) > 1:
        raise UserError(f"{scene} has two masks, {found[0]} and {found[1]}: give a list by --pairs.")
    return found[0]


def listed(text: str) -> list[tuple[Scene, Path]]:
    """A CSV with a scene a line: its files, then its mask; paths relative to the list. Raises: UserError."""
    path = outputs.given(text, "--pairs")
    found = []
    for number, cells in texts.rows(texts.read(path, "list of pairs"), f"list of pairs {path}"):
        row = [cell for cell in cells if cell]
        if len(row) < 2:
            raise UserError(
                f"Line {number} of the list {path} is {row[0]!r}: give the scene's files, and its mask last."
            )
        mask = gdal.address(row[-1], "mask", path.parent)
        (scene,) = scenes_of(["+".join(str(gdal.address(cell, "scene", path.parent)) for cell in row[:-1])])
        if any(scene.files == other.files for other, _ in found):
            raise UserError(f"Line {number} of the list {path} names {scene} again: score each scene once.")
        found.append((scene, mask if gdal.remote(mask) else outputs.regular(mask, "mask")))
    if not found:
        raise UserError(f"The list {path} is empty: give lines of IMAGE,MASK.")
    scenes = apart([scene for scene, _ in found])
    names = [scene.name for scene in scenes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"The list {path} has the scene {twice!r} twice: list each once.")
    return [(scene, mask) for scene, (_, mask) in zip(scenes, found, strict=True)]
