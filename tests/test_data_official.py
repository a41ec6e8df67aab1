"""iSAID, MFNet, PST900 and Potsdam from their true layouts. Each trap has a test that fails without its handling."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tiny
from PIL import Image

from genseg import design, nets, start
from genseg.data import prepare
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.files import codec, rasters
from genseg.data.files.masks import colours_to_ids
from genseg.data.records import patches, storage
from genseg.data.sets import isaid, mfnet, potsdam, pst900, published_names
from genseg.errors import UserError
from genseg.predict import network
from tests.data import made

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the official sample files are not on this machine")


def prepared(options, tmp_path) -> Path:
    return storage.write(options.plan(), tmp_path / "prepared", progress=False)


def stitched(split: pipeline.Split, scene: str) -> tuple[np.ndarray, np.ndarray]:
    """A scene put together from its patches; overlaps must agree."""
    image = mask = None
    for i in range(len(split)):
        record = split.record(i)
        if record.scene == scene:
            example = split.decode(i)
            h, w = record.scene_height, record.scene_width
            if image is None:
                image = np.zeros((h, w, split.card.channels), split.card.dtype)
                mask = np.full((h, w), 254, np.uint8)
            here = (slice(record.row, record.row + example["label"].shape[0]), slice(record.column, None))
            here = (here[0], slice(record.column, record.column + example["label"].shape[1]))
            part = mask[here]
            inside = (slice(0, part.shape[0]), slice(0, part.shape[1]))
            assert ((part == 254) | (part == example["label"][inside])).all()
            image[here], mask[here] = example["image"][inside], example["label"][inside]
            outside = np.ones(example["label"].shape, bool)
            outside[inside] = False
            assert (example["label"][outside] == 255).all() and (example["image"][outside] == 0).all()
    return image, mask


# ---------------------------------------------------------------------------------------------------------- scenes


@pytest.mark.parametrize(("length", "expected"), [(10, [0, 3, 6]), (4, [0]), (3, [0]), (5, [0, 1]), (7, [0, 3])])
def test_patches_reach_the_border_without_duplicates(length, expected):
    assert patches.starts(length, 4, 3) == expected


def test_strides_that_leave_gaps_are_refused():
    for stride in (0, 5, -1):
        with pytest.raises(UserError, match="does not cover"):
            patches.windows(10, 10, 4, stride)


@needs_shared
@pytest.mark.parametrize(
    ("protocol", "patch", "stride", "expected"),
    [
        ("mmseg", 896, 512, {"train": 33_978, "val": 11_644}),
        ("rsp", 896, 512, {"train": 33_620, "val": 11_533}),
        ("rsp", 800, 600, {"train": 28_029, "val": 9_512}),  # the devkit's default
    ],
)
def test_patch_counts_of_all_official_scenes_are_the_published_ones(protocol, patch, stride, expected):
    for split in ("train", "val"):
        count = 0
        with open(SHARED / "isaid-sample" / "splits" / f"{split}.csv") as file:
            for row in csv.DictReader(file):
                h, w = int(row["height"]), int(row["width"])
                whole = protocol == "rsp" and min(h, w) <= patch
                count += 1 if whole else len(patches.windows(h, w, patch, stride))
        assert count == expected[split]
    assert patch != 896 or isaid.PATCHES[protocol] == expected


@pytest.mark.parametrize(
    ("patch", "stride", "train", "test"),
    [
        (512, 512, 3_456, 2_016), (512, 384, 6_144, 3_584), (512, 256, 12_696, 7_406), (1024, 1024, 864, 504),
        (512, 312, 361 * 24, 361 * 14),
    ],
)  # fmt: skip
def test_tile_counts_of_potsdam_are_the_published_ones(patch, stride, train, test):
    each = len(patches.windows(potsdam.SIZE, potsdam.SIZE, patch, stride))
    assert {s: each * len(tiles) for s, tiles in potsdam.SPLITS["official"].items()} == {"train": train, "test": test}


@needs_shared
def test_official_name_lists():
    for split in ("train", "val"):
        with open(SHARED / "isaid-sample" / "splits" / f"{split}.csv") as file:
            assert sorted(published_names.ISAID[split]) == sorted(row["image"][:5] for row in csv.DictReader(file))
    for split in ("train", "test"):
        lines = (SHARED / "pst900-sample" / "splits" / f"{split}.txt").read_text().split()
        assert sorted(f"{n}.png" for n in published_names.PST900[split]) == sorted(lines)


def test_official_counts():
    assert {s: len(set(n)) for s, n in published_names.ISAID.items()} == {"train": 1411, "val": 458}
    # Splitters of the devkit and PFSegNets skip these two: they are test scenes.
    assert not {"P1527", "P1530"} & {*published_names.ISAID["train"], *published_names.ISAID["val"]}
    assert {s: len(set(n)) for s, n in published_names.PST900.items()} == {"train": 597, "test": 288}
    assert {s: len(set(n)) for s, n in potsdam.SPLITS["official"].items()} == {"train": 24, "test": 14}
    for name in ("18_6", "audebert"):
        split = potsdam.SPLITS[name]
        assert len(split["train"]) == 18 and len(split["test"]) == 6
        assert set(split["train"]) | set(split["test"]) == set(potsdam.SPLITS["official"]["train"])
    geoseg = potsdam.SPLITS["geoseg"]
    assert (len(geoseg["train"]), geoseg["val"], geoseg["test"]) == (22, ("2_10",), potsdam.SPLITS["official"]["test"])
    assert set(potsdam.SPLITS["official"]["train"]) - set(geoseg["train"]) == {"2_10", "7_10"}
    assert sum(mfnet.COUNTS.values()) == 1569


def test_classes_palettes_and_averaged_classes_are_those_of_the_authors():
    """MFNet: RTFNet util/util.py. PST900: toolkit, whose table is in OpenCV's order. Potsdam: DeepNetsForEO, with clutter
    last (torchgeo has it first). iSAID's table: test_colour_order_matters."""
    assert list(mfnet.CLASSES.values()) == [
        (0, 0, 0), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 192), (128, 128, 0), (64, 64, 128), (192, 128, 128),
        (192, 64, 0),
    ]  # fmt: skip
    toolkit = [(0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)]
    assert list(pst900.CLASSES.values()) == [c[::-1] for c in toolkit]
    assert list(potsdam.CLASSES.items()) == [
        ("impervious", (255, 255, 255)), ("building", (0, 0, 255)), ("low vegetation", (0, 255, 255)),
        ("tree", (0, 255, 0)), ("car", (255, 255, 0)), ("clutter", (255, 0, 0)),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- iSAID


@pytest.fixture
def few_scenes(monkeypatch):
    monkeypatch.setattr(published_names, "ISAID", {"train": ["P0000", "P0001", "P0002"], "val": ["P0003"]})


@pytest.mark.parametrize("layout", ["devkit", "mmseg", "mmseg_zip"])
def test_isaid_layouts(layout, tmp_path, few_scenes, capsys):
    root = made.isaid(tmp_path / "raw", layout)
    folder = prepared(isaid.ISAID(str(root), patch=32, stride=20), tmp_path)
    split = pipeline.open_split(folder, "train")
    for i, (name, size) in enumerate((("P0000", (40, 72)), ("P0001", (100, 36)), ("P0002", (20, 90)))):
        expected, mask = made.scene(i, 3, "uint8", size, 16)
        image, ids = stitched(split, name)
        assert np.array_equal(ids, mask)  # the class map, not the instance map
        assert np.array_equal(image, np.repeat(expected[..., :1], 3, 2) if name == "P0001" else expected)
    assert split.card.scored == tuple(range(16)) and "INCOMPLETE" not in split.card.describe()
    found = [split.record(i) for i in range(len(split))]
    assert [(p.file_name, p.scene, p.row, p.column) for p in split.places] == [
        (r.file_name, r.scene, r.row, r.column) for r in found
    ]
    assert {(p.height, p.width) for p in split.places} == {(32, 32)}
    assert len(split) == 2 * 3 + 5 * 2 + 1 * 4 and "found expected" in capsys.readouterr().out


def test_isaid_statistics_count_every_pixel_once(tmp_path, few_scenes):
    folder = prepared(isaid.ISAID(str(made.isaid(tmp_path / "raw")), patch=32, stride=20), tmp_path)
    pixels = []
    for i, size in enumerate(((40, 72), (100, 36), (20, 90))):
        image = made.scene(i, 3, "uint8", size, 16)[0]
        pixels.append((np.repeat(image[..., :1], 3, 2) if i == 1 else image).reshape(-1, 3))
    np.testing.assert_allclose(DatasetCard.read(folder).mean, np.concatenate(pixels).mean(0), rtol=1e-6)


def test_isaid_rsp_resizes_small_scenes_whole(tmp_path, few_scenes):
    folder = prepared(isaid.ISAID(str(made.isaid(tmp_path / "raw")), patch=36, stride=20, protocol="rsp"), tmp_path)
    split = pipeline.open_split(folder, "train")
    names = [split.record(i).scene for i in range(len(split))]
    assert names.count("P0001") == 1 and names.count("P0002") == 1  # a side of at most 36
    assert all(split.decode(i)["image"].shape == (36, 36, 3) for i in range(len(split)))


def test_isaid_published_counts_are_checked(tmp_path, few_scenes, monkeypatch):
    root = made.isaid(tmp_path / "raw")
    monkeypatch.setattr(isaid, "PATCHES", {"mmseg": {"train": 3, "val": 1}})
    assert DatasetCard.read(prepared(isaid.ISAID(str(root)), tmp_path)).splits == {"train": 3, "val": 1}
    monkeypatch.setattr(isaid, "PATCHES", {"mmseg": {"train": 4, "val": 1}})
    with pytest.raises(UserError, match="3 train records of isaid came out, but 4 are published"):
        prepared(isaid.ISAID(str(root)), tmp_path / "again")


def test_isaid_mistakes(tmp_path, few_scenes):
    root = made.isaid(tmp_path / "raw")
    wrong = root / "train" / "images" / "P0001_instance_color_RGB.png"
    good = wrong.read_bytes()
    pixels = codec.decode_image(good, "x").copy()
    pixels[3, 5] = (1, 2, 3)
    made.save_png(wrong, pixels)
    with pytest.raises(
        UserError, match=r"P0001_instance_color_RGB\.png holds the colour \(1, 2, 3\) at row 3, column 5"
    ):
        prepared(isaid.ISAID(str(root), patch=32, stride=20), tmp_path)
    made.save_png(wrong, codec.decode_image(good, "x")[:-1])
    with pytest.raises(UserError, match=r"P0001\.png has 100 x 36 pixels, its mask 99 x 36"):
        prepared(isaid.ISAID(str(root), patch=32, stride=20), tmp_path)
    wrong.unlink()
    with pytest.raises(UserError, match=r"1 of 3 train masks are missing, the first is P0001_instance_color_RGB\.png"):
        isaid.ISAID(str(root)).plan()
    card = isaid.ISAID(str(root), allow_incomplete=True).plan().card
    assert "INCOMPLETE: 1 of 3 train masks" in card.describe()
    with pytest.raises(UserError, match="no protocol 'coco'"):
        isaid.ISAID(str(root), protocol="coco").plan()
    (root / "val" / "images" / "odd.zip").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=r"odd\.zip cannot be opened"):
        isaid.ISAID(str(root)).plan()


def test_colour_order_matters():
    """Ground track field is (0, 63, 255); read as blue, green, red it would be no colour of the table."""
    ids = {c: i for i, c in enumerate(isaid.CLASSES.values())}
    mask = made.colours(np.arange(16).reshape(4, 4), list(ids))
    assert np.array_equal(colours_to_ids(mask, ids, "x"), np.arange(16).reshape(4, 4))
    with pytest.raises(UserError, match="which no class has"):
        colours_to_ids(mask[..., ::-1], ids, "x")
    with open(SHARED / "isaid-sample" / "isaid_colours.csv") if SHARED.is_dir() else io.StringIO() as file:
        table = {int(r["index"]): (int(r["R"]), int(r["G"]), int(r["B"])) for r in csv.DictReader(file)}
    assert not table or list(table.values()) == list(ids)


@needs_shared
@pytest.mark.slow
def test_official_isaid_scenes(tmp_path, monkeypatch):
    """The class histogram of the stitched patches equals a count of colours with Pillow, which shares no code."""
    monkeypatch.setattr(published_names, "ISAID", {"train": ["P0005"], "val": ["P0003"]})
    monkeypatch.setattr(isaid, "PATCHES", {"mmseg": {"train": 2, "val": 4}})
    folder = prepared(isaid.ISAID(str(SHARED / "isaid-sample")), tmp_path)
    for name, scene, counts in (
        ("train", "P0005", {0: 708285, 9: 20325, 8: 135058}),
        ("val", "P0003", {0: 1098554, 9: 11720, 8: 62704, 2: 403}),
    ):
        split = pipeline.open_split(folder, name)
        image, mask = stitched(split, scene)
        assert dict(zip(*np.unique(mask, return_counts=True), strict=True)) == counts
        source = SHARED / "isaid-sample" / name / "images"
        assert np.array_equal(image, np.asarray(Image.open(source / f"{scene}.png").convert("RGB")))
        colours = Image.open(source / f"{scene}_instance_color_RGB.png").convert("RGB").getcolors(1 << 24)
        palette = list(isaid.CLASSES.values())
        assert {palette.index(c): n for n, c in colours} == counts


# ----------------------------------------------------------------------------------------------------------- MFNet


@pytest.fixture
def few_pairs(monkeypatch):
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 3, "val": 2, "test": 3})
    monkeypatch.setattr(mfnet, "SIZE", (24, 32))


@pytest.mark.parametrize("layout", ["official", "separated", "cmx", "sigma", "cmnext"])
def test_mfnet_layouts(layout, tmp_path, few_pairs):
    split = pipeline.open_split(prepared(mfnet.MFNet(str(made.mfnet(tmp_path / "raw", layout))), tmp_path), "train")
    assert [split.record(i).scene for i in range(len(split))] == ["00001D", "00002N", "00003D"]  # no _flip
    for i, number in enumerate((1, 2, 3)):
        image, mask = made.scene(number, 4, "uint8", (24, 32), 9)
        example = split.decode(i)
        assert np.array_equal(example["image"][..., :3], image[..., :3])
        assert np.array_equal(example["image"][..., 3], 255 - image[..., 3])  # thermal, neither lost nor multiplied in
        assert np.array_equal(example["label"], mask)
    assert split.card.splits == {"train": 3, "val": 2, "test": 3}


def test_mfnet_in_an_archive(tmp_path, few_pairs):
    made.mfnet(tmp_path / "raw" / "ir_seg_dataset")
    made.zipped(tmp_path / "raw" / "ir_seg_dataset", tmp_path / "raw" / "ir_seg_dataset.zip")
    split = pipeline.open_split(prepared(mfnet.MFNet(str(tmp_path / "raw")), tmp_path), "test")
    assert np.array_equal(split.decode(1)["label"], made.scene(7, 4, "uint8", (24, 32), 9)[1])


@pytest.mark.parametrize("first", [60, 41])  # a wrong checksum; a block of no known kind
def test_damaged_archives_are_named(first, tmp_path, few_pairs):
    """Damage to what is stored, which the archive's list of names does not show."""
    root = made.mfnet(tmp_path / "raw")
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
    made.save_png(root / "images" / "00007N.png", noise)
    archive = root / "images.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted((root / "images").iterdir()):
            out.write(path, path.name)
        start = out.getinfo("00007N.png").header_offset
    shutil.rmtree(root / "images")
    data = bytearray(archive.read_bytes())
    data[start + first : start + first + 900] = b"\xff" * 900
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"Cannot read .*images\.zip/00007N\.png .*: download the archive again"):
        prepared(mfnet.MFNet(str(root)), tmp_path)
    assert not list((tmp_path / "prepared").iterdir())


def test_archives_without_a_folder_of_their_name(tmp_path, few_pairs, few_frames):
    """images.zip may hold images/00001D.png or 00001D.png alone."""
    for made_here, options, folders in (
        (made.mfnet, mfnet.MFNet, ("images", "labels")), (made.pst900, pst900.PST900, ("train", "test")),
    ):  # fmt: skip
        root = made_here(tmp_path / options.__name__)
        expected = prepared(options(str(root)), tmp_path / "folders")
        for folder in folders:
            made.zipped(root / folder, root / f"{folder}.zip", flat=True)
        folder = prepared(options(str(root)), tmp_path / "archives")
        here, there = pipeline.open_split(folder, "test"), pipeline.open_split(expected, "test")
        assert here.places == there.places and [*here.source] == [*there.source]
        assert folder.name == expected.name  # packing changes nothing


def test_mfnet_day_and_night_groups(tmp_path, few_pairs):
    import re

    split = pipeline.open_split(prepared(mfnet.MFNet(str(made.mfnet(tmp_path / "raw"))), tmp_path), "test")
    names = [split.record(i).file_name for i in range(3)]
    groups = {g: [bool(re.search(e, n)) for n in names] for g, e in split.card.groups}
    assert groups == {"day": [True, False, True], "night": [False, True, False]}


def test_mfnet_protocols_and_training_on_val(tmp_path, few_pairs):
    root = str(made.mfnet(tmp_path / "raw"))
    assert mfnet.MFNet(root).plan().card.scored == tuple(range(9))
    assert mfnet.MFNet(root, protocol="foreground").plan().card.scored == tuple(range(1, 9))
    assert [mfnet.MFNet(root, protocol=p).plan().card.absent for p in mfnet.PROTOCOLS] == ["skip", "zero", "skip"]
    plan = mfnet.MFNet(root, train_on="train+val").plan()
    assert len(plan.items["train"]) == 5 and "Trained on train + val" in plan.card.describe()
    for options in ({"protocol": "x"}, {"train_on": "test"}):
        with pytest.raises(UserError, match=r"'x'|'test'"):
            mfnet.MFNet(root, **options).plan()


def test_a_prepared_copy_of_other_options_is_not_taken(tmp_path, few_pairs):
    """Without raw files a config gets the copy that was made with its own options, or none."""
    root, data_dir = made.mfnet(tmp_path / "raw"), tmp_path / "data"
    raw = {"name": "mfnet", "source": str(root), "train_on": "train", "protocol": "rtfnet", "allow_incomplete": False}
    raw |= {"skip_corrupt": False}
    usual = prepare.ensure_prepared(raw, data_dir, progress=False)
    copy = raw | {"source": ""}
    assert prepare.ensure_prepared(copy, data_dir) == usual
    with pytest.raises(UserError, match="was prepared with protocol='rtfnet', but the config says 'foreground'"):
        prepare.ensure_prepared(copy | {"protocol": "foreground"}, data_dir)
    other = prepare.ensure_prepared(raw | {"protocol": "foreground"}, data_dir, progress=False)
    assert prepare.ensure_prepared(copy | {"protocol": "foreground"}, data_dir) == other != usual
    assert prepare.ensure_prepared(copy, data_dir) == usual


def test_resized_and_16_bit_copies_are_refused(tmp_path, few_pairs, few_frames, monkeypatch):
    """Scores of resized labels belong to no protocol, and 16-bit thermal would wrap around in 8 bits."""
    flat = made.mfnet(tmp_path / "mfnet", "cmx")
    monkeypatch.setattr(mfnet, "SIZE", (480, 640))
    with pytest.raises(UserError, match=r"00001D\.png has 24 x 32 pixels, the official images 480 x 640"):
        prepared(mfnet.MFNet(str(flat)), tmp_path)
    root = made.pst900(tmp_path / "pst900")
    thermal = root / "test" / "thermal" / f"{published_names.PST900['test'][0]}.png"
    made.save_png(thermal, np.full((18, 32), 300, np.uint16))
    with pytest.raises(UserError, match=rf"{thermal.name} holds uint16 values: uint8 is expected"):
        prepared(pst900.PST900(str(root)), tmp_path)
    monkeypatch.setattr(pst900, "SIZE", (720, 1280))
    with pytest.raises(UserError, match="18 x 32 pixels, the official images 720 x 1280"):
        prepared(pst900.PST900(str(root), thermal="thermal_raw"), tmp_path)


def test_mfnet_mistakes(tmp_path, few_pairs, monkeypatch):
    root = made.mfnet(tmp_path / "raw")
    made.save_png(root / "images" / "00004N.png", np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"00004N\.png has 3 bands: an RGBA file"):
        prepared(mfnet.MFNet(str(root)), tmp_path)
    (root / "labels" / "00005D.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 val pairs are missing, the first is 00005D \(label\)"):
        mfnet.MFNet(str(root)).plan()
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 784, "val": 2, "test": 3})
    with pytest.raises(UserError, match="781 of 784 train pairs are missing"):
        mfnet.MFNet(str(root)).plan()
    assert "INCOMPLETE" in mfnet.MFNet(str(root), allow_incomplete=True).plan().card.describe()
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 2, "val": 2, "test": 3})
    made.save_png(root / "labels" / "00005D.png", np.zeros((24, 32), np.uint8))
    with pytest.raises(UserError, match=r"train\.txt of MFNet lists 3 images, the official one 2"):
        mfnet.MFNet(str(root)).plan()
    (root / "val.txt").unlink()
    with pytest.raises(UserError, match=r"has no list val\.txt"):
        mfnet.MFNet(str(root)).plan()


@needs_shared
@pytest.mark.slow
def test_real_mfnet_images(tmp_path):
    options = mfnet.MFNet(str(SHARED / "mfnet-subset"), allow_incomplete=True)
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    assert split.card.splits == {"train": 48, "val": 8, "test": 8} and "INCOMPLETE" in split.card.describe()
    for i in (0, 30):
        name = split.record(i).scene
        reference = np.asarray(Image.open(SHARED / "mfnet-subset" / "images" / f"{name}.png"))
        example = split.decode(i)
        assert reference.shape == (480, 640, 4) and np.array_equal(example["image"], reference)
        label = np.asarray(Image.open(SHARED / "mfnet-subset" / "labels" / f"{name}.png"))
        assert np.array_equal(example["label"], label)


# ---------------------------------------------------------------------------------------------------------- PST900


@pytest.fixture
def few_frames(monkeypatch):
    monkeypatch.setattr(
        published_names, "PST900", {s: n[: 2 if s == "train" else 1] for s, n in published_names.PST900.items()}
    )
    monkeypatch.setattr(pst900, "SIZE", (18, 32))


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("layout", ["official", "sigma"])
def test_pst900_one_or_three_thermal_channels(three, layout, tmp_path, few_frames):
    root = made.pst900(tmp_path / "raw", three, layout)
    split = pipeline.open_split(prepared(pst900.PST900(str(root)), tmp_path), "train")
    image, mask = made.scene(1, 4, "uint8", (18, 32), 5)
    image[:5, :, 3] = 0
    example = split.decode(1)
    assert np.array_equal(example["image"], image) and np.array_equal(example["label"], mask)
    assert split.card.splits == {"train": 2, "test": 1} and split.card.bands[3].low == 0
    assert split.card.scored == (0, 1, 2, 3, 4) and split.card.absent == "skip"
    assert split.card.palette[1] == (255, 0, 0)  # the toolkit's table is blue, green, red


def test_pst900_holes_and_raw(tmp_path, few_frames):
    root = str(made.pst900(tmp_path / "raw"))
    split = pipeline.open_split(prepared(pst900.PST900(root, thermal="thermal_raw", hole="mean"), tmp_path), "train")
    image, mask = made.scene(0, 4, "uint8", (18, 32), 5)
    example = split.decode(0)
    assert example["image"].dtype == np.uint16 and np.array_equal(example["image"][..., :3], image[..., :3])
    assert np.array_equal(example["image"][5:, :, 3], image[5:, :, 3].astype(np.uint16) * 100)
    assert (example["image"][:5, :, 3] == round(split.card.bands[3].mean)).all()
    assert split.card.bands[3].low > 0 and split.card.name == "pst900_raw"
    assert np.array_equal(example["label"], mask)  # what lies under a hole is still scored, and has a class in maps
    raw = rasters.Raster(
        [
            Path(root, "train", "rgb", f"{published_names.PST900['train'][0]}.png"),
            Path(root, "train", "thermal_raw", f"{published_names.PST900['train'][0]}.png"),
        ]
    )
    seen = network.Measured(raw, split.card)
    assert np.array_equal(seen[0:18, 0:32], example["image"]) and seen.measured(0, 18) is None


def test_pst900_mistakes(tmp_path, few_frames):
    root = made.pst900(tmp_path / "raw")
    name = published_names.PST900["train"][1]
    (root / "train" / "thermal" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=f"1 of 2 train thermal are missing, the first is train/thermal/{name}.png"):
        pst900.PST900(str(root)).plan()
    assert len(pst900.PST900(str(root), allow_incomplete=True).plan().items["train"]) == 1
    (root / "train" / "labels" / f"{published_names.PST900['train'][0]}.png").unlink()
    card = DatasetCard.read(prepared(pst900.PST900(str(root), allow_incomplete=True), tmp_path / "without"))
    assert "no training images: mean, std and range of the bands are those of 'test'" in card.describe()
    with pytest.raises(UserError, match="hole is 'inpaint'"):
        pst900.PST900(str(root), hole="inpaint").plan()
    test = root / "test" / "labels" / f"{published_names.PST900['test'][0]}.png"
    made.save_png(test, np.full((18, 32), 9, np.uint8))
    with pytest.raises(UserError, match="holds the label 9"):
        prepared(pst900.PST900(str(root), allow_incomplete=True), tmp_path)


@needs_shared
@pytest.mark.slow
def test_real_pst900_image(tmp_path):
    options = pst900.PST900(str(SHARED / "pst900-sample"), allow_incomplete=True)
    split = pipeline.open_split(prepared(options, tmp_path), "test")
    example = split.decode(0)
    shares = np.bincount(example["label"].ravel(), minlength=5) / example["label"].size
    assert example["image"].shape == (720, 1280, 4) and "INCOMPLETE" in split.card.describe()
    # Areas that dataset-ninja/pst900-rgbt lists for this file.
    np.testing.assert_allclose(shares[1:4], (0.0056, 0.0161, 0.0056), atol=1e-4)


# --------------------------------------------------------------------------------------------------------- Potsdam

SIZE = 40


@pytest.fixture
def few_tiles(monkeypatch):
    monkeypatch.setattr(potsdam, "SIZE", SIZE)
    monkeypatch.setitem(potsdam.SPLITS, "official", {"train": ("2_10", "4_12", "6_7"), "test": ("3_13",)})


def small(root: Path, **options) -> potsdam.Potsdam:
    return potsdam.Potsdam(str(root), patch=16, stride=12, **options)


def test_potsdam_default_bands_and_labels(tmp_path, few_tiles):
    folder = prepared(small(made.potsdam(tmp_path / "raw", SIZE)), tmp_path)
    train, test = (pipeline.open_split(folder, s) for s in ("train", "test"))
    assert [b.name for b in train.card.bands] == ["red", "green", "blue", "ir", "ndsm"] and train.card.dtype == "uint8"
    for number, (tile, split) in enumerate((("2_10", train), ("4_12", train), ("6_7", train), ("3_13", test))):
        expected, mask = made.scene(number, 4, "uint8", (SIZE, SIZE), 6)
        image, ids = stitched(split, tile)
        assert np.array_equal(image[..., :4], expected)
        assert (np.abs(image[..., 4].astype(int) - (40 + number)) <= 1).all()  # JPEG
        # Lossy labels are read like clean ones; clutter (5) is ignored in this protocol.
        assert np.array_equal(ids, np.where(mask == 5, 255, mask)), tile
    assert len(train.card.classes) == 5 and train.card.scored == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("flat", [False, True])
def test_potsdam_archives(flat, tmp_path, few_tiles):
    """As downloaded: image archives hold a folder of their own name, those of labels do not."""
    root = made.potsdam(tmp_path / "raw" / "Potsdam", SIZE)
    expected = prepared(small(root), tmp_path / "folders")
    for folder in sorted(root.iterdir()):
        made.zipped(folder, root / f"{folder.name}.zip", flat)
    folder = prepared(small(tmp_path / "raw"), tmp_path / "archives")
    for name in ("train", "test"):
        here, there = pipeline.open_split(folder, name), pipeline.open_split(expected, name)
        assert [here.source[i] for i in range(len(here))] == [there.source[i] for i in range(len(there))]


def test_archives_in_an_archive_are_said(tmp_path, few_tiles, caplog):
    """The whole download is one archive of archives."""
    root = made.potsdam(tmp_path / "raw" / "Potsdam", SIZE)
    for folder in sorted(root.iterdir()):
        made.zipped(folder, root / f"{folder.name}.zip")
    made.zipped(root, tmp_path / "raw" / "Potsdam.zip")
    with pytest.raises(UserError, match="3 of 3 train images are missing"):
        small(tmp_path / "raw").plan()
    assert "Potsdam.zip holds archives such as Potsdam/1_DSM.zip" in caplog.text and "unpack it" in caplog.text


def test_exact_colours_would_lose_the_lossy_tiles(tmp_path, few_tiles):
    """What the threshold is for: without it 4_12 cannot be read, and 6_7 has no cars."""
    root = made.potsdam(tmp_path / "raw", SIZE)
    palette = {c: i for i, c in enumerate(potsdam.CLASSES.values())}
    for tile in ("4_12", "6_7"):
        label = tifffile.imread(root / "5_Labels_all" / f"top_potsdam_{tile}_label.tif")
        with pytest.raises(UserError, match="which no class has"):
            colours_to_ids(label, palette, tile)


def test_potsdam_label_sets_and_protocols(tmp_path, few_tiles):
    root = made.potsdam(tmp_path / "raw", SIZE)
    for protocol, rows in (
        ("geoseg", (False, True)), ("mmseg", (True, True)), ("rsp", (False, False)), ("aerialformer", (True, True)),
    ):  # fmt: skip
        folder = prepared(small(root, protocol=protocol), tmp_path)
        card, five = DatasetCard.read(folder), protocol in ("rsp", "aerialformer")
        # 4_12 went through lossy coding, its black borders too.
        for name, tile, number, eroded in (
            ("train", "2_10", 0, rows[0]), ("train", "4_12", 1, rows[0]), ("test", "3_13", 3, rows[1]),
        ):  # fmt: skip
            mask = made.scene(number, 4, "uint8", (SIZE, SIZE), 6)[1]
            expected = np.where(mask == 5, 255, mask) if five else mask.copy()
            if eroded:
                expected[::4] = 255
            assert np.array_equal(stitched(pipeline.open_split(folder, name), tile)[1], expected), (protocol, tile)
        assert len(card.classes) == (5 if five else 6)
        assert card.scored == tuple(range(6 if protocol == "mmseg" else 5))


def test_potsdam_heights(tmp_path, few_tiles):
    root = made.potsdam(tmp_path / "raw", SIZE)
    folder = prepared(small(root, bands=("ir", "dsm")), tmp_path)
    split = pipeline.open_split(folder, "test")
    image, _ = stitched(split, "3_13")
    height = np.linspace(30, 60, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    assert image.dtype == np.float32 and np.array_equal(image[:, :-1, 1], height[:, :-1])
    assert np.array_equal(image[:, -1, 1], height[:, -2])  # the missing column repeats the last one
    assert np.array_equal(image[..., 0], made.scene(3, 4, "uint8", (SIZE, SIZE), 6)[0][..., 3])
    folder = prepared(small(root, bands=("red", "dsm_minmax")), tmp_path)
    image, _ = stitched(pipeline.open_split(folder, "train"), "2_10")
    assert image.dtype == np.uint8 and (image[..., 1].min(), image[..., 1].max()) == (0, 255)


def test_potsdam_infrared_from_two_files(tmp_path, few_tiles):
    """Without RGBIR files, red, green and blue come from RGB and infrared from IRRG, where it is the first band."""
    root = made.potsdam(tmp_path / "raw", SIZE)
    for path in list((root / "4_Ortho_RGBIR" / "4_Ortho_RGBIR").iterdir()):
        pixels = tifffile.imread(path)
        tile = path.name.removeprefix("top_potsdam_").removesuffix("_RGBIR.tif")
        tifffile.imwrite(root / f"top_potsdam_{tile}_RGB.tif", pixels[..., :3], photometric="rgb")
        tifffile.imwrite(root / f"top_potsdam_{tile}_IRRG.tif", pixels[..., [3, 0, 1]], photometric="rgb")
        path.unlink()
    folder = prepared(small(root), tmp_path)
    image, _ = stitched(pipeline.open_split(folder, "train"), "6_7")
    assert np.array_equal(image[..., :4], made.scene(2, 4, "uint8", (SIZE, SIZE), 6)[0])


def test_potsdam_mistakes(tmp_path, few_tiles):
    root = made.potsdam(tmp_path / "raw", SIZE)
    height = root / "1_DSM_normalisation" / "dsm_potsdam_04_12_normalized_lastools.jpg"
    height.rename(tmp_path / "away.jpg")
    message = r"1 of 3 train ndsm are missing, the first is dsm_potsdam_04_12_normalized_lastools\.jpg"
    with pytest.raises(UserError, match=message):
        small(root).plan()
    assert "INCOMPLETE" in small(root, allow_incomplete=True).plan().card.describe()
    # `ownapproach` heights, some of which are empty, are read only where they are asked for.
    with pytest.raises(UserError, match=r"normalized_ownapproach\.jpg cannot be decoded \(it is empty\)"):
        prepared(small(root, bands=("red", "ndsm_own")), tmp_path)
    made.save_png(height, np.zeros((SIZE, SIZE), np.uint16))
    with pytest.raises(UserError, match=r"dsm_potsdam_04_12_normalized_lastools\.jpg holds uint16 values: uint8"):
        prepared(small(root), tmp_path)
    for options, message in (
        ({"split": "x"}, "no split 'x'"), ({"protocol": "x"}, "no protocol 'x'"),
        ({"bands": ("nir",)}, "no band 'nir'"), ({"bands": ()}, "bands is empty"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            small(root, **options).plan()
    tifffile.imwrite(root / "1_DSM" / "dsm_potsdam_02_10.tif", np.zeros((SIZE, SIZE - 2), np.float32))
    with pytest.raises(UserError, match="40 x 38 pixels: 40 x 40 are expected"):
        prepared(small(root, bands=("red", "dsm")), tmp_path)


def test_a_run_does_not_go_on_with_other_labels(tmp_path, few_pairs, monkeypatch):
    """Swapped classes leave the card, whose statistics are the images', as it was."""
    monkeypatch.setitem(nets.BACKBONES, "convnext_tiny", tiny.narrow)

    def run(source: Path, allowed: str = "") -> design.Setup:
        config = tiny.target("mfnet", source, tmp_path / "data")
        config.checkpoint.allow_changes = allowed
        return design.setup(config.lock(), str(tmp_path / "run"))

    meta = run(made.mfnet(tmp_path / "raw")).meta
    moved = shutil.move(tmp_path / "raw", tmp_path / "moved")
    start.check_same_run(run(moved), meta)
    for path in (moved / "labels").glob("*.png"):
        mask = codec.decode_mask(path.read_bytes(), path.name)
        made.save_png(path, np.where(mask == 1, 2, np.where(mask == 2, 1, mask)).astype(np.uint8))
    edited = run(moved)
    with pytest.raises(UserError, match=r"card\.files: those of mfnet hold something else.*allow_changes=card\.files"):
        start.check_same_run(edited, meta)
    start.check_same_run(run(moved, "card.files"), meta)
    start.check_same_run(
        edited, {key: value for key, value in meta.items() if key != "contents"}
    )  # of an older version


def test_incomplete_sets_are_said_at_every_start(tmp_path, few_pairs, caplog, monkeypatch):
    """By each run, from raw files and from the prepared copy alone; and only complete sets need no flag."""
    monkeypatch.setitem(nets.BACKBONES, "convnext_tiny", tiny.narrow)
    config = tiny.target("mfnet", made.mfnet(tmp_path / "raw"), tmp_path / "data")
    whole = prepare.ensure_prepared(config.data, tmp_path / "data", progress=False)
    config.data.allow_incomplete = True
    assert prepare.ensure_prepared(config.data, tmp_path / "data", progress=False) == whole
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 784, "val": 392, "test": 393})
    (tmp_path / "raw" / "labels" / "00003D.png").unlink()
    for source in (str(tmp_path / "raw"), ""):
        config.data.source, config.data.data_dir = source, str(tmp_path / "partly")
        caplog.clear()
        with caplog.at_level("INFO"):
            design.setup(config, str(tmp_path / "run"))
        said = [r.getMessage() for r in caplog.records if r.name == "genseg.design"]
        assert "INCOMPLETE: 782 of 784 train pairs are missing" in said[0]


def test_incomplete_sets_are_said_at_the_command_line(tmp_path, few_tiles, capsys):
    root = made.potsdam(tmp_path / "raw", SIZE, ("2_10", "4_12", "3_13"))
    argv = ["potsdam", "--source", str(root), "--data_dir", str(tmp_path / "p"), "--patch", "16", "--stride", "16"]
    assert prepare.main(argv) == 2
    captured = capsys.readouterr()
    assert "train images" in captured.out and "top_potsdam_6_7_RGBIR.tif" in captured.err
    assert not list((tmp_path / "p").glob("*")) if (tmp_path / "p").exists() else True
    assert prepare.main([*argv, "--allow_incomplete"]) == 0
    assert "INCOMPLETE: 1 of 3 train images are missing" in capsys.readouterr().out
