"""LoveDA in its true layout, as folders and as archives; beside the real samples where they are."""

import shutil

import numpy as np
import pytest
import tiny
from PIL import Image

from genseg.config import load_file
from genseg.data.batches import pipeline
from genseg.data.prepare import ensure_prepared
from genseg.data.sets import loveda
from genseg.errors import UserError

SAMPLES = tiny.ROOT.parent / "shared" / "data" / "loveda-samples"


def drawn(root, counts):
    """Blocks of every mask value 0 .. 7 below {Train,Val}/{Urban,Rural}; returns name -> (image, mask)."""
    rng, found = np.random.default_rng(0), {}
    for (split, domain), count in counts.items():
        for i in range(count):
            number = str(1000 * len(found) + i)
            values = np.arange(8, dtype=np.uint8)
            mask = np.repeat(np.repeat(rng.permutation(values)[None], 1024, 0), 128, 1)
            image = np.stack([mask * 30, 255 - mask * 20, mask * 10 + len(found)], -1).astype(np.uint8)
            for kind, pixels in (("images_png", image), ("masks_png", mask)):
                folder = root / split / domain / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
            found[f"{split.lower()}/{domain.lower()}/{number}"] = (image, mask)
    return found


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(loveda, "COUNTS", {"train": 2, "val": 1})
    counts = {("Train", "Urban"): 1, ("Train", "Rural"): 1, ("Val", "Urban"): 1}
    return tmp_path / "raw", drawn(tmp_path / "raw", counts)


def prepared(root, out, **fields):
    plain = {"domain": "both", "allow_incomplete": False, "skip_corrupt": 0, "source": str(root), "name": "loveda"}
    return ensure_prepared(plain | fields, out, progress=False)


@pytest.mark.parametrize("zipped", [False, True])
def test_layouts(zipped, raw, tmp_path):
    root, expected = raw
    if zipped:
        for split in ("Train", "Val"):
            shutil.make_archive(str(root / split), "zip", root, split)
            shutil.rmtree(root / split)
    folder = prepared(root, tmp_path / "data")
    for split in ("train", "val"):
        opened = pipeline.open_split(folder, split)
        for i, place in enumerate(opened.places):
            image, mask = expected[place.file_name]
            record = opened.decode(i)
            assert np.array_equal(record["image"], image)
            assert np.array_equal(record["label"], np.where(mask == 0, 255, mask - 1))  # reduce_zero_label
    card = opened.card
    assert card.splits == {"train": 2, "val": 1} and card.classes[0] == "background" and len(card.scored) == 7
    assert card.members(["val/urban/1"])["urban"][0] and not card.members(["val/urban/1"])["rural"][0]


def test_one_domain(raw, tmp_path):
    root, _ = raw
    with pytest.raises(UserError, match="no val image"):
        prepared(root, tmp_path / "data", domain="rural")
    assert pipeline.open_split(prepared(root, tmp_path / "data", domain="urban"), "train").card.name == "loveda_urban"


def test_mistakes_are_named(raw, tmp_path):
    root, expected = raw
    lost = next(name for name in expected if name.startswith("val/"))
    mask = root / "Val" / "Urban" / "masks_png" / f"{lost.rsplit('/', 1)[-1]}.png"
    pixels = np.asarray(Image.open(mask)).copy()
    pixels[0, 0] = 8
    Image.fromarray(pixels).save(mask)
    with pytest.raises(UserError, match=rf"{mask.name}.* 8"):
        prepared(root, tmp_path / "data")
    mask.unlink()
    with pytest.raises(UserError, match=r"incomplete: 1 of 1 val pairs are missing.*\(mask\)"):
        prepared(root, tmp_path / "data")


def test_the_config_resolves():
    config = load_file("segment_loveda:domain=urban")
    assert config.data.name == "loveda" and config.data.domain == "urban" and config.train.steps == 80_000


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_real_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(loveda, "COUNTS", {"train": 2, "val": 1})
    for number, split in (("0", "Train"), ("1", "Train"), ("2", "Val")):
        for kind, source in (("images_png", "img_dir"), ("masks_png", "ann_dir")):
            folder = tmp_path / "raw" / split / "Urban" / kind
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLES / source / f"{number}.png", folder)
    opened = pipeline.open_split(prepared(tmp_path / "raw", tmp_path / "data"), "val")
    with Image.open(SAMPLES / "ann_dir" / "2.png") as mask:
        assert np.array_equal(opened.decode(0)["label"], np.asarray(mask).astype(int) - 1)
