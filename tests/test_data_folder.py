"""Folders: every mistake that a user can make in a layout ends in one sentence that names the thing."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.data.batches import pipeline
from genseg.data.files import codec
from genseg.data.records import storage
from genseg.data.sets.own import FolderSegmentation
from genseg.data.sets.photographs import FolderClassification
from genseg.errors import UserError
from tests.data import made

TILES = {
    "image_pattern": "{split}/img/tile_{id}.tif", "mask_pattern": "{split}/mask/mask_{id}.tif",
    "splits": ("train", "val"), "bands": ("red", "green", "blue", "nir"), "classes": ("a", "b", "c"),
}  # fmt: skip


def prepared(options, tmp_path):
    return storage.write(options.plan(), tmp_path / "prepared", progress=False)


@pytest.fixture
def tiles(tmp_path):
    return made.tiles(tmp_path / "tiles")


@pytest.fixture
def photographs(tmp_path):
    return made.photographs(tmp_path / "photographs")


def test_photographs(photographs, tmp_path):
    split = pipeline.open_split(prepared(FolderClassification(str(photographs)), tmp_path), "train")
    assert split.card.classes == ("class_0", "class_1", "class_2") and len(split) == 18
    examples = [split.decode(i) for i in range(18)]
    assert all(e["image"].shape == (20, 24, 3) and e["image"].dtype == np.uint8 for e in examples)
    assert [e["label"] for e in examples] == [0] * 6 + [1] * 6 + [2] * 6
    grey = examples[1]["image"]
    assert (grey == grey[..., :1]).all() and not (examples[0]["image"] == examples[0]["image"][..., :1]).all()
    for e in examples:
        assert abs(e["image"].mean() - (60 + 60 * e["label"])) < 15


def test_missing_data_set(tmp_path):
    for options in (FolderClassification, FolderSegmentation):
        with pytest.raises(UserError, match=r"There is no data set at .*nowhere"):
            options(str(tmp_path / "nowhere")).plan()
        with pytest.raises(UserError, match="source is empty"):
            options("").plan()


def test_missing_split(photographs, tiles):
    with pytest.raises(UserError, match="no split 'test'"):
        FolderClassification(str(photographs), ("train", "test")).plan()
    with pytest.raises(UserError, match="no split 'extra'"):
        FolderSegmentation(str(tiles), **{**TILES, "splits": ("train", "extra")}).plan()


def test_empty_and_odd_class_folders(photographs):
    (photographs / "val" / "class_9").mkdir()
    with pytest.raises(UserError, match=r"'class_9' is in .*val but not in 'train'"):
        FolderClassification(str(photographs)).plan()
    (photographs / "train" / "class_9").mkdir()
    with pytest.raises(UserError, match="train/class_9 holds no JPEG or PNG"):
        FolderClassification(str(photographs)).plan()


def test_no_class_folders(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="holds no class folders"):
        FolderClassification(str(tmp_path)).plan()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 5, 13])
def test_any_bands_and_dtype(bands, dtype, tmp_path):
    root = made.tiles(tmp_path / "raw", bands, dtype)
    options = {**TILES, "bands": tuple(f"b{i}" for i in range(bands))}
    split = pipeline.open_split(prepared(FolderSegmentation(str(root), **options), tmp_path), "val")
    image, mask = made.scene(102, bands, dtype, (24, 24), 3)
    example = split.decode(2)
    assert example["image"].dtype == dtype == split.card.dtype
    assert np.array_equal(example["image"], image) and np.array_equal(example["label"], mask)
    batch = next(
        pipeline.eval_batches(split, transform=lambda r, _: {"image": r["image"], "label": r["label"]}, batch_size=3)
    )
    assert batch["image"].dtype == ("uint8" if dtype == "uint8" else "float32")


def test_rgba_png_with_lists(tmp_path):
    (tmp_path / "raw" / "images").mkdir(parents=True)
    (tmp_path / "raw" / "labels").mkdir()
    for name in ("00001D", "00002N", "00003D"):
        image, mask = made.scene(int(name[:5]), 4, "uint8", (12, 16), 3)
        Image.fromarray(image, "RGBA").save(tmp_path / "raw" / "images" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "raw" / "labels" / f"{name}.png")
    (tmp_path / "raw" / "train.txt").write_text("00003D\n00001D\n\n")
    (tmp_path / "raw" / "test.txt").write_text("00002N")
    options = FolderSegmentation(
        str(tmp_path / "raw"), image_pattern="images/{id}.png", mask_pattern="labels/{id}.png",
        splits=("train", "test"), split_lists={"train": "train.txt", "test": "test.txt"},
        bands=("red", "green", "blue", "thermal"), classes=("a", "b", "c"),
    )  # fmt: skip
    split = pipeline.open_split(prepared(options, tmp_path), "train")
    assert [split.record(i).scene for i in range(2)] == ["00003D", "00001D"]
    assert np.array_equal(split.decode(1)["image"], made.scene(1, 4, "uint8", (12, 16), 3)[0])
    (tmp_path / "raw" / "train.txt").write_text("00003D\n00009D\n")
    with pytest.raises(UserError, match=r"train.txt lists '00009D', but there is no file .*images/00009D\.png"):
        options.plan()
    (tmp_path / "raw" / "train.txt").unlink()
    with pytest.raises(UserError, match=r"no list .*train\.txt"):
        options.plan()


def test_several_files_a_scene(tiles, tmp_path):
    for split in ("train", "val"):
        (tiles / split / "thermal").mkdir()
        for i in range(3):
            image = made.scene(i, 1, "uint16", (24, 24), 3)[0]
            (tiles / split / "thermal" / f"t{i}.png").write_bytes(codec.encode_png(image))
    options = {
        **TILES,
        "image_pattern": ("{split}/img/tile_{id}.tif", "{split}/thermal/t{id}.png"),
        "bands": ("red", "green", "blue", "nir", "thermal"),
    }
    split = pipeline.open_split(prepared(FolderSegmentation(str(tiles), **options), tmp_path), "train")
    image = split.decode(2)["image"]
    assert image.dtype == np.uint16 and image.shape == (24, 24, 5)
    assert np.array_equal(image[..., :4], made.scene(2, 4, "uint8", (24, 24), 3)[0])
    assert np.array_equal(image[..., 4:], made.scene(2, 1, "uint16", (24, 24), 3)[0])
    for number in range(3):  # the first scene now holds 8 bits, which 16 bits of a later one must not be squeezed into
        pixels = made.scene(number, 1, "uint8" if number == 0 else "uint16", (24, 24), 3)[0]
        made.save_png(tiles / "train" / "thermal" / f"t{number}.png", pixels)
    with pytest.raises(UserError, match=r"t1\.png holds uint16, but the first scene uint8"):
        storage.write(FolderSegmentation(str(tiles), **options).plan(), tmp_path / "narrow", progress=False)
    image = made.scene(0, 1, "uint16", (24, 24), 3)[0]
    made.save_png(tiles / "train" / "thermal" / "t0.png", image)
    tifffile.imwrite(tiles / "val" / "thermal" / "t1.png", np.zeros((9, 9), np.uint16))
    with pytest.raises(UserError, match=r"tile_1\.tif \+ .*t1\.png differ in size \(\(9, 9\) and \(24, 24\) pixels\)"):
        storage.write(FolderSegmentation(str(tiles), **options).plan(), tmp_path / "again", progress=False)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_stacks_in_npy_files(dtype, tmp_path):
    for split in ("train", "val"):
        for kind in ("img", "mask"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i in range(2):
            image, mask = made.scene(i, 6, dtype, (20, 28), 3)
            np.save(tmp_path / split / "img" / f"{i}.npy", image)
            np.save(tmp_path / split / "mask" / f"{i}.npy", mask.astype(np.int64))
    options = {
        "image_pattern": "{split}/img/{id}.npy", "mask_pattern": "{split}/mask/{id}.npy",
        "bands": tuple("abcdef"), "classes": ("a", "b", "c"),
    }  # fmt: skip
    split = pipeline.open_split(prepared(FolderSegmentation(str(tmp_path), **options), tmp_path), "train")
    image, mask = made.scene(1, 6, dtype, (20, 28), 3)
    assert np.array_equal(split.decode(1)["image"], image) and np.array_equal(split.decode(1)["label"], mask)
    assert split.decode(1)["image"].dtype == dtype
    np.save(tmp_path / "val" / "img" / "1.npy", np.moveaxis(image, 2, 0))
    with pytest.raises(UserError, match=r"1\.npy has 28 band\(s\), but bands names 6"):
        prepared(FolderSegmentation(str(tmp_path), **options), tmp_path / "again")


def test_lonely_files(tiles):
    (tiles / "val" / "mask" / "mask_1.tif").unlink()
    with pytest.raises(UserError, match=r"tile_1\.tif has no mask .*mask_1\.tif"):
        FolderSegmentation(str(tiles), **TILES).plan()
    (tiles / "val" / "img" / "tile_1.tif").unlink()
    (tiles / "train" / "img" / "tile_0.tif").unlink()
    with pytest.raises(UserError, match=r"mask_0\.tif has no image .*tile_0\.tif"):
        FolderSegmentation(str(tiles), **TILES).plan()


def test_label_outside_the_card(tiles, tmp_path):
    mask = made.scene(101, 4, "uint8", (24, 24), 3)[1]
    mask[3, 4] = 255
    tifffile.imwrite(tiles / "val" / "mask" / "mask_1.tif", mask)
    folder = prepared(FolderSegmentation(str(tiles), **TILES), tmp_path)
    assert pipeline.open_split(folder, "val").decode(1)["label"][3, 4] == 255  # the ignore label is no mistake
    mask[3, 5] = 7
    tifffile.imwrite(tiles / "val" / "mask" / "mask_1.tif", mask)
    with pytest.raises(UserError, match=r"mask_1\.tif holds the label 7, which is neither one of the 3 classes nor"):
        storage.write(FolderSegmentation(str(tiles), **TILES).plan(), tmp_path / "again", progress=False)


def test_wrong_bands_sizes_and_dtypes(tiles, tmp_path):
    with pytest.raises(UserError, match=r"tile_0\.tif has 4 band\(s\), but bands names 3 \(r, g, b\)"):
        FolderSegmentation(str(tiles), **{**TILES, "bands": ("r", "g", "b")}).plan()
    place = tiles / "val" / "img" / "tile_2.tif"
    for image, message in (
        (np.zeros((24, 24, 5), np.uint8), r"tile_2\.tif has 5 band\(s\), but bands names 4"),
        (np.zeros((24, 20, 4), np.uint8), r"tile_2\.tif has 24 x 20 pixels, its mask .*mask_2\.tif 24 x 24"),
        (np.zeros((24, 24, 4), np.uint16), r"tile_2\.tif holds uint16, but the first scene uint8"),
    ):
        place.write_bytes(codec.encode_tiff(image))
        with pytest.raises(UserError, match=message):
            storage.write(FolderSegmentation(str(tiles), **TILES).plan(), tmp_path / "prepared", progress=False)
        assert not list((tmp_path / "prepared").iterdir())


def test_corrupt_tiff_and_mask_are_named(tiles, tmp_path):
    for place in ("val/img/tile_1.tif", "train/mask/mask_2.tif"):
        data = (tiles / place).read_bytes()
        (tiles / place).write_bytes(data[: len(data) // 2])
        with pytest.raises(codec.CorruptFile, match=place.rsplit("/")[-1]):
            storage.write(FolderSegmentation(str(tiles), **TILES).plan(), tmp_path / "prepared", progress=False)
        (tiles / place).write_bytes(data)


def test_nodata_and_nan_are_ignored(tmp_path):
    root = made.tiles(tmp_path / "raw", 2, "float32")
    for split in ("train", "val"):
        for i in range(3):
            image = made.scene(i, 2, "float32", (24, 24), 3)[0]
            image[:4, :, 0] = -99999
            image[:, :3, 1] = np.nan
            tifffile.imwrite(
                root / split / "img" / f"tile_{i}.tif", image, photometric="minisblack", planarconfig="contig",
                extratags=[(42113, "s", 0, "-99999", True)],
            )  # fmt: skip
    folder = prepared(FolderSegmentation(str(root), **{**TILES, "bands": ("a", "b")}), tmp_path)
    split = pipeline.open_split(folder, "train")
    example = split.decode(0)
    assert [b.nodata for b in split.card.bands] == [-99999, -99999]
    assert split.card.bands[0].low >= 20 and split.card.bands[1].high < 100
    assert np.isfinite(example["image"]).all() and (example["image"][:4, :, 0] == split.card.fill[0]).all()
    assert (example["image"][:, :3, 1] == split.card.fill[1]).all()
    assert (example["label"][:4] == 255).all() and (example["label"][:, :3] == 255).all()
    assert (example["label"][4:, 3:] != 255).all()
    image = made.scene(1, 2, "float32", (24, 24), 3)[0]
    tifffile.imwrite(
        root / "val" / "img" / "tile_1.tif", image, photometric="minisblack", planarconfig="contig",
        extratags=[(42113, "s", 0, "-1", True)],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"tile_1\.tif states the nodata value -1, but the first scene -99999"):
        prepared(FolderSegmentation(str(root), **{**TILES, "bands": ("a", "b")}), tmp_path / "again")


def test_patterns_need_an_id(tiles):
    with pytest.raises(UserError, match=r"'img\.tif' has no \{id\}"):
        FolderSegmentation(str(tiles), **{**TILES, "image_pattern": "img.tif"}).plan()
    with pytest.raises(UserError, match="classes is empty"):
        FolderSegmentation(str(tiles), **{**TILES, "classes": ()}).plan()
