"""Symbolic links count as what they point to, at every data set and for scenes; links in a circle end in a sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from genseg.data.batches import pipeline
from genseg.data.files.folders import files_below
from genseg.data.records import storage
from genseg.data.sets import isaid, loveda, mfnet, potsdam, pst900, published_names
from genseg.data.sets.own import FolderSegmentation
from genseg.data.sets.photographs import FolderClassification
from genseg.errors import UserError
from genseg.predict.scenes import scenes_of
from tests.data import made
from tests.test_data_loveda import drawn
from tests.test_data_official import few_frames, few_pairs  # noqa: F401 - fixtures


@pytest.fixture
def small(monkeypatch, few_pairs, few_frames):  # noqa: F811
    """Official data sets of a few small images."""
    monkeypatch.setattr(loveda, "COUNTS", {"train": 1, "val": 1})
    monkeypatch.setattr(potsdam, "SIZE", 40)
    monkeypatch.setattr(potsdam, "SPLITS", {"official": {"train": ("2_10", "4_12"), "test": ("6_7",)}})
    monkeypatch.setattr(published_names, "ISAID", {"train": ("P0000", "P0001", "P0002"), "val": ("P0003",)})


def make_loveda(root: Path) -> Path:
    drawn(root, {("Train", "Urban"): 1, ("Val", "Rural"): 1})
    return root


SETS = {
    "isaid": (made.isaid, lambda root: isaid.ISAID(root, patch=32, stride=16)),
    "mfnet": (made.mfnet, lambda root: mfnet.MFNet(root)),
    "mfnet separated": (lambda root: made.mfnet(root, "separated"), lambda root: mfnet.MFNet(root)),
    "pst900": (made.pst900, lambda root: pst900.PST900(root)),
    "potsdam": (lambda root: made.potsdam(root, 40), lambda root: potsdam.Potsdam(root, patch=20, stride=20)),
    "loveda": (make_loveda, lambda root: loveda.LoveDA(root)),
    "folder_segmentation": (
        made.tiles,
        lambda root: FolderSegmentation(
            root, "{split}/img/tile_{id}.tif", "{split}/mask/mask_{id}.tif", bands=("red", "green", "blue", "nir"),
            classes=("a", "b", "c"),
        ),
    ),
    "folder_classification": (made.photographs, lambda root: FolderClassification(root)),
}  # fmt: skip


def folders_linked(real: Path, linked: Path, depth: int) -> None:
    """A folder like `real` whose sub-folders at a depth are links into it; files above are links too."""
    linked.mkdir()
    for entry in real.iterdir():
        if entry.is_dir() and depth > 1:
            folders_linked(entry, linked / entry.name, depth - 1)
        else:
            (linked / entry.name).symlink_to(os.path.relpath(entry, linked), target_is_directory=entry.is_dir())


def files_linked(real: Path, linked: Path) -> None:
    folders_linked(real, linked, 99)


def all_linked(real: Path, linked: Path) -> None:
    linked.symlink_to(real)


WAYS = {
    "folders": lambda real, linked: folders_linked(real, linked, 1), "inner folders": lambda real, linked: folders_linked(real, linked, 2),
    "files": files_linked, "the whole": all_linked,
}  # fmt: skip


def records(options, out: Path) -> dict:
    folder = storage.write(options.plan(), out, progress=False)
    splits = {name: pipeline.open_split(folder, name) for name in storage.DatasetCard.read(folder).splits}
    return {
        (name, i): {key: np.asarray(value).tobytes() for key, value in split.decode(i).items()}
        for name, split in splits.items()
        for i in range(len(split))
    }


@pytest.mark.parametrize("name", SETS)
def test_links_are_followed_the_same_way_everywhere(name, small, tmp_path):
    """Prepared from files, and from links to them, to their folders and to the folders above: the same records."""
    make, options = SETS[name]
    real = make(tmp_path / "real")
    expected = records(options(str(real)), tmp_path / "expected")
    assert expected
    for number, (way, link) in enumerate(WAYS.items()):
        link(real, tmp_path / f"linked{number}")
        found = records(options(str(tmp_path / f"linked{number}")), tmp_path / f"out{number}")
        assert found == expected, way


@pytest.mark.parametrize("name", [n for n in SETS if not n.startswith("folder_")])
def test_a_circle_of_links_is_one_sentence(name, small, tmp_path):
    make, options = SETS[name]
    real = make(tmp_path / "real")
    inside = next(p for p in sorted(real.iterdir()) if p.is_dir())
    (inside / "again").symlink_to("..")
    with pytest.raises(UserError, match=r"again.* is .* again, by a symbolic link: .*; remove the link"):
        options(str(real)).plan()


def test_scenes_of_linked_folders(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "real" / ".hidden").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "real" / "b.tif", np.zeros((4, 4), np.uint8))
    tifffile.imwrite(tmp_path / "real" / ".hidden" / "c.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "one.tif").symlink_to("../a.tif")
    (tmp_path / "scenes" / "more").symlink_to("../real")
    (tmp_path / "scenes" / "gone.tif").symlink_to("../nothing.tif")
    assert [s.name for s in scenes_of([str(tmp_path / "scenes")])] == ["more/b", "one"]
    assert [s.name for s in scenes_of([f"{tmp_path}/scenes/**/*.tif"])] == ["b", "one"]
    (tmp_path / "real" / "round").symlink_to("../scenes")
    for text in (str(tmp_path / "scenes"), f"{tmp_path}/scenes/**/*.tif"):
        with pytest.raises(UserError, match=r"round is .*scenes again, by a symbolic link"):
            scenes_of([text])


def test_the_walk(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("")
    (tmp_path / "b").symlink_to("a")  # two ways to one folder are no circle
    assert [str(p.relative_to(tmp_path)) for p in files_below(tmp_path)] == ["a/x", "b/x"]
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(UserError, match="self cannot be read .Too many levels of symbolic links"):
        files_below(tmp_path)
