"""ISPRS Vaihingen in the layout of its archives, packed and unpacked; beside the real sample where it is."""

import shutil

import numpy as np
import pytest
import tifffile
import tiny

from genseg.config import load_file
from genseg.data.batches import pipeline
from genseg.data.prepare import ensure_prepared
from genseg.data.sets import potsdam, vaihingen
from genseg.errors import UserError
from tests.data import made

SAMPLE = tiny.ROOT.parent / "shared" / "data" / "isprs-mmseg-samples" / "vaihingen"
SIZES = {1: (40, 52), 3: (36, 32), 2: (32, 44)}


def drawn(root):
    """Areas of sizes of their own; the participants' labels are of another mask than the complete ones, and the eroded archive
    has an area 9 without an image."""
    palette = list(potsdam.CLASSES.values())
    images = root / "ISPRS_semantic_labeling_Vaihingen"
    complete = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
    eroded = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"
    for folder in (images / "top", images / "dsm", images / "gts_for_participants", complete, eroded):
        folder.mkdir(parents=True)
    for area, size in SIZES.items():
        image, mask = made.scene(area, 3, "uint8", size, 6)
        label = made.colours(mask, palette)
        tifffile.imwrite(images / "top" / f"top_mosaic_09cm_area{area}.tif", image, photometric="rgb")
        height = np.linspace(250, 290, size[0] * size[1], dtype=np.float32).reshape(size)
        tifffile.imwrite(images / "dsm" / f"dsm_09cm_matching_area{area}.tif", height)
        if area in vaihingen.SPLITS["train"]:
            participants = images / "gts_for_participants" / f"top_mosaic_09cm_area{area}.tif"
            tifffile.imwrite(participants, made.colours(np.zeros_like(mask), palette), photometric="rgb")
        tifffile.imwrite(complete / f"top_mosaic_09cm_area{area}.tif", label, photometric="rgb")
        label[::4] = 0
        tifffile.imwrite(eroded / f"top_mosaic_09cm_area{area}_noBoundary.tif", label, photometric="rgb")
    tifffile.imwrite(eroded / "top_mosaic_09cm_area9_noBoundary.tif", label, photometric="rgb")
    return root


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(vaihingen, "SPLITS", {"train": (1, 3), "test": (2,)})
    return drawn(tmp_path / "raw")


def prepared(root, out, **fields):
    plain = {
        "name": "vaihingen", "source": str(root), "bands": ("ir", "red", "green", "dsm_minmax"), "protocol": "geoseg",
        "patch": 32, "stride": 32, "allow_incomplete": False, "skip_corrupt": 0,
    }  # fmt: skip
    return ensure_prepared(plain | fields, out, progress=False)


@pytest.mark.parametrize("packed", [False, True])
def test_layouts(packed, raw, tmp_path):
    if packed:
        for folder in list(raw.iterdir()):
            made.zipped(folder, folder.with_suffix(".zip"), flat=True)
    folder = prepared(raw, tmp_path / "data")
    train, test = (pipeline.open_split(folder, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (2 * 2 + 2 * 1, 1 * 2)
    for split, area in ((train, 1), (test, 2)):
        image, mask = made.scene(area, 3, "uint8", SIZES[area], 6)
        first = next(i for i, p in enumerate(split.places) if p.scene == f"area{area}" and (p.row, p.column) == (0, 0))
        record = split.decode(first)
        assert np.array_equal(record["image"][..., :3], image[:32, :32])
        expected = mask[:32, :32].copy()  # the complete labels, full in training and eroded in test
        if split is test:
            expected[::4] = 255
        assert np.array_equal(record["label"], expected)
        assert record["image"][..., 3].min() == 0 and record["image"].dtype == np.uint8
    assert train.card.scored == (0, 1, 2, 3, 4) and len(train.card.classes) == 6


def test_heights_in_metres_and_another_protocol(raw, tmp_path):
    split = pipeline.open_split(prepared(raw, tmp_path / "data", bands=("ir", "dsm"), protocol="rsp"), "train")
    image = split.decode(0)["image"]
    assert image.dtype == np.float32 and image[..., 1].min() >= 250 and image[..., 1].max() <= 290
    assert "clutter" not in split.card.classes and 255 in split.decode(0)["label"]


def test_an_image_edited_in_place_is_other_data(raw, tmp_path):
    first = prepared(raw, tmp_path / "data", bands=("ir", "red", "green"))
    assert prepared(raw, tmp_path / "data", bands=("ir", "red", "green")) == first
    image = next(raw.rglob("top/top_mosaic_09cm_area1.tif"))
    content = bytearray(image.read_bytes())
    content[-1] ^= 1  # of the last pixel: these files are not compressed
    image.write_bytes(content)
    assert prepared(raw, tmp_path / "data", bands=("ir", "red", "green")) == first.with_name(f"{first.name}-2")


def test_participants_labels_serve_where_the_complete_ones_are_not(raw, tmp_path):
    shutil.rmtree(raw / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE")
    split = pipeline.open_split(prepared(raw, tmp_path / "data"), "train")
    assert (split.decode(0)["label"] == 0).all()


def test_mistakes_are_named(raw, tmp_path):
    (raw / "ISPRS_semantic_labeling_Vaihingen" / "dsm" / "dsm_09cm_matching_area3.tif").unlink()
    with pytest.raises(UserError, match=r"1 of 2 train dsm are missing, the first is dsm_09cm_matching_area3\.tif"):
        prepared(raw, tmp_path / "data")
    with pytest.raises(UserError, match="test ndsm|train ndsm"):
        prepared(raw, tmp_path / "data", bands=("ir", "ndsm"))
    label = raw / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE" / "top_mosaic_09cm_area1.tif"
    tifffile.imwrite(label, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(UserError, match=r"area1\.tif has 8 x 8 pixels, its image 40 x 52"):
        prepared(raw, tmp_path / "data", bands=("ir",))


def test_the_official_split():
    assert (len(vaihingen.SPLITS["train"]), len(vaihingen.SPLITS["test"])) == (16, 17)
    assert not set(vaihingen.SPLITS["train"]) & set(vaihingen.SPLITS["test"])


def test_the_config_resolves():
    config = load_file("segment_vaihingen:protocol=mmseg")
    assert config.data.name == "vaihingen" and config.data.protocol == "mmseg" and config.data.eval_split == "test"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample is not here")
def test_a_real_crop_of_area_1(tmp_path, monkeypatch):
    """mmsegmentation's crop, put back into the official files' form: its numbers 1 .. 6 are the classes, 0 the borders."""
    from PIL import Image

    monkeypatch.setattr(vaihingen, "SPLITS", {"train": (1,), "test": (2,)})
    image = np.asarray(Image.open(SAMPLE / "img_dir" / "area1_0_0_512_512.png"))
    numbers = np.asarray(Image.open(SAMPLE / "ann_dir" / "area1_0_0_512_512.png"))
    colours = np.array([(0, 0, 0), *potsdam.CLASSES.values()], np.uint8)[numbers]
    for area in (1, 2):
        for path, pixels in (
            (f"top/top_mosaic_09cm_area{area}.tif", image),
            (f"top_mosaic_09cm_area{area}_noBoundary.tif", colours),
        ):
            (tmp_path / "raw" / "top").mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / "raw" / path, pixels, photometric="rgb")
    folder = prepared(
        tmp_path / "raw", tmp_path / "data", bands=vaihingen.COLOURS, protocol="mmseg", patch=512, stride=512
    )
    record = pipeline.open_split(folder, "train").decode(0)
    assert np.array_equal(record["label"], numbers.astype(np.uint8) - 1)  # 0 -> 255
    assert np.array_equal(record["image"], image)
