"""ImageNet through TFDS: checks before the work, reading, the smaller copy and, with TensorFlow, TFDS's own builder."""

import dataclasses
import importlib.util
import io
import json
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import shuffle

from genseg.data import prepare
from genseg.data.augment import randaugment, transforms
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.data.sets import imagenet
from genseg.data.sets.imagenet import ImageNet2012
from genseg.data.sets.imagenet_classes import CLASSES, WORDNET_IDS
from genseg.errors import UserError

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-native-jpeg"
TFDS_FILES = Path(tfds.__file__).parent / "datasets" / "imagenet2012"

# ---- small files in the official layout ------------------------------------------------------------------------------


def _picture(seed, height=150, width=200):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def _encoded(pixels, mode="RGB", kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}), **options)
    return buffer.getvalue()


def _tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


# Two ordinary classes, and the files that TFDS repairs by name: a CMYK JPEG and a PNG that is called JPEG.
CMYK, PNG = "n01739381_1309.JPEG", "n02105855_2933.JPEG"
TRAIN = {
    "n01440764_10026.JPEG": _encoded(_picture(0)),
    "n01440764_3.JPEG": _encoded(_picture(1), mode="L"),
    "n15075141_1.JPEG": _encoded(_picture(2, 60, 48)),
    CMYK: _encoded(_picture(3), mode="CMYK"),
    PNG: _encoded(_picture(4), kind="PNG"),
}
VALIDATION = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": _encoded(_picture(10 + i)) for i in range(4)}


def _train_tar(files):
    by_class = {}
    for name, data in files.items():
        by_class.setdefault(name.split("_")[0], {})[name] = data
    return _tar({f"{wnid}.tar": _tar(inner) for wnid, inner in by_class.items()})


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "ILSVRC2012_img_train.tar").write_bytes(_train_tar(TRAIN))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(_tar(VALIDATION))
    (folder / "ILSVRC2012_img_test.tar").write_bytes(b"not even an archive: must not be read")
    return folder


class StandIn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes what TFDS's builder writes (the same features, name and version), without TensorFlow."""

    name = "imagenet2012"
    VERSION = tfds.core.Version("5.1.0")
    splits = None

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=list(WORDNET_IDS)),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(files) for split, files in self.splits.items()}

    def _generate_examples(self, files):
        for name, data in files.items():
            label = name.split("_")[0] if name.startswith("n") else "n01751748"
            yield name, {"image": data, "label": label, "file_name": name}


def _tfds_copy(data_dir, train, validation):
    StandIn.splits = {"train": train, "validation": validation}
    StandIn(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir / "imagenet2012" / "5.1.0"


REPAIRED = {name: data for name, data in TRAIN.items() if name not in (CMYK, PNG)}


@pytest.fixture
def tfds_copy(tmp_path):
    return _tfds_copy(tmp_path / "tfds", REPAIRED, VALIDATION)


def _contents(folder, split):
    opened = pipeline.open_split(folder, split)
    return {opened.record(i).file_name: opened.record(i) for i in range(len(opened))}


def _nothing_left(data_dir):
    return not data_dir.exists() or not any(data_dir.iterdir())


# ---- the card --------------------------------------------------------------------------------------------------------


def test_classes_are_tfds_labels_in_order():
    assert list(WORDNET_IDS) == (TFDS_FILES / "labels.txt").read_text().split()
    assert sorted(WORDNET_IDS) == list(WORDNET_IDS) and len(set(CLASSES)) == 1000
    # Label numbers that everybody quotes: torchvision's and timm's 0, 1, 207, 281 and 999.
    names = {i: CLASSES[i].split(" ", 1)[1] for i in (0, 1, 207, 281, 999)}
    assert names == {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 999: "toilet tissue"}


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="../shared/data/imagenet-native-jpeg is absent")
def test_classes_agree_with_an_independent_list():
    rows = [line.split(",") for line in (PHOTOGRAPHS / "labels.csv").read_text().splitlines()[1:]]
    assert len(rows) == 200
    for row in rows:
        assert WORDNET_IDS[int(row[2])] == row[1]


def test_the_card_says_what_imagenet_is(tfds_copy, tmp_path):
    folder = ImageNet2012(source=str(tfds_copy), partial=True).prepare(tmp_path / "data")
    card = DatasetCard.read(folder)
    assert card.task == "classification" and card.classes == CLASSES and not card.synthetic
    assert [b.name for b in card.bands] == ["red", "green", "blue"]
    np.testing.assert_allclose(card.mean, [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(card.std, [58.395, 57.12, 57.375], rtol=1e-6)
    assert card.splits == {"train": 3, "validation": 4}
    assert any("a part of ImageNet only" in note for note in card.notes)


# ---- before the work -------------------------------------------------------------------------------------------------


def test_missing_archives_are_named_with_where_to_get_them(archives, tmp_path):
    (archives / "ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(UserError, match=r"lacks ILSVRC2012_img_val\.tar: .*image-net\.org/download-images"):
        ImageNet2012(source=str(archives)).prepare(tmp_path / "data")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar and ILSVRC2012_img_val\.tar"):
        ImageNet2012(source=str(archives)).prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


def test_a_cut_download_is_seen_by_its_size(archives, tmp_path):
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar has [\d,]+ bytes instead of 147,897,477,120"):
        ImageNet2012(source=str(archives)).prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


def test_official_sizes_are_those_tfds_records():
    for line in (TFDS_FILES / "checksums.tsv").read_text().splitlines():
        url, size, _ = line.split()
        assert imagenet.ARCHIVES[url.rsplit("/", 1)[1]] == int(size)


def test_a_validation_archive_with_a_gap_would_get_wrong_labels_and_is_refused(archives, tmp_path):
    gap = {name: data for name, data in VALIDATION.items() if "00000002" not in name}
    (archives / "ILSVRC2012_img_val.tar").write_bytes(_tar(gap))
    with pytest.raises(UserError, match=r"holds ILSVRC2012_val_00000003\.JPEG, but labels go by names"):
        ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data")


def test_foreign_and_damaged_archives_are_refused(archives, tmp_path):
    source = ImageNet2012(source=str(archives), partial=True)
    train = archives / "ILSVRC2012_img_train.tar"
    train.write_bytes(_tar({"n00000001.tar": b""}))
    with pytest.raises(UserError, match=r"n00000001\.tar.*the official one holds n01440764\.tar"):
        source.prepare(tmp_path / "data")
    train.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(UserError, match=r"is no whole tar archive"):
        source.prepare(tmp_path / "data")
    train.write_bytes(_tar({}))
    with pytest.raises(UserError, match=r"holds 0 class archives"):
        source.prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


def test_without_tensorflow_the_archives_ask_for_it(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs TensorFlow.*pip install 'genseg\[prepare\]'"):
        ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


def test_a_failed_build_leaves_nothing(archives, tmp_path, monkeypatch):
    def fails(archives, folder, progress):
        (folder / "tfds").mkdir()
        (folder / "tfds" / "half").write_bytes(b"0" * 1000)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imagenet.importlib.util, "find_spec", lambda name: "found")
    monkeypatch.setattr(imagenet, "_build", fails)
    with pytest.raises(OSError, match="No space left"):
        ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"short_side": -1}, "config.data.short_side"),
        ({"short_side": 320, "quality": 0}, "config.data.quality"),
        ({"quality": 101}, "config.data.quality"),
    ],
)
def test_bad_options_are_refused(options, says):
    complete = dataclasses.asdict(ImageNet2012()) | options
    with pytest.raises(UserError, match=says):
        prepare.from_config({"name": "imagenet2012", **complete})


# ---- an existing TFDS copy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["data_dir", "version folder"])
def test_an_existing_tfds_copy_is_linked_and_read(tfds_copy, tmp_path, which):
    source = tfds_copy if which == "version folder" else tfds_copy.parents[1]
    folder = ImageNet2012(source=str(source), partial=True).prepare(tmp_path / "data")
    assert (folder / "records").is_symlink()
    assert [p.name for p in (tmp_path / "data").iterdir()] == [folder.name]
    train = _contents(folder, "train")
    assert {name: record.image for name, record in train.items()} == REPAIRED
    assert {name: record.label for name, record in train.items()} == {
        "n01440764_10026.JPEG": 0,
        "n01440764_3.JPEG": 0,
        "n15075141_1.JPEG": 999,
    }
    assert {name: record.image for name, record in _contents(folder, "validation").items()} == VALIDATION
    assert ImageNet2012().prepare(tmp_path / "data") == folder


def test_the_newest_version_of_a_tfds_copy_is_taken(tfds_copy, tmp_path):
    """5.0.0 stays readable beside 5.1.0; numbers are compared, not letters."""
    for version in ("5.0.0", "5.10.0"):
        shutil.copytree(tfds_copy, tfds_copy.parent / version)
    assert imagenet._tfds_folder(tmp_path / "tfds").name == "5.10.0"
    shutil.rmtree(tfds_copy)
    shutil.rmtree(tfds_copy.parent / "5.10.0")
    folder = ImageNet2012(source=str(tmp_path / "tfds"), partial=True).prepare(tmp_path / "data")
    assert len(_contents(folder, "train")) == 3


def test_a_tfds_copy_that_has_moved_is_found_again(tfds_copy, tmp_path):
    folder = ImageNet2012(source=str(tfds_copy), partial=True).prepare(tmp_path / "data")
    moved = tmp_path / "elsewhere"
    tfds_copy.rename(moved)
    assert ImageNet2012(source=str(moved), partial=True).prepare(tmp_path / "data") == folder
    assert len(_contents(folder, "train")) == 3


def test_counts_must_be_the_official_ones(tfds_copy, tmp_path):
    with pytest.raises(UserError, match=r"has 3 train images instead of 1,281,167"):
        ImageNet2012(source=str(tfds_copy)).prepare(tmp_path / "data")
    assert _nothing_left(tmp_path / "data")


def test_the_official_counts_need_no_note(tfds_copy, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "COUNTS", {"train": 3, "validation": 4})
    assert DatasetCard.read(ImageNet2012(source=str(tfds_copy)).prepare(tmp_path / "data")).notes == ()


def test_a_copy_without_random_access_is_refused_with_the_command_that_converts_it(tfds_copy, tmp_path):
    path = tfds_copy / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"tfrecord files.*convert_format --dataset_version_dir=.*array_record"):
        ImageNet2012(source=str(tfds_copy)).prepare(tmp_path / "data")
    assert importlib.util.find_spec("tensorflow_datasets.scripts.convert_format")
    path.write_text(json.dumps({**info, "name": "cifar10"}))
    with pytest.raises(UserError, match="holds the TFDS data set cifar10"):
        ImageNet2012(source=str(tfds_copy)).prepare(tmp_path / "data")


def test_a_copy_without_validation_is_refused(tmp_path):
    copy = _tfds_copy(tmp_path / "tfds", REPAIRED, VALIDATION)
    path = copy / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "splits": [s for s in info["splits"] if s["name"] == "train"]}))
    with pytest.raises(UserError, match="has no split 'validation'"):
        ImageNet2012(source=str(copy), partial=True).prepare(tmp_path / "data")


def test_nothing_prepared_and_no_source(tmp_path):
    with pytest.raises(UserError, match="There is no prepared imagenet2012"):
        ImageNet2012().prepare(tmp_path)
    with pytest.raises(UserError, match="neither imagenet2012_320q90 nor imagenet2012"):
        ImageNet2012(short_side=320).prepare(tmp_path)


# ---- the smaller copy ------------------------------------------------------------------------------------------------


def test_the_smaller_copy_keeps_order_labels_and_names_and_limits_the_short_side(tfds_copy, tmp_path):
    data_dir = tmp_path / "data"
    full = ImageNet2012(source=str(tfds_copy), partial=True).prepare(data_dir)
    small = ImageNet2012(short_side=96).prepare(data_dir, threads=2, progress=False)
    assert small.name.startswith("imagenet2012_96q90-")
    for split in ("train", "validation"):
        before, after = _contents(full, split), _contents(small, split)
        assert list(before) == list(after)
        assert [r.label for r in before.values()] == [r.label for r in after.values()]
    train = _contents(small, "train")
    shapes = {name: codec.decode_rgb(record.image, name).shape for name, record in train.items()}
    assert shapes == {
        "n01440764_10026.JPEG": (96, 128, 3),
        "n01440764_3.JPEG": (96, 128, 3),
        "n15075141_1.JPEG": (60, 48, 3),
    }
    assert train["n15075141_1.JPEG"].image == TRAIN["n15075141_1.JPEG"]
    card = DatasetCard.read(small)
    assert card.bands == DatasetCard.read(full).bands and card.classes == CLASSES
    assert card.splits == {"train": 3, "validation": 4}
    assert "shorter sides limited to 96 pixels, JPEG quality 90" in card.notes
    # Each config finds its own copy, and the smaller one serves without the first.
    assert ImageNet2012().prepare(data_dir) == full
    for path in full.iterdir():
        path.unlink()
    full.rmdir()
    assert ImageNet2012(short_side=96).prepare(data_dir) == small
    with pytest.raises(UserError, match="neither imagenet2012_96q80"):
        ImageNet2012(short_side=96, quality=80).prepare(data_dir)


@pytest.mark.parametrize(
    ("data", "grey"),
    [
        (_encoded(_picture(5)), False),
        (_encoded(_picture(5), mode="L"), True),
        (_encoded(_picture(5), mode="CMYK"), False),
        (_encoded(_picture(5), kind="PNG"), False),
        (_encoded(_picture(5), progressive=True), False),
    ],
    ids=["colour", "grey", "CMYK", "PNG", "progressive"],
)
@pytest.mark.parametrize("short_side", [75, 400])
def test_every_kind_of_file_becomes_a_plain_jpeg_of_the_same_picture(data, grey, short_side):
    small = imagenet.limit_short_side(data, "x", short_side, 90)
    got = simplejpeg.decode_jpeg(small, "RGB")  # refuses CMYK and PNG
    picture = Image.fromarray(_picture(5)).convert("L" if grey else "RGB").convert("RGB")
    size = (100, 75) if short_side == 75 else (200, 150)
    expected = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float64)
    assert got.shape == expected.shape
    error = np.sqrt(np.mean((got - expected) ** 2))
    assert error < 4, f"root mean square error {error:.1f}"  # measured 0.5 to 2; a swapped channel gives over 40


def test_small_files_are_not_encoded_again():
    for mode in ("RGB", "L"):
        data = _encoded(_picture(6), mode=mode)
        assert imagenet.limit_short_side(data, "x", 150, 90) is data


def test_quality_reaches_the_encoder():
    data = _encoded(_picture(7, 300, 400))
    sizes = [len(imagenet.limit_short_side(data, "x", 200, quality)) for quality in (50, 90, 98)]
    assert sizes == sorted(sizes) and sizes[0] < 0.7 * sizes[2]
    assert simplejpeg.decode_jpeg_header(imagenet.limit_short_side(data, "x", 200, 90)) == (200, 267, "YCbCr", "420")


def test_undecodable_files_are_named_or_counted(tmp_path):
    bad = {**REPAIRED, "n01440764_9.JPEG": b"\xff\xd8\xff\xe0broken"}
    copy = _tfds_copy(tmp_path / "tfds", bad, VALIDATION)
    options = ImageNet2012(source=str(copy), short_side=96, partial=True)
    with pytest.raises(UserError, match=r"n01440764_9\.JPEG cannot be decoded"):
        options.prepare(tmp_path / "data", progress=False)
    small = options.prepare(tmp_path / "data", skip_corrupt=1, progress=False)
    card = DatasetCard.read(small)
    assert card.splits == {"train": 3, "validation": 4}
    assert any("1 undecodable" in note and "n01440764_9" in note for note in card.notes)


# ---- from the command line, and into batches -------------------------------------------------------------------------


def test_the_command_prepares_both_copies(tfds_copy, tmp_path, capsys):
    command = ["imagenet2012", "--source", str(tfds_copy), "--data_dir", str(tmp_path / "data"), "--partial"]
    assert prepare.main([*command, "--short_side", "64", "--quality", "80"]) == 0
    printed = capsys.readouterr().out
    assert "imagenet2012_64q80" in printed and "n01440764 tench" in printed
    names = sorted(p.name.rsplit("-", 1)[0] for p in (tmp_path / "data").iterdir())
    assert names == ["imagenet2012", "imagenet2012_64q80"]


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert prepare.main(["imagenet2012", "--source", str(tmp_path), "--data_dir", str(tmp_path / "data")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "ILSVRC2012_img_train.tar" in printed


def test_batches_of_the_published_transform(tfds_copy, tmp_path):
    folder = ImageNet2012(source=str(tfds_copy), partial=True).prepare(tmp_path / "data")
    split = pipeline.open_split(folder, "train")
    plain = transforms.classification_train(48)
    settings = randaugment.RandAugment(prob=1.0)
    transform = randaugment.with_rand_augment(plain, settings, fill=(1, 2, 3), interpolation="bicubic")
    batches = [
        next(pipeline.train_batches(split, transform=transform, batch_size=6, seed=3, threads=n)) for n in (1, 2)
    ]
    np.testing.assert_array_equal(batches[0]["image"], batches[1]["image"])
    assert batches[0]["image"].shape == (6, 48, 48, 3) and batches[0]["image"].dtype == np.uint8
    labels = {i: split.record(i).label for i in range(3)}
    assert [labels[i] for i in batches[0]["index"]] == list(batches[0]["label"])
    # The crop and the flip draw first, then RandAugment goes on with the same generator.
    record = split.decode(0)
    rng = np.random.default_rng(5)
    expected = randaugment.rand_augment(plain(record, rng)["image"], rng, prob=1.0, fill=(1, 2, 3))
    got = transform(record, np.random.default_rng(5))
    np.testing.assert_array_equal(got["image"], expected)
    assert got["label"] == record["label"]


# ---- TFDS's own builder ----------------------------------------------------------------------------------------------

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is absent: `make test-prepare` installs it",
)


def _validation_labels():
    return (TFDS_FILES / "validation_labels.txt").read_text().split()


@pytest.mark.prepare
@needs_tensorflow
def test_the_real_builder_on_small_archives(archives, tmp_path):
    folder = ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data", progress=False)
    assert [p.name for p in (tmp_path / "data").iterdir()] == [folder.name]
    assert {p.name for p in folder.iterdir()} == {"card.json", "source.json", "records"}
    assert DatasetCard.read(folder).splits == {"train": 5, "validation": 4}
    train = _contents(folder, "train")
    assert {name: record.label for name, record in train.items()} == {
        name: WORDNET_IDS.index(name.split("_")[0]) for name in TRAIN
    }
    for name, record in train.items():
        repaired = name in (CMYK, PNG)
        assert (record.image == TRAIN[name]) == (not repaired)
        pixels = simplejpeg.decode_jpeg(record.image, "RGB")
        with Image.open(io.BytesIO(TRAIN[name])) as picture:
            expected = np.asarray(picture.convert("RGB"), np.float64)
        assert np.sqrt(np.mean((pixels - expected) ** 2)) < 4, name
    validation = _contents(folder, "validation")
    assert {name: record.image for name, record in validation.items()} == VALIDATION
    for name, label in zip(sorted(VALIDATION), _validation_labels(), strict=False):
        assert validation[name].label == WORDNET_IDS.index(label)
    # Nothing is built twice, and the smaller copy follows from the first.
    assert ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data") == folder
    small = ImageNet2012(source=str(archives), partial=True, short_side=100).prepare(tmp_path / "data", progress=False)
    sides = [min(codec.decode_rgb(r.image, n).shape[:2]) for n, r in _contents(small, "train").items()]
    assert sorted(sides) == [48, 100, 100, 100, 100]


@pytest.mark.prepare
@needs_tensorflow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="../shared/data/imagenet-native-jpeg is absent")
def test_the_real_builder_on_photographs(tmp_path):
    files = sorted((PHOTOGRAPHS / "images").glob("*.JPEG"))
    train = {f"{path.name.split('_')[0]}_1.JPEG": path.read_bytes() for path in files[:40]}
    validation = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": path.read_bytes() for i, path in enumerate(files[40:60])}
    source = tmp_path / "archives"
    source.mkdir()
    (source / "ILSVRC2012_img_train.tar").write_bytes(_train_tar(train))
    (source / "ILSVRC2012_img_val.tar").write_bytes(_tar(validation))
    folder = ImageNet2012(source=str(source), partial=True).prepare(tmp_path / "data", progress=False)
    contents = _contents(folder, "train")
    assert {name: record.image for name, record in contents.items()} == train
    assert all(WORDNET_IDS[record.label] == name.split("_")[0] for name, record in contents.items())
    split = pipeline.open_split(folder, "validation")
    seen = list(pipeline.eval_batches(split, transform=transforms.classification_eval(64), batch_size=8))
    assert sum(int(batch["valid"].sum()) for batch in seen) == 20
    truth = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": WORDNET_IDS.index(w) for i, w in enumerate(_validation_labels()[:20])}
    for batch in seen:
        for label, index, valid in zip(batch["label"], batch["index"], batch["valid"], strict=True):
            assert not valid or label == truth[split.record(int(index)).file_name]


@pytest.mark.prepare
@needs_tensorflow
def test_the_real_builder_as_it_works_beyond_a_gigabyte(archives, tmp_path, monkeypatch):
    """There it sorts through 1000 files on disk, which the code without TensorFlow cannot."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    many = {f"n01440764_{i}.JPEG": TRAIN["n15075141_1.JPEG"] for i in range(300)}
    (archives / "ILSVRC2012_img_train.tar").write_bytes(_train_tar(many))
    folder = ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data", progress=False)
    assert DatasetCard.read(folder).splits == {"train": 300, "validation": 4}
    assert set(_contents(folder, "train")) == set(many)
    assert {p.name for p in folder.iterdir()} == {"card.json", "source.json", "records"}


@pytest.mark.prepare
@needs_tensorflow
def test_a_damaged_class_archive_is_said_and_leaves_nothing(archives, tmp_path):
    (archives / "ILSVRC2012_img_train.tar").write_bytes(_tar({"n01440764.tar": b"damaged" * 999}))
    with pytest.raises(UserError, match=r"An archive inside .*ILSVRC2012_img_train\.tar is damaged"):
        ImageNet2012(source=str(archives), partial=True).prepare(tmp_path / "data", progress=False)
    assert _nothing_left(tmp_path / "data")
