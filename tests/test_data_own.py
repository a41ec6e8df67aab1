"""Anyone's rasters: class tables, colours, CSV lists, nodata in masks, patches, splits by blocks of the ground."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg.data import prepare, show
from genseg.data.batches import pipeline
from genseg.data.files import masks
from genseg.data.records import moments, storage
from genseg.data.sets import ground
from genseg.data.sets.ground import Bounds
from genseg.data.sets.own import FolderSegmentation
from genseg.data.sets.photographs import FolderClassification
from genseg.errors import UserError
from tests.data import made
from tests.test_data_official import SHARED, needs_shared, stitched

TILES = {
    "image_pattern": "{split}/img/tile_{id}.tif", "mask_pattern": "{split}/mask/mask_{id}.tif",
    "splits": ("train", "val"), "bands": ("red", "green", "blue", "nir"),
}  # fmt: skip


def prepared(options, tmp_path: Path) -> Path:
    return storage.write(options.plan(), tmp_path / "prepared", progress=False)


def mask_files(root: Path):
    return sorted(root.glob("*/mask/*.tif"))


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_class_tables_renumber(kind, tmp_path):
    root = made.tiles(tmp_path / "raw")
    for path in mask_files(root):
        tifffile.imwrite(path, np.array([70, 10, 30], np.int16)[tifffile.imread(path)])
    if kind == "csv":
        (root / "classes.csv").write_text("id,name,colour\n70,water,#0000ff\n10,field,#80ff00\n30,road,90 90 90\n")
    else:
        text = "- {id: 70, name: water, color: [0, 0, 255]}\n- {id: 10, name: field, color: '#80ff00'}\n"
        (root / "classes.yaml").write_text(text + "- {id: 30, name: road, color: 90 90 90}\n")
    options = FolderSegmentation(str(root), **TILES, class_table=f"classes.{kind}")
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    assert split.card.classes == ("field", "road", "water")
    assert split.card.protocol.endswith("all pixels, records: whole images")
    assert split.card.palette == ((128, 255, 0), (90, 90, 90), (0, 0, 255))
    original = made.scene(1, 4, "uint8", (24, 24), 3)[1]
    assert np.array_equal(split.decode(1)["label"], np.array([2, 0, 1])[original])
    tifffile.imwrite(mask_files(root)[-1], np.full((24, 24), 20, np.int16))
    tifffile.imwrite(root / "val" / "mask" / "mask_2.tif", np.full((24, 24), 20, np.int16))
    with pytest.raises(UserError, match=r"mask_2\.tif holds the label 20"):
        prepared(options, tmp_path / "again")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], False), (["--mask_colours"], True), (["--mask_colours=True"], True), (["--mask_colours", "True"], True),
        (["--mask_colours=False"], False), (["--mask_colours", "--no-mask_colours"], False),
    ],
)  # fmt: skip
def test_a_switch_is_given_alone_or_with_its_value(given, expected, capsys):
    """As fields are written in a config, or as a command line's switches are."""
    data, others = prepare.parse_command(["folder_segmentation", *given, "--threads=3"], "prepare", lambda parser: None)
    assert data["mask_colours"] is expected and others.threads == 3
    with pytest.raises(SystemExit):
        prepare.parse_command(["folder_segmentation", "--mask_colours=maybe"], "prepare", lambda parser: None)
    assert "'maybe': give True or False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name,colour\n", "is empty"),
        ("id,name,colour\n1,a,#0000ff\n1,b,#0000fe\n", "gives an id twice"),
        ("id,name,colour\n1,a,#0000ff\n2,b,#0000ff\n", "gives a colour twice"),
        ("id,name,colour\n1,a,#0000ff\n2,b,\n", "some classes a colour and some none"),
        ("id,name,colour\n1,a,300 0 0\n", "Entry 1 of the class table"),
        ("id,name\nx,a\n", "Entry 1 of the class table"),
        ("number,name\n1,a\n", "Entry 1 of the class table"),
    ],
)
def test_bad_class_tables(text, message, tmp_path):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        masks.read_class_table(tmp_path / "classes.csv")


def test_unreadable_class_tables(tmp_path):
    with pytest.raises(UserError, match="no class table at"):
        masks.read_class_table(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("- {id: 1, name: [")
    with pytest.raises(UserError, match="cannot be parsed"):
        masks.read_class_table(tmp_path / "bad.yaml")
    (tmp_path / "flat.yaml").write_text("water: 1")
    with pytest.raises(UserError, match="is empty: list entries"):
        masks.read_class_table(tmp_path / "flat.yaml")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 300), min_size=1, max_size=9, unique=True), st.integers(0, 2**32))
def test_renumbering_equals_a_plain_loop(ids, seed):
    ignore = 255 if 255 not in ids else 254
    if ignore in ids:
        return
    rng = np.random.default_rng(seed)
    mask = rng.choice([*ids, ignore, -9999], (6, 7)).astype(np.int32)
    plain = [[ignore if v in (ignore, -9999) else ids.index(v) for v in row] for row in mask.tolist()]
    for dtype in (np.int32, np.float32):
        assert masks.renumber(mask.astype(dtype), tuple(ids), ignore, -9999, "x").tolist() == plain


def test_large_masks_and_scenes_are_taken_in_strips(monkeypatch):
    rng = np.random.default_rng(0)
    ids, palette = rng.integers(0, 3, (23, 7)).astype(np.uint8), [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    image = rng.random((23, 7, 2)).astype(np.float32)
    expected = storage.Moments.of(image, image > 0.3)
    monkeypatch.setattr(masks, "_STRIP", 30)
    monkeypatch.setattr(moments, "_STRIP", 30)
    table = {c: i for i, c in enumerate(palette)}
    colours = made.colours(ids, palette)
    assert np.array_equal(masks.colours_to_ids(colours, table, "x"), ids)
    assert np.array_equal(masks.renumber(ids * np.int32(50), (0, 50, 100), 255, None, "x"), ids)
    for name in ("count", "mean", "squares", "low", "high"):
        found = getattr(storage.Moments.of(image, image > 0.3), name)
        np.testing.assert_allclose(found, getattr(expected, name), rtol=1e-12)
    colours[21, 5] = 200
    with pytest.raises(UserError, match=r"the colour \(200, 200, 200\) at row 21, column 5"):
        masks.colours_to_ids(colours, table, "x")


def test_colour_masks(tmp_path):
    root = made.tiles(tmp_path / "raw")
    palette = ((10, 20, 30), (200, 0, 0), (0, 200, 0))
    for path in mask_files(root):
        image = Image.fromarray(made.colours(tifffile.imread(path), list(palette)))
        image = (
            image.quantize(8) if path.parent.parent.name == "train" else image
        )  # a palette PNG shows its colours too
        image.save(path.with_suffix(".png"))
        path.unlink()
    options = {**TILES, "mask_pattern": "{split}/mask/mask_{id}.png", "classes": ("a", "b", "c"), "palette": palette}
    for name, seed in (("train", 1), ("val", 101)):
        split = pipeline.open_split(
            prepared(FolderSegmentation(str(root), **options, mask_colours=True), tmp_path), name
        )
        assert np.array_equal(split.decode(1)["label"], made.scene(seed, 4, "uint8", (24, 24), 3)[1])
    with pytest.raises(UserError, match="3 bands: it must hold one class id a pixel, or set mask_colours"):
        prepared(FolderSegmentation(str(root), **{**options, "splits": ("val",)}), tmp_path / "again")
    with pytest.raises(UserError, match="no class has a colour"):
        FolderSegmentation(str(root), **{**options, "palette": ()}, mask_colours=True).plan()


def test_csv_lists_and_mask_nodata(tmp_path):
    root = made.tiles(tmp_path / "raw")
    mask = made.scene(0, 4, "uint8", (24, 24), 3)[1].astype(np.float32)
    mask[:2] = -99999
    tifffile.imwrite(root / "odd_name.tif", mask, extratags=[(42113, "s", 0, "-99999", True)])
    (root / "train.csv").write_text("image,mask,remark\ntrain/img/tile_0.tif,odd_name.tif,x\n")
    outside = tmp_path / "outside.tif"
    outside.write_bytes((root / "val" / "img" / "tile_1.tif").read_bytes())
    (root / "val.csv").write_text(f"mask,image\nval/mask/mask_1.tif,{outside}\n")
    options = {
        "splits": ("train", "val"), "bands": TILES["bands"], "classes": ("a", "b", "c"),
        "split_lists": {"train": "train.csv", "val": "val.csv"},
    }  # fmt: skip
    folder = prepared(FolderSegmentation(str(root), **options), tmp_path)
    label = pipeline.open_split(folder, "train").decode(0)["label"]
    assert (label[:2] == 255).all() and np.array_equal(label[2:], made.scene(0, 4, "uint8", (24, 24), 3)[1][2:])
    assert np.array_equal(
        pipeline.open_split(folder, "val").decode(0)["image"], made.scene(101, 4, "uint8", (24, 24), 3)[0]
    )
    (root / "val.csv").write_text("mask,image\nval/mask/mask_1.tif,val/img/none.tif\n")
    with pytest.raises(UserError, match=r"Line 2 of .*val\.csv names .*none\.tif, which is no file"):
        FolderSegmentation(str(root), **options).plan()
    (root / "val.csv").write_text("picture,mask\n")
    with pytest.raises(UserError, match="has the columns picture, mask: image and mask are needed"):
        FolderSegmentation(str(root), **options).plan()
    (root / "val.csv").write_text("image,mask\n")
    with pytest.raises(UserError, match="no split 'val'"):
        FolderSegmentation(str(root), **options).plan()


def test_patches_of_large_scenes(tmp_path):
    root = made.tiles(tmp_path / "raw", size=(50, 37))
    options = FolderSegmentation(str(root), **TILES, classes=("a", "b", "c"), patch=20, stride=15)
    split = pipeline.open_split(prepared(options, tmp_path), "val")
    assert len(split) == 3 * 3 * 3 and "records: patches of 20 at stride 15" in split.card.protocol
    for i in range(3):
        image, mask = made.scene(100 + i, 4, "uint8", (50, 37), 3)
        whole, ids = stitched(split, str(i))
        assert np.array_equal(whole, image) and np.array_equal(ids, mask)


def grid(root: Path, side: int = 6) -> Path:
    """side x side tiles of 16 pixels that touch each other, on the ground from (1000, 5000)."""
    for i in range(side * side):
        image, mask = made.scene(i, 3, "uint8", (16, 16), 3)
        west, north = 1000 + 16 * (i % side), 5000 - 16 * (i // side)
        made.georeferenced(root / "img" / f"{i:02d}.tif", image, west, north)
        made.georeferenced(root / "mask" / f"{i:02d}.tif", mask, west, north)
    return root


BLOCKS = {
    "image_pattern": "img/{id}.tif", "mask_pattern": "mask/{id}.tif", "splits": ("train", "val"),
    "classes": ("a", "b", "c"),
}  # fmt: skip


@pytest.mark.parametrize("apart", [True, False])
def test_block_splits(apart, tmp_path):
    root = grid(tmp_path / "raw")
    dealt = {"size": 32.0, "seed": 3, "apart": apart, "train": 0.7, "val": 0.3}
    plan = FolderSegmentation(str(root), **BLOCKS, split_blocks=dealt).plan()
    names = {s: [p.id for p in pairs] for s, pairs in plan.items.items()}
    assert not set(names["train"]) & set(names["val"]) and 6 <= len(names["val"]) <= 14
    assert len(names["train"]) + len(names["val"]) == 36 if not apart else len(names["train"]) < 30
    # Brute force over positions in the grid.
    near = {
        (a, b) for a in names["train"] for b in names["val"]
        if max(abs(int(a) % 6 - int(b) % 6), abs(int(a) // 6 - int(b) // 6)) <= 1
    }  # fmt: skip
    notes = plan.look()
    assert bool(near) == (not apart) == bool(notes)
    if notes:
        assert f"{len({b for _, b in near})} touch a tile of train" in notes[0] and "0 overlap" in notes[0]
    again = FolderSegmentation(str(root), **BLOCKS, split_blocks=dealt).plan()
    assert {s: [p.id for p in pairs] for s, pairs in again.items.items()} == names


def test_blocks_take_the_place_of_any_file_of_a_scene(tmp_path):
    root = grid(tmp_path / "raw")
    (root / "rgb").mkdir()
    for i in range(36):
        made.save_png(root / "rgb" / f"{i:02d}.png", made.scene(i, 3, "uint8", (16, 16), 3)[0])
    dealt = {"size": 32.0, "seed": 3, "apart": False, "train": 0.7, "val": 0.3}
    alone = FolderSegmentation(str(root), **BLOCKS, split_blocks=dealt).plan()
    options = {**BLOCKS, "image_pattern": ("rgb/{id}.png", "img/{id}.tif"), "bands": tuple("abcdef")}
    beside = FolderSegmentation(str(root), **options, split_blocks=dealt).plan()
    assert [[p.id for p in pairs] for pairs in beside.items.values()] == [
        [p.id for p in x] for x in alone.items.values()
    ]
    assert beside.look()[0] == alone.look()[0] and "touch a tile of train" in beside.look()[0]


def test_leaks_between_folders_are_said(tmp_path):
    root = made.tiles(tmp_path / "raw", bands=3, count=2, size=(16, 16))
    for split, places in (("train", (0, 100)), ("val", (8, 116))):
        for i, west in enumerate(places):
            for kind in ("img/tile", "mask/mask"):
                path = root / split / f"{kind}_{i}.tif"
                made.georeferenced(path, tifffile.imread(path), west, 50.0)
    options = {**TILES, "bands": ("red", "green", "blue"), "classes": ("a", "b", "c")}
    card = pipeline.open_split(prepared(FolderSegmentation(str(root), **options), tmp_path), "val").card
    assert "SPATIAL LEAK: of 2 val tiles 1 overlap and 1 touch a tile of train" in card.describe()


def test_block_mistakes(tmp_path):
    root = grid(tmp_path / "raw", 3)
    good = {"size": 20.0, "seed": 0, "apart": False, "train": 0.5, "val": 0.5}
    for change, message in (
        ({"train": 0.9}, "shares that add up to 1"), ({"size": 0.0}, "give the side of a block"),
        ({"size": 1e6}, "lie in 1 block"),
        ({"size": 16.0, "apart": True, "train": 0.2, "val": 0.8}, "touches another split"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            FolderSegmentation(str(root), **BLOCKS, split_blocks={**good, **change}).plan()
    with pytest.raises(UserError, match="'test' is missing or unknown"):
        FolderSegmentation(str(root), **BLOCKS, split_blocks={**good, "test": 0.0}).plan()
    with pytest.raises(UserError, match=r"leave \{split\} out"):
        FolderSegmentation(str(root), **{**BLOCKS, "mask_pattern": "{split}/{id}.tif"}, split_blocks=good).plan()
    with pytest.raises(UserError, match="give one of them"):
        FolderSegmentation(str(root), **BLOCKS, split_blocks=good, split_lists={"train": "t.txt"}).plan()
    tifffile.imwrite(root / "img" / "05.tif", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=r"05\.tif has no position on the ground"):
        FolderSegmentation(str(root), **BLOCKS, split_blocks=good).plan()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 4)), min_size=2, max_size=14))
def test_touching_equals_brute_force(squares):
    boxes = [Bounds(x, y, x + s, y + s) for x, y, s in squares]
    half = len(boxes) // 2
    overlap, touch = ground.touching(boxes[:half], boxes[half:])
    for i, a in enumerate(boxes[:half]):
        reach = [
            (min(a.east, b.east) - max(a.west, b.west), min(a.north, b.north) - max(a.south, b.south))
            for b in boxes[half:]
        ]
        assert overlap[i] == any(x > 0 and y > 0 for x, y in reach)
        assert touch[i] == (not overlap[i] and any(x >= 0 and y >= 0 for x, y in reach))


@pytest.mark.parametrize(("seed", "share"), [(0, 0.5), (1, 0.2), (2, 0.8)])
def test_blocks_stay_whole_and_shares_are_met(seed, share):
    rng = np.random.default_rng(seed)
    places = {str(i): Bounds(x, y, x + 1, y + 1) for i, (x, y) in enumerate(rng.integers(0, 100, (400, 2)).tolist())}
    dealt = ground.split_by_blocks(places, 10.0, {"train": share, "val": 1 - share}, seed)
    assert sorted(dealt["train"] + dealt["val"]) == sorted(places) and abs(len(dealt["train"]) / 400 - share) < 0.03
    home = {
        s: {(places[n].west + 0.5) // 10 * 100 + (places[n].south + 0.5) // 10 for n in v} for s, v in dealt.items()
    }
    assert not home["train"] & home["val"]


@pytest.mark.parametrize("colours", [False, True])
def test_entries_without_a_name_are_ignored_pixels(colours, tmp_path):
    """Black, or 0, for "nobody looked here", as in masks of LoveDA and of mmsegmentation's Potsdam."""
    image, mask = made.scene(0, 3, "uint8", (12, 16), 4)
    made.save_png(tmp_path / "train" / "images" / "a.png", image)
    palette = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (9, 9, 9)]
    made.save_png(tmp_path / "train" / "masks" / "a.png", made.colours(mask, palette) if colours else mask)
    (tmp_path / "classes.csv").write_text("id,name,colour\n0,,#000000\n1,roof,#ff0000\n2,tree,#00ff00\n3,,#090909\n")
    options = FolderSegmentation(str(tmp_path), splits=("train",), class_table="classes.csv", mask_colours=colours)
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    assert split.card.classes == ("roof", "tree") and split.card.palette == ((255, 0, 0), (0, 255, 0))
    assert np.array_equal(split.decode(0)["label"], np.array([255, 0, 1, 255], np.uint8)[mask])
    (tmp_path / "classes.csv").write_text("id,name,colour\n0,,\n")
    with pytest.raises(UserError, match="names no class"):
        options.plan()


@needs_shared
def described(root: Path, train, val=None, files=((0, 1, 2, 3),)) -> FolderSegmentation:
    """A scene each of train and val, whose four bands are called so, in files of these bands."""
    for split, names in (("train", train), ("val", val or train)):
        image, mask = made.scene(len(split), 4, "uint8", (24, 24), 3)
        for number, places in enumerate(files):
            path = root / f"{split}_{number}" / "a.tif"
            pixels = image[..., list(places)] if len(places) > 1 else image[..., places[0]]
            made.georeferenced(path, pixels, 5e5 + 900 * (split == "val"), 4e6, 1)
            with rasterio.open(path, "r+") as file:
                file.descriptions = [names[i] for i in places]
        made.georeferenced(root / f"{split}_mask" / "a.tif", mask, 5e5 + 900 * (split == "val"), 4e6, 1)
    return FolderSegmentation(
        str(root), tuple(f"{{split}}_{number}/{{id}}.tif" for number in range(len(files))), "{split}_mask/{id}.tif",
        bands=TILES["bands"], classes=("a", "b", "c"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("Blue", "Green", "Red", "NIR"), ((0, 1, 2, 3),)),
        (("blue", "green", "red", ""), ((0, 1, 2, 3),)),
        (("Band 1 (Red)", "undefined", "red edge", "Band 4"), ((0, 1, 2, 3),)),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), ((0, 1, 2, 3),)),
        (("B2", "B3", "B4", "B8"), ((0,), (1,), (2,), (3,))),
        (("NIR", "red", "green", "blue"), ((0,), (1, 2, 3))),
        (("red", "green", "nir", "b"), ((0, 1), (2,), (3,))),
    ],
)
def test_files_that_describe_another_order_of_bands_are_refused(names, files, tmp_path):
    options = described(tmp_path, names, files=files)
    first = " + ".join(str(tmp_path / f"train_{number}" / "a.tif") for number in range(len(files)))
    said = f"{first} describes its bands as {', '.join(n or '(no name)' for n in names)}, but bands says red, green, blue, nir: "
    with pytest.raises(UserError, match=re.escape(said) + ".*name bands in the files' order"):
        options.plan()


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("Red", "Green", "Blue", "Near Infrared"), ((0, 1, 2, 3),)),
        (("B4", "B3", "B2", "B8"), ((0, 1, 2, 3),)),
        (("B4", "B3", "B2", "B8A"), ((0, 1, 2, 3),)),
        (("Band 1", "Band 2", "Band 3", "Band 4"), ((0, 1, 2, 3),)),
        (("b1", "b2", "b3", "b1"), ((0, 1, 2), (3,))),
        (("Band 1",) * 4, ((0,), (1,), (2,), (3,))),
        (("gray", "undefined", "", "IR"), ((0, 1, 2, 3),)),
        (("rot", "gruen", "blau", "thermal"), ((0, 1, 2), (3,))),
    ],
)
def test_descriptions_that_agree_or_say_nothing_are_no_matter(names, files, tmp_path):
    split = pipeline.open_split(prepared(described(tmp_path / "raw", names, files=files), tmp_path), "train")
    assert split.card.notes == () and split.card.channels == 4
    np.testing.assert_array_equal(split.decode(0)["image"], made.scene(5, 4, "uint8", (24, 24), 3)[0])


def test_scenes_that_describe_different_orders_are_refused(tmp_path):
    options = described(tmp_path / "raw", ("Red", "Green", "Blue", "NIR"), ("Blue", "Green", "Red", "NIR"))
    with pytest.raises(
        UserError, match=r"val_0/a\.tif describes its bands as Blue, Green, Red, NIR, but bands says red"
    ):
        prepared(options, tmp_path)
    unknown = dataclasses.replace(options, bands=("eins", "zwei", "drei", "vier"))
    with pytest.raises(
        UserError, match=r"Blue, Green, Red, NIR, but the first scene has Red, Green.*: bring all files to"
    ):
        prepared(unknown, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pixels"), [("potsdam", 262_144), ("vaihingen", 262_144)])
def test_isprs_crops_with_boundaries(name, pixels, tmp_path):
    """mmsegmentation's form: 0 is the eroded boundary, classes count from 1. Pillow reads the files independently."""
    root = SHARED / "isprs-mmseg-samples" / name
    names = ("impervious", "building", "low vegetation", "tree", "car", "clutter")
    table = tmp_path / "classes.csv"
    table.write_text("id,name,colour\n0,,\n" + "".join(f"{i},{n},\n" for i, n in enumerate(names, 1)))
    options = FolderSegmentation(
        str(root), "img_dir/{id}.png", "ann_dir/{id}.png", splits=("train",), class_table=str(table)
    )
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    example = split.decode(0)
    truth = np.asarray(Image.open(next((root / "ann_dir").iterdir())))
    assert truth.size == pixels and (truth == 0).any()
    assert np.array_equal(example["label"], np.where(truth == 0, 255, truth - 1))
    assert np.array_equal(example["image"], np.asarray(Image.open(next((root / "img_dir").iterdir())).convert("RGB")))


@needs_shared
@pytest.mark.slow
def test_six_band_landsat_from_single_band_files(tmp_path):
    """float32 and int16 bands with two nodata values and a float class map, listed in a CSV."""
    root = SHARED / "nc-landsat7-6band"
    bands = (10, 20, 30, 40, 50, 70)
    files = [str(root / f"lsat7_2000_{b}.tif") for b in bands]
    with open(tmp_path / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"image_{i}" for i in range(2, 7)), "mask"])
        writer.writerow([*files, str(root / "strata.tif")])
    names = ["developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment"]
    table = "".join(f"{i},{name},\n" for i, name in enumerate(names, 1))
    (tmp_path / "classes.csv").write_text("id,name,colour\n" + table)
    options = FolderSegmentation(
        str(tmp_path), splits=("train",), split_lists={"train": "train.csv"}, class_table="classes.csv",
        bands=("blue", "green", "red", "nir", "swir1", "swir2"),
    )  # fmt: skip
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    example = split.decode(0)
    raw = [tifffile.imread(f).astype(np.float32) for f in files]
    nodata = np.stack([r == (-32768 if b == 70 else -99999) for r, b in zip(raw, bands, strict=True)], -1)
    truth = tifffile.imread(root / "strata.tif")
    assert example["image"].shape == (443, 489, 6) and example["image"].dtype == np.float32
    assert nodata.sum((0, 1)).tolist() == [33209] * 5 + [81535]
    lost = nodata.any(-1) | (truth == -99999)
    assert (example["label"][lost] == 255).all()
    assert np.array_equal(example["label"][~lost], truth[~lost].astype(int) - 1)
    for i, values in enumerate(raw):
        measured = values[~nodata[..., i]]
        np.testing.assert_allclose(split.card.bands[i].mean, measured.mean(dtype=np.float64), rtol=1e-5)
        assert (example["image"][..., i][nodata[..., i]] == split.card.fill[i]).all()


# ---------------------------------------------------------------------------------------------------------- a look


def test_contact_sheet_shows_each_colour_of_the_palette(tmp_path):
    root = made.tiles(tmp_path / "raw")
    palette = ((10, 200, 30), (200, 0, 90), (0, 60, 220))
    options = FolderSegmentation(str(root), **TILES, classes=("a", "b", "c"), palette=palette)
    sheet = np.asarray(show.sheet(pipeline.open_split(prepared(options, tmp_path), "train"), 3))
    for colour in palette:
        assert (sheet == colour).all(2).sum() > 3 * show.CELL**2 / 10  # masks of three tiles, a third each
    mask = made.scene(0, 4, "uint8", (24, 24), 3)[1]
    where = np.argwhere((sheet == palette[mask[0, 0]]).all(2))[0]
    assert where[1] < 4 * (show.CELL + 6) and (sheet.shape[0] > 3 * show.CELL)


def test_ignored_pixels_look_like_no_class():
    options = FolderSegmentation("x", classes=("a", "b"), palette=((0, 0, 0), (255, 255, 255)))
    from genseg.data.card import Band, DatasetCard

    card = DatasetCard(
        "x", "segmentation", (Band("red"),), options.classes, options.palette, 255, (0, 1), {}, "none", True
    )
    out = show.colour_mask(np.array([[0, 1, 255]], np.uint8), card)
    assert out[0].tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 255]]


def test_show_command(tmp_path, capsys):
    root = made.photographs(tmp_path / "raw")
    argv = ["folder_classification", "--source", str(root), "--data_dir", str(tmp_path / "p"), "--output"]
    assert show.main([*argv, str(tmp_path / "pictures" / "sheet.png")]) == 0
    assert Image.open(tmp_path / "pictures" / "sheet.png").size[0] >= 700
    assert "Look at" in capsys.readouterr().out
    assert show.main([*argv, str(tmp_path / "s.png"), "--show_split", "none"]) == 2
    assert show.main([*argv, str(tmp_path / "s.png"), "--count", "0"]) == 2
    split = pipeline.open_split(storage.write(FolderClassification(str(root)).plan(), tmp_path / "p"), "val")
    assert show.sheet(split, 2).size[1] > 3 * 96


# -------------------------------------------------------------------------------------------- a network's own card


def _cards():
    from genseg.data.card import Band, DatasetCard

    bands = (Band("red", 10, 2, 0, 20), Band("nir", 100, 20, 0, 200, nodata=0))
    return DatasetCard("a", "segmentation", bands, ("soil", "roof"), (), 255, (0, 1), {"val": 1}, "", True)


def test_a_network_is_fed_through_its_own_statistics():
    from genseg.data.compare_cards import card_for_network

    network = _cards()
    other = dataclasses.replace(
        network, name="b", bands=(network.bands[0], dataclasses.replace(network.bands[1], mean=140, std=60, nodata=7))
    )
    assert card_for_network(network, network) is network
    fed = card_for_network(network, other)
    np.testing.assert_array_equal(fed.mean, network.mean)
    np.testing.assert_array_equal(fed.std, network.std)
    assert fed.bands[1].nodata == 7 and fed.name == "b" and fed.splits == other.splits
    assert len(fed.notes) == 1 and "nir (mean 100, std 20 in training; 140, 60 here)" in fed.notes[0]
    for change, message in (
        ({"bands": network.bands[::-1]}, "Band 0 is 'red' for the network, but 'nir' in a"),
        ({"bands": network.bands[:1]}, "trained with 2 band"),
        ({"classes": ("roof", "soil")}, "Class 0 is 'soil' for the network, but 'roof' in a"),
        ({"dtype": "uint16"}, "trained on uint8 pixels"),
    ):
        with pytest.raises(UserError, match=message):
            card_for_network(network, dataclasses.replace(network, **change))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_filling_leaves_the_pixels_that_it_was_given(dtype):
    card = dataclasses.replace(_cards(), dtype=dtype)
    image = np.arange(12, dtype=dtype).reshape(2, 3, 2)
    image[1, 1, 1] = 0
    before = image.copy()
    out = pipeline.filled(image, card)
    np.testing.assert_array_equal(image, before)
    assert out[1, 1, 1] == 100 and (out != before).sum() == 1
