"""The scenes that a command names: files, folders, patterns, lists, several files a scene."""

from __future__ import annotations

import functools
import glob
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genseg import outputs, texts
from genseg.data.files import codec, gdal, maps
from genseg.data.files.folders import files_below, told_apart
from genseg.errors import UserError

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".png", ".jpg", ".jpeg", ".npy")  # named where they turn out damaged
SIDECARS = (".ovr", ".msk", ".aux", ".xml", ".hdr", ".tfw", ".pgw", ".jgw", ".wld", ".prj", ".rpb")


@dataclass(frozen=True)
class Scene:
    """name: of what is written, below the output folder and without suffix. files: with the bands to take of each, from 1;
    () all."""

    name: str
    files: tuple[tuple[Path, tuple[int, ...]], ...]

    def __str__(self) -> str:
        return " + ".join(str(path) for path, _ in self.files)

    @functools.cached_property
    def placed(self) -> bool:
        """Whether maps of it are GeoTIFFs: of all but pictures without a place, beside which no file says one."""
        first = self.files[0][0]
        return not codec.plain_picture(first) or any(maps.Place.of(path).known for path, _ in self.files)


def scenes_of(given: Sequence[str], lists: Sequence[str] = ()) -> list[Scene]:
    """Scenes in the order given, each once.

    Args:
      given: FILE, a path or an address (see `gdal.address`); FILE+FILE (one scene); FILE:4,3,2 (these bands of it); a
        folder (the rasters below it, one scene each, named with their path below it); a pattern such as "tiles/*.tif".
      lists: files with one scene a line, its files separated by commas, paths relative to the list.
    Scenes of one name from several folders are named with as much of their paths as tells them apart.

    Raises: UserError for what is not there or holds nothing, and for one file with several picks of bands.
    """
    found: list[Scene] = []
    for text in given:
        path = gdal.address(text, "SCENE")
        if path.is_dir():
            inside = [p for p in files_below(path) if _raster(p)]
            if not inside:
                raise UserError(f"There are no rasters in {path}: give a folder that holds some.")
            found += [Scene(p.relative_to(path).with_suffix("").as_posix(), ((p, ()),)) for p in inside]
        elif not gdal.present(path) and glob.has_magic(text):
            fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            if "**" in path.parts and fixed.is_dir():
                files_below(fixed)  # refuses links in a circle, which `glob` would follow again and again
            matches = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
            if not matches:
                raise UserError(f"No file matches {text}: give a pattern that matches some.")
            found += [Scene(p.stem, ((p, ()),)) for p in matches]
        else:
            found.append(_scene([text] if path.is_file() else text.split("+")))
    for text in lists:
        found += _listed(outputs.given(text, "--from"))
    names: dict[str, Scene] = {}
    for scene in apart(found):
        if scene.name in names and names[scene.name].files != scene.files:
            raise UserError(
                f"{scene.files[0][0]} is given twice, with other bands or files, which would both be written to "
                f"{scene.name}_classes: predict them apart."
            )
        names[scene.name] = scene
    if not names:
        raise UserError("No scene is named: give files, folders, patterns, or a list by --from.")
    return list(names.values())


def apart(scenes: Sequence[Scene]) -> list[Scene]:
    """With names that are told apart where files of several folders are called alike."""
    names = told_apart([scene.name for scene in scenes], [scene.files[0][0] for scene in scenes])
    return [Scene(name, scene.files) for name, scene in zip(names, scenes, strict=True)]


def _raster(path: Path) -> bool:
    """Whether a file of a folder is a raster, by its name or its bytes: files beside rasters, such as overviews, are
    none."""
    if path.suffix.lower() in SIDECARS:
        return False
    return path.suffix.lower() in SUFFIXES or codec.plain_picture(path) or gdal.known(path)


def _listed(path: Path) -> list[Scene]:
    rows = texts.rows(texts.read(path, "list of scenes"), f"list of scenes {path}")
    return [_scene([cell for cell in row if cell], path.parent) for _, row in rows]


def _scene(parts: Sequence[str], folder: Path | None = None) -> Scene:
    files = tuple(_file_and_bands(part, folder) for part in parts)
    return Scene(files[0][0].stem, files)


def _file_and_bands(text: str, folder: Path | None) -> tuple[Path, tuple[int, ...]]:
    """ "scene.tif:4,3,2" -> (scene.tif, (4, 3, 2)), unless a file has that very name."""
    match = re.fullmatch(r"(.+):(\d+(?:,\d+)*)", text)
    path, bands = (match[1], tuple(map(int, match[2].split(",")))) if match else (text, ())
    if match and (whole := outputs.given(text, "SCENE", folder)).is_file():
        return whole, ()
    file = gdal.address(path, "SCENE", folder)
    if not gdal.present(file):
        raise UserError(f"There is no file {file}: give rasters that exist.")
    return file, bands
