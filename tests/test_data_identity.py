"""Whether files are the ones they were, and whether two of one name are told apart."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg.data.files.folders import told_apart
from genseg.data.records import copies, storage
from genseg.data.sets.own import FolderSegmentation
from genseg.errors import UserError
from genseg.predict.scenes import scenes_of
from genseg.score import pairs


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("ab"), max_size=3), st.sampled_from(["x", "y", "a"]), st.sampled_from([".tif", ".png"])),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_two_files_have_two_names_and_one_file_has_one(entries):
    paths = [os.path.join("/data", *folders, name + suffix) for folders, name, suffix in entries]
    paths = [Path(p) for p in paths]
    names = told_apart([p.stem for p in paths], paths)
    assert len(set(names)) == len(set(paths))
    assert len(set(zip(names, paths, strict=True))) == len(set(paths))
    for name, path in zip(names, paths, strict=True):
        assert str(path.with_suffix("")).endswith(name) or str(path).endswith(name)
        if sum(other.stem == path.stem for other in set(paths)) == 1:
            assert name == path.stem


# -------------------------------------------------------------------------------------------------------- preparing


def source(root, places=("train/images/a", "train/images/b", "val/images/c")):
    for number, place in enumerate(places):
        rng = np.random.default_rng(number)
        image, mask = root / f"{place}.tif", root / f"{place.replace('images', 'masks')}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(image, rng.integers(1, 200, (16, 16, 3), np.uint8), photometric="rgb")
        Image.fromarray(rng.integers(0, 2, (16, 16), np.uint8)).save(mask)
    return root


def write(root, data, **options):
    options = {"image_pattern": "{split}/images/{id}.tif", "classes": ("x", "y"), **options}
    return storage.write(FolderSegmentation(str(root), **options).plan(), data, progress=False)


def labels(folder):
    return (folder / "card.json").read_text()


def test_an_edit_in_place_is_noticed_and_a_moved_data_set_is_the_same(tmp_path, caplog):
    root, data = source(tmp_path / "raw"), tmp_path / "data"
    first = write(root, data)
    assert write(root, data) == first
    # Moved, with other times: read once, and not prepared anew.
    moved = shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copy)
    for path in moved.rglob("*.*"):
        os.utime(path, (1, 1))
    with caplog.at_level("INFO"):
        assert write(moved, data) == first
        assert "6 of 6 files" in caplog.text
        caplog.clear()
        assert write(moved, data) == first
        assert "their contents are compared" not in caplog.text
        assert f"the copy of {copies.made_on(first)}, {first}" in caplog.text
    # Edited in place: the same name and size, and even the same time of change.
    path = moved / "train" / "images" / "b.tif"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    os.utime(path, (1, 1))
    with caplog.at_level("INFO"):
        second = write(moved, data)
    assert second.name == f"{first.name}-2" and f"{path} has changed since {first} was prepared" in caplog.text
    assert labels(second) != labels(first)
    assert write(moved, data) == second
    # And back again.
    path.write_bytes(kept)
    assert write(moved, data) == first
    mask = moved / "val" / "masks" / "c.png"
    mask.write_bytes(mask.read_bytes() + b"\0")  # another size: another fingerprint
    assert write(moved, data).name.split("-")[1] != first.name.split("-")[1]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.integers(0, 4), place=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_any_changed_byte_is_another_data_set(file, place, flip, tmp_path_factory):
    root = tmp_path_factory.mktemp("any")
    files = [root / f"{i}.bin" for i in range(5)]
    for i, path in enumerate(files):
        path.write_bytes(np.random.default_rng(i).bytes(1000))
    options = FolderSegmentation(str(root))
    mark = copies.fingerprint(options, root, files)
    folder = root / f"set-{mark}"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    copies.keep(folder, files, copies.digested(files, copies.look(files), 2))
    assert copies.fitting(root, "set", mark, 2) == (folder, folder)
    for path in files:
        os.utime(path)
    assert copies.fitting(root, "set", mark, 2) == (folder, folder)
    content = bytearray(files[file].read_bytes())
    content[int(place * 1000)] ^= flip
    files[file].write_bytes(content)
    again = copies.fingerprint(options, root, files)
    assert again == mark  # by names and sizes nothing has changed
    assert copies.fitting(root, "set", again, 2) == (None, root / f"set-{mark}-2")


def test_a_file_that_changes_meanwhile_is_refused_and_leaves_nothing(tmp_path):
    root, data = source(tmp_path / "raw"), tmp_path / "data"
    plan = FolderSegmentation(str(root), image_pattern="{split}/images/{id}.tif", classes=("x", "y")).plan()
    mask = root / "train" / "masks" / "a.png"

    def look():
        mask.write_bytes(mask.read_bytes())
        return ()

    with pytest.raises(UserError, match=r"a\.png was changed while it was prepared"):
        storage.write(storage.dataclasses.replace(plan, look=look), data, progress=False)
    assert not list(data.iterdir())


def test_a_copy_that_an_earlier_version_made_is_taken(tmp_path, caplog):
    root, data = source(tmp_path / "raw"), tmp_path / "data"
    first = write(root, data)
    (first / "files.json").unlink()
    with caplog.at_level("INFO"):
        assert write(root, data) == first
    assert "did not note the files' times" in caplog.text


def test_a_header_beside_a_raster_belongs_to_it(tmp_path):
    root, data = source(tmp_path / "raw"), tmp_path / "data"
    world = root / "train" / "images" / "a.tfw"
    world.write_text("1\n0\n0\n-1\n0\n16\n")
    first = write(root, data)
    world.write_text("1\n0\n0\n-1\n5\n16\n")
    assert write(root, data) != first


def test_two_scenes_of_one_name_are_two(tmp_path):
    places = ("one/images/x", "two/images/x", "two/images/y", "three/images/x")
    root, data = source(tmp_path / "raw", places), tmp_path / "data"
    for split, chosen in (("train", places[:3]), ("val", places[3:])):
        lines = [f"{p}.tif,{p.replace('images', 'masks')}.png" for p in chosen]
        (root / f"{split}.csv").write_text("\n".join(["image,mask", *lines]))
    lists = {"train": "train.csv", "val": "val.csv"}
    for options in ({}, {"patch": 8, "stride": 8}):
        folder = write(root, data, split_lists=lists, **options)
        stored = storage.read_places(folder, "train")
        assert len({place.file_name for place in stored}) == len(stored) == (12 if options else 3)
        assert list(dict.fromkeys(place.scene for place in stored)) == ["one/images/x", "two/images/x", "y"]
    # Lists that name files of other folders with the same names and sizes are other data.
    before = write(root, data, split_lists=lists)
    swapped = (root / "train.csv").read_text().replace("one/", "three/")
    (root / "train.csv").write_text(swapped)
    (root / "val.csv").write_text("image,mask\none/images/x.tif,one/masks/x.png")
    assert write(root, data, split_lists=lists) != before


def test_scenes_of_one_name_are_mapped_and_scored_apart(tmp_path):
    source(tmp_path, ("a/images/x", "b/images/x", "b/images/y"))
    texts = [
        str(tmp_path / "a" / "images"),
        str(tmp_path / "b" / "images" / "x.tif"),
        str(tmp_path / "b" / "images" / "y.tif"),
    ]
    assert [scene.name for scene in scenes_of(texts)] == ["a/images/x", "b/images/x", "y"]
    with pytest.raises(UserError, match=r"would both be written to x_classes"):
        scenes_of([f"{texts[1]}:1", f"{texts[1]}:2"])
    (tmp_path / "list.csv").write_text(
        "a/images/x.tif,a/masks/x.png\nb/images/x.tif,b/masks/x.png\nb/images/y.tif,b/masks/y.png\n"
    )
    found = pairs.listed(str(tmp_path / "list.csv"))
    assert [scene.name for scene, _ in found] == ["a/images/x", "b/images/x", "y"]
    (tmp_path / "twice.csv").write_text("a/images/x.tif,a/masks/x.png\na/images/x.tif,b/masks/x.png\n")
    with pytest.raises(UserError, match=r"names .*x\.tif again: score each scene once"):
        pairs.listed(str(tmp_path / "twice.csv"))
    with pytest.raises(UserError, match=r"would both be scored by .*x\.png"):
        pairs.by_name(texts[:2], str(tmp_path / "a" / "masks"))


def test_what_is_kept_of_the_files(tmp_path):
    root = source(tmp_path / "raw")
    folder = write(root, tmp_path / "data")
    rows = json.loads((folder / "files.json").read_text())
    assert [row[0] for row in rows] == ["a.tif", "a.png", "b.tif", "b.png", "c.tif", "c.png"]
    assert all(len(row[3]) == 32 for row in rows)
