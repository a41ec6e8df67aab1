"""DFC2020 in both layouts in which it was given out, as folders and as archives."""

import numpy as np
import pytest
import rasterio
import tifffile

from genseg.config import load_file
from genseg.data.batches import pipeline
from genseg.data.prepare import ensure_prepared
from genseg.data.sets import dfc2020
from genseg.errors import UserError
from tests.data import made

CONTEST = {("validation", "validation"): 2, ("test", "0"): 1}
RELEASE = {("autumn", "Mumbai"): 1, ("winter", "MexicoCity"): 2}
RELEASED_AS = "interleaved", "by band"


def drawn(root, parts, form="interleaved"):
    """Blocks of every number 0 .. 10; band b of s2 is 100 * b + the number, and s1 is negative decibels. Returns images by name."""
    found, rng = {}, np.random.default_rng(0)
    for (part, place), count in parts.items():
        for number in range(count):
            values = rng.permutation(np.arange(11, dtype=np.uint8))
            mask = np.repeat(np.repeat(values[None], 256, 0), 24, 1)[:, :256]
            s2 = (100 * np.arange(1, 14) + mask[..., None]).astype(np.uint16)
            s1 = -(np.arange(1, 3) + mask[..., None] / 10).astype(np.float64)
            for kind, pixels in (("s2", s2), ("s1", s1), ("dfc", mask), ("lc", 17 - mask)):
                path = root / f"ROIs0000_{part}" / f"{kind}_{place}" / f"ROIs0000_{part}_{kind}_{place}_p{number}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                if pixels.ndim == 3 and form == "by band":
                    options = {
                        "driver": "GTiff",
                        "width": 256,
                        "height": 256,
                        "count": pixels.shape[2],
                        "dtype": pixels.dtype,
                    }
                    with rasterio.open(path, "w", crs="EPSG:32633", interleave="band", **options) as file:
                        file.write(pixels.transpose(2, 0, 1))
                else:
                    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
            found[f"ROIs0000_{part}_s2_{place}_p{number}"] = (s2, s1, mask)
    return found


@pytest.fixture
def contest(tmp_path, monkeypatch):
    monkeypatch.setattr(dfc2020, "COUNTS", {"validation": 2, "test": 1})
    return tmp_path / "raw", drawn(tmp_path / "raw", CONTEST)


def prepared(root, out, **fields):
    plain = {
        "name": "dfc2020", "source": str(root), "bands": dfc2020.S2, "split": "contest", "held_out": (), "allow_incomplete": False,
        "skip_corrupt": 0,
    }  # fmt: skip
    return ensure_prepared(plain | fields, out, progress=False)


def as_ids(mask):
    table = np.full(11, 255)
    table[list(dfc2020.CLASSES)] = np.arange(8)
    return table[mask]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("split", "counts"), [("contest", (2, 1)), ("reversed", (1, 2))])
def test_the_contests_layout(packed, split, counts, contest, tmp_path):
    root, expected = contest
    if packed:
        for folder in list(root.iterdir()):
            made.zipped(folder, folder.with_suffix(".zip"))
    folder = prepared(root, tmp_path / "data", split=split)
    for name, count in zip(("train", "test"), counts, strict=True):
        opened = pipeline.open_split(folder, name)
        assert len(opened) == count
        for i, place in enumerate(opened.places):
            s2, _, mask = expected[place.file_name]
            record = opened.decode(i)
            assert record["image"].dtype == np.uint16 and np.array_equal(record["image"], s2)
            assert np.array_equal(record["label"], as_ids(mask))
    assert (
        opened.card.channels == 13 and opened.card.classes[6] == "barren" and "average accuracy" in opened.card.protocol
    )


def test_an_image_edited_in_place_is_other_data(contest, tmp_path):
    root, _ = contest
    first = prepared(root, tmp_path / "data")
    assert prepared(root, tmp_path / "data") == first
    image = sorted(root.rglob("*_s2_*.tif"))[0]
    content = bytearray(image.read_bytes())
    content[-1] ^= 1  # of the last pixel: these files are not compressed
    image.write_bytes(content)
    assert prepared(root, tmp_path / "data") == first.with_name(f"{first.name}-2")


@pytest.mark.parametrize("form", RELEASED_AS)
def test_the_later_release_is_split_by_region(form, tmp_path):
    expected = drawn(tmp_path / "raw", RELEASE, form)
    folder = prepared(
        tmp_path / "raw", tmp_path / "data", split="places", held_out=("MexicoCity",), bands=("swir16", "red", "vh")
    )
    train, test = (pipeline.open_split(folder, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1, 2) and "scored on MexicoCity" in test.card.protocol
    s2, s1, _ = expected["ROIs0000_autumn_s2_Mumbai_p0"]
    record = train.decode(0)["image"]
    assert record.dtype == np.float32
    np.testing.assert_allclose(record, np.dstack([s2[..., 11], s2[..., 3], s1[..., 1]]), rtol=1e-6)


def test_mistakes_are_named(contest, tmp_path, monkeypatch):
    root, _ = contest
    with pytest.raises(UserError, match=r"no test image with split='places'; it holds 0, validation"):
        prepared(root, tmp_path / "data", split="places")
    with pytest.raises(UserError, match="config.data.bands .* elements are one of coastal"):
        prepared(root, tmp_path / "data", bands=("red", "thermal"))
    lost = root / "ROIs0000_test" / "dfc_0" / "ROIs0000_test_dfc_0_p0.tif"
    tifffile.imwrite(lost, np.full((256, 256), 17, np.uint8))  # numbers of the coarse map
    with pytest.raises(UserError, match=r"ROIs0000_test_dfc_0_p0\.tif.* 17"):
        prepared(root, tmp_path / "data")
    lost.unlink()
    with pytest.raises(UserError, match=r"1 of 1 test images are missing, the first is ROIs0000_test_dfc_0_p0\.tif"):
        prepared(root, tmp_path / "data")
    monkeypatch.setattr(dfc2020, "COUNTS", {"validation": 986, "test": 1})
    with pytest.raises(UserError, match="984 of 986 train images are missing"):
        prepared(root, tmp_path / "data")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image of DFC2020"):
        prepared(root / "empty", tmp_path / "data")


def test_the_config_resolves():
    config = load_file("segment_dfc2020:split=reversed")
    assert config.data.name == "dfc2020" and config.data.split == "reversed" and len(config.data.bands) == 13
