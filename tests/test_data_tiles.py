"""Images that are decoded in parts: equal to the whole, in the pipeline too, and damage is named."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg.data import prepare
from genseg.data.augment import transforms
from genseg.data.batches import pipeline
from genseg.data.files import codec, tiles
from genseg.errors import CorruptFile, UserError


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)), st.sampled_from((1, 2, 3, 4, 5, 13)),
    st.sampled_from(("uint8", "int8", "uint16", "int16", "float32", "float64")), st.data(),
)  # fmt: skip
def test_a_part_is_what_the_whole_has_there(size, bands, dtype, data):
    image = (np.random.default_rng(0).random((*size, bands)) * 120).astype(dtype)
    encoded = codec.encode_image(image)
    found = tiles.opened(encoded, "x")
    assert (found is not None) == (max(size) > codec.TILE)
    if found is None:
        return
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    height, width = data.draw(st.integers(1, size[0] - top)), data.draw(st.integers(1, size[1] - left))
    whole = codec.decode_image(encoded, "x")
    part = found.read(top, left, height, width)
    assert found.shape == whole.shape and found.dtype == part.dtype == whole.dtype
    assert np.array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", ("deflate", None))
def test_tiles_of_other_writers(tmp_path, byteorder, compression):
    image = np.random.default_rng(0).integers(0, 60000, (100, 150, 3), dtype=np.uint16)
    options = dict(compression=compression, photometric="minisblack", byteorder=byteorder)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 48), planarconfig="contig", **options)
    tifffile.imwrite(
        tmp_path / "planes.tif", image.transpose(2, 0, 1), tile=(32, 48), planarconfig="separate", **options
    )
    tifffile.imwrite(tmp_path / "strips.tif", image, planarconfig="contig", **options)
    found = tiles.opened((tmp_path / "a.tif").read_bytes(), "a")
    assert (
        np.array_equal(found.read(17, 40, 60, 99), image[17:77, 40:139]) and found.read(0, 0, 9, 9).dtype == np.uint16
    )
    assert tiles.opened((tmp_path / "planes.tif").read_bytes(), "b") is None
    assert tiles.opened((tmp_path / "strips.tif").read_bytes(), "c") is None
    assert tiles.opened(codec.encode_png(image), "d") is None


def test_turned_and_too_large_images_are_left_to_the_whole_decoder(tmp_path, monkeypatch):
    image = np.zeros((200, 150, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    assert tiles.opened((tmp_path / "a.tif").read_bytes(), "a") is None
    encoded = codec.encode_image(image)
    assert tiles.opened(encoded, "a") is not None
    monkeypatch.setenv("GENSEG_MAX_IMAGE_BYTES", "80000")
    assert tiles.opened(encoded, "a") is None
    with pytest.raises(CorruptFile, match="says that it takes 90,000 bytes"):
        codec.decode_image(encoded, "a")


def damaged(data: bytes, tile: int) -> bytes:
    """With zeros for the middle of one tile's bytes."""
    import io

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        place, size = page.dataoffsets[tile], page.databytecounts[tile]
    return data[:place] + bytes(size) + data[place + size :]


def test_damage_is_named_where_it_is_met():
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    found = tiles.opened(damaged(codec.encode_image(image), 3), "scene 7")
    assert np.array_equal(found.read(0, 0, 128, 256), image[:128])
    with pytest.raises(CorruptFile, match="The image scene 7 cannot be decoded"):
        found.read(0, 0, 129, 129)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """12 prepared images of 160 x 200 pixels of noise in four bands."""
    base = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for i in range(count):
            image = rng.integers(8, 250, (160, 200, 4), dtype=np.uint8)
            mask = np.kron(rng.integers(0, 3, (20, 25)), np.ones((8, 8), int)).astype(np.uint8)
            for part, pixels in (("img", image), ("mask", mask)):
                folder = base / "source" / split / part
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{i:02d}.png").write_bytes(codec.encode_png(pixels))
    options = dict(
        name="folder_segmentation", source=str(base / "source"), image_pattern="{split}/img/{id}.png",
        mask_pattern="{split}/mask/{id}.png", splits=("train", "val"), bands=("red", "green", "blue", "nir"),
        classes=("a", "b", "c"),
    )  # fmt: skip
    return prepare.ensure_prepared(
        prepare.completed(options, "config.data") | {"skip_corrupt": 0}, base / "data", progress=False
    )


@pytest.mark.parametrize("bands", ((), ("nir", "red")))
def test_batches_of_parts_are_those_of_whole_images(own, bands):
    split = pipeline.open_split(own, "train").only(bands)
    image = split.decode(0, whole=False)["image"]
    assert not isinstance(image, np.ndarray) and image.shape == split.decode(0)["image"].shape
    transform = transforms.segmentation_train(split.card, (96, 96))
    batch = next(pipeline.train_batches(split, transform=transform, batch_size=4, seed=1, threads=1))

    def whole(record: dict, rng: np.random.Generator) -> dict:
        pixels = record["image"]
        return transform(record | {"image": pixels.read(0, 0, *pixels.shape[:2])}, rng)

    expected = next(pipeline.train_batches(split, transform=whole, batch_size=4, seed=1, threads=1))
    assert all(np.array_equal(batch[key], expected[key]) for key in batch)


class Damaged:
    """The records of a source, one with a damaged tile."""

    def __init__(self, source, index: int, data: bytes):
        self.source, self.index, self.data = source, index, data

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> bytes:
        return self.data if index == self.index else self.source[index]


def test_a_damaged_tile_skips_its_record_and_moves_no_other(own, caplog):
    import dataclasses

    split = pipeline.open_split(own, "train")
    image = split.record(3).image
    assert image in split.source[3]
    raw = split.source[3].replace(image, damaged(image, 0))  # the tile of rows 0 to 127, columns 0 to 127
    broken = dataclasses.replace(split, source=Damaged(split.source, 3, raw), corrupt={})
    transform = transforms.segmentation_train(split.card, (96, 96))
    options = dict(transform=transform, batch_size=12, seed=5)
    good, found = pipeline.train_batch(split, 0, **options), pipeline.train_batch(broken, 0, skip_corrupt=1, **options)
    assert list(broken.corrupt) == [3] and caplog.text.count("Skipped") == 1
    (moved,) = np.flatnonzero(good["index"] != found["index"])
    assert good["index"][moved] == 3 and found["index"][moved] == 4
    rest = np.arange(12) != moved
    assert all(np.array_equal(good[key][rest], found[key][rest]) for key in good)
    again = pipeline.train_batch(broken, 0, skip_corrupt=1, **options)  # what was met before changes nothing
    assert all(np.array_equal(found[key], again[key]) for key in found)
    with pytest.raises((CorruptFile, UserError), match=split.record(3).file_name):
        pipeline.train_batch(broken, 0, **options)
