"""Batches: the same for any number of processes and threads, seekable, complete; preparation: atomic and repeatable."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from genseg.data import prepare
from genseg.data.augment import transforms
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.data.records import storage
from genseg.data.sets.own import FolderSegmentation
from genseg.data.sets.photographs import FolderClassification
from genseg.errors import UserError
from tests.data import made

CLASSES = ("a", "b", "c")
TILES = {
    "image_pattern": "{split}/img/tile_{id}.tif", "mask_pattern": "{split}/mask/mask_{id}.tif",
    "splits": ("train", "val", "test"), "bands": ("red", "green", "blue", "nir"), "classes": CLASSES,
}  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    plan = FolderClassification(str(made.photographs(folder / "raw"))).plan()
    return storage.write(plan, folder / "prepared", progress=False)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    plan = FolderSegmentation(str(made.tiles(folder / "raw")), **TILES).plan()
    return storage.write(plan, folder / "prepared", progress=False)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def joined(parts: list[dict]) -> dict:
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


@pytest.mark.parametrize("task", ["photographs", "tiles"])
def test_records_lie_in_files_of_a_bounded_size_in_one_order(task, request, tmp_path, monkeypatch):
    """TFDS opens them; which file a record lies in changes nothing."""
    whole = request.getfixturevalue(task)
    raw, out = tmp_path / "raw", tmp_path / "out"
    plan = (
        FolderClassification(str(made.photographs(raw))).plan()
        if task == "photographs"
        else FolderSegmentation(str(made.tiles(raw)), **TILES).plan()
    )
    monkeypatch.setattr(storage, "_SHARD_BYTES", 2 * len(pipeline.open_split(whole, "train").source[0]))
    folder = storage.write(plan, out, threads=2, progress=False)
    info = tfds.builder_from_directory(folder / "records").info
    for split in plan.items:
        lengths = info.splits[split].shard_lengths
        assert len(lengths) > 1 and sum(lengths) == info.splits[split].num_examples
        many, one = pipeline.open_split(folder, split), pipeline.open_split(whole, split)
        assert [many.record(i) for i in range(len(many))] == [one.record(i) for i in range(len(one))]


@pytest.mark.parametrize("task", ["photographs", "tiles"])
def test_global_batches_do_not_depend_on_processes_or_threads(task, request):
    split = pipeline.open_split(request.getfixturevalue(task), "train")
    crop = (
        transforms.classification_train(16)
        if task == "photographs"
        else transforms.segmentation_train(split.card, (16, 16))
    )

    def run(count: int, threads: int, steps: int = 6) -> list[dict]:
        its = [
            pipeline.train_batches(
                split, transform=crop, batch_size=8, seed=5, blocks=(p,), block_count=count, threads=threads
            )
            for p in range(count)
        ]
        return [joined([next(i) for i in its]) for _ in range(steps)]

    whole = run(1, 1)
    for count, threads in ((2, 1), (4, 2), (8, 1), (1, 3)):
        assert all(same(a, b) for a, b in zip(whole, run(count, threads), strict=True))
    assert not same(whole[0], next(pipeline.train_batches(split, transform=crop, batch_size=8, seed=6, threads=1)))
    batch = whole[0]
    assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
    assert batch["valid"].dtype == bool and batch["valid"].all() and batch["index"].dtype == np.int64


@pytest.mark.parametrize("workers", [0, 1])
def test_blocks_that_do_not_stand_side_by_side(photographs, workers):
    split = pipeline.open_split(photographs, "train")
    options = {"transform": transforms.classification_train(12), "batch_size": 8, "seed": 5, "start": 3}
    whole = [b for b, _ in zip(pipeline.train_batches(split, **options, threads=1), range(4), strict=False)]
    for blocks in ((1, 3), (2, 3), (0, 1, 3), (1, 2), (0, 1, 2, 3)):
        own = pipeline.train_batches(split, **options, blocks=blocks, block_count=4, workers=workers)
        rows = np.concatenate([[2 * block, 2 * block + 1] for block in blocks])
        assert all(same(next(own), {key: batch[key][rows] for key in batch}) for batch in whole)


def test_each_epoch_holds_each_record_once_in_a_new_order_with_new_augmentation(photographs):
    split = pipeline.open_split(photographs, "train")
    batches = pipeline.train_batches(
        split, transform=transforms.classification_train(12), batch_size=4, seed=0, threads=1
    )
    stream = joined([next(batches) for _ in range(9)])  # 36 rows = 2 epochs of 18; batches straddle the border
    first, second = stream["index"][:18], stream["index"][18:]
    assert sorted(first) == sorted(second) == list(range(18)) and not np.array_equal(first, second)
    twice = [stream["image"][np.flatnonzero(stream["index"] == i)] for i in range(18)]
    assert all(not np.array_equal(a, b) for a, b in twice)
    labels = {int(i): split.record(int(i)).label for i in first}
    assert all(labels[int(i)] == int(label) for i, label in zip(stream["index"], stream["label"], strict=True))


@pytest.mark.parametrize(("blocks", "block_count"), [((1,), 2), ((0, 2), 3)])
def test_a_batch_read_alone_is_that_of_the_stream(photographs, blocks, block_count):
    shares = dict(blocks=blocks, block_count=block_count)
    arguments = dict(transform=transforms.classification_train(16), batch_size=6, seed=1, **shares)
    split = pipeline.open_split(photographs, "train")
    stream = pipeline.train_batches(split, start=2, threads=1, **arguments)
    for number in (2, 3):
        for key, values in next(stream).items():
            np.testing.assert_array_equal(pipeline.train_batch(split, number, **arguments)[key], values)


def test_positions_can_be_taken_up_at_once(photographs):
    split = pipeline.open_split(photographs, "train")
    options = {"transform": transforms.classification_train(12), "batch_size": 6, "seed": 1, "threads": 2}
    straight = pipeline.train_batches(split, **options)
    seen = [next(straight) for _ in range(12)]
    later = pipeline.train_batches(split, **options, start=7)
    assert all(same(next(later), b) for b in seen[7:])
    far = pipeline.train_batches(split, **options, start=10**9)  # no replay: this returns
    assert len(next(far)["index"]) == 6


def test_worker_processes_change_nothing(photographs):
    split = pipeline.open_split(photographs, "train")
    options = {"transform": transforms.classification_train(12), "batch_size": 6, "seed": 1}
    straight = pipeline.train_batches(split, **options, threads=1)
    seen = [next(straight) for _ in range(9)]
    worked = pipeline.train_batches(split, **options, workers=2, start=2)
    assert all(same(next(worked), b) for b in seen[2:])
    plain = transforms.classification_eval(12)
    once = list(pipeline.eval_batches(split, transform=plain, batch_size=4, threads=1))
    again = list(pipeline.eval_batches(split, transform=plain, batch_size=4, workers=2))
    assert len(once) == len(again) and all(same(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (4, 2), (16, 4), (5, 5), (32, 2)])
def test_evaluation_sees_every_record_once(photographs, batch_size, processes):
    split = pipeline.open_split(photographs, "val")
    runs = [
        list(
            pipeline.eval_batches(
                split, transform=transforms.classification_eval(16), batch_size=batch_size, process_index=p,
                process_count=processes, threads=1,
            )
        )
        for p in range(processes)
    ]  # fmt: skip
    assert len({len(r) for r in runs}) == 1
    rows = joined([joined(list(step)) for step in zip(*runs, strict=True)])
    assert rows["index"][rows["valid"]].tolist() == list(range(len(split)))
    assert (rows["index"][~rows["valid"]] == -1).all() and len(rows["valid"]) % batch_size == 0


def test_batch_must_be_shared_evenly(photographs):
    split = pipeline.open_split(photographs, "train")
    plain = transforms.classification_eval(16)
    with pytest.raises(UserError, match="batch of 6 cannot be shared by 4 processes"):
        pipeline.eval_batches(split, transform=plain, batch_size=6, process_count=4)
    with pytest.raises(UserError, match="batch of 6 cannot be shared by 4 blocks"):
        pipeline.train_batches(split, transform=plain, batch_size=6, seed=0, block_count=4)


def test_images_of_two_sizes_cannot_share_a_batch(tmp_path):
    root = made.tiles(tmp_path / "raw")
    for kind, name, data in zip(
        ("img", "mask"), ("tile_9.tif", "mask_9.tif"), made.scene(9, 4, "uint8", (20, 30), 3), strict=True
    ):
        data = data if data.ndim == 3 else data[..., None]
        (root / "val" / kind / name).write_bytes(codec.encode_tiff(data))
    split = pipeline.open_split(storage.write(FolderSegmentation(str(root), **TILES).plan(), tmp_path / "p"), "val")
    with pytest.raises(UserError, match="cannot share a batch"):
        list(pipeline.eval_batches(split, transform=transforms.segmentation_eval(split.card), batch_size=4, threads=1))
    ones = list(
        pipeline.eval_batches(split, transform=transforms.segmentation_eval(split.card), batch_size=1, threads=1)
    )
    assert [b["image"].shape[1:3] for b in ones] == [(24, 24)] * 3 + [(20, 30)]


def test_corrupt_records_are_replaced_in_place(photographs, caplog):
    split = pipeline.open_split(photographs, "train")
    bad = split.record(4)

    class Damaged:
        """The stored records, with the bytes of two neighbours destroyed."""

        def __len__(self):
            return len(split.source)

        def __getitem__(self, index):
            raw = split.source[index]
            return raw.replace(split.record(index).image[100:200], bytes(100)) if index in (4, 5) else raw

    broken = pipeline.Split(split.card, "train", Damaged())
    options = {"transform": transforms.classification_eval(12), "batch_size": 9, "seed": 0, "threads": 1}
    with pytest.raises(UserError, match=r"class_0/[45]"):
        [next(b) for b in [pipeline.train_batches(broken, **options)] for _ in range(2)]
    whole = [next(b) for b in [pipeline.train_batches(split, **options)] for _ in range(2)]
    mended = [next(b) for b in [pipeline.train_batches(broken, **options, skip_corrupt=2)] for _ in range(2)]
    for a, b in zip(whole, mended, strict=True):
        lost = np.isin(a["index"], (4, 5))
        assert (b["index"][lost] == 6).all() and np.array_equal(a["index"][~lost], b["index"][~lost])
        assert np.array_equal(a["image"][~lost], b["image"][~lost])
    again = pipeline.Split(split.card, "train", Damaged())
    with pytest.raises(
        UserError, match=r"2 records of the split 'train' .* more than the 1 of config.data.skip_corrupt"
    ):
        [next(b) for b in [pipeline.train_batches(again, **options, skip_corrupt=1)] for _ in range(2)]
    assert sorted(broken.corrupt) == [4, 5] and bad.file_name in broken.corrupt[4]
    rows = joined(
        list(
            pipeline.eval_batches(
                broken, transform=transforms.classification_eval(12), batch_size=9, threads=1, skip_corrupt=2
            )
        )
    )
    assert rows["index"][rows["valid"]].tolist() == [i for i in range(18) if i not in (4, 5)]


def test_statistics_and_card(tiles):
    card = DatasetCard.read(tiles)
    split = pipeline.open_split(tiles, "train")
    pixels = np.concatenate([split.decode(i)["image"].reshape(-1, 4) for i in range(len(split))]).astype(np.float64)
    np.testing.assert_allclose(card.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(card.std, pixels.std(0), rtol=1e-6)
    assert [b.low for b in card.bands] == pixels.min(0).tolist() and [b.high for b in card.bands] == pixels.max(
        0
    ).tolist()
    assert card.splits == {"train": 3, "val": 3, "test": 3} and card.channels == 4
    assert DatasetCard.from_json(card.to_json()) == card
    for word in ("nir", "train 3", "255 = ignored", "mean over 3 classes"):
        assert word in card.describe()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pooled_moments_equal_those_of_all_pixels(dtype):
    rng = np.random.default_rng(0)
    images = [(rng.normal(20000 if dtype != "uint8" else 120, 9, (5, 7, 3))).astype(dtype) for _ in range(6)]
    measured = [rng.random((5, 7, 3)) < 0.7 for _ in images]
    total = storage.Moments.of(images[0], measured[0])
    for image, where in zip(images[1:], measured[1:], strict=True):
        total = total + storage.Moments.of(image, where)
    for band in range(3):
        values = np.concatenate([i[..., band][m[..., band]] for i, m in zip(images, measured, strict=True)])
        values = values.astype(np.float64)
        assert total.count[band] == values.size
        np.testing.assert_allclose(total.mean[band], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(total.squares[band] / values.size, values.var(), rtol=1e-4)
        assert (total.low[band], total.high[band]) == (values.min(), values.max())


def test_preparing_twice_reuses_and_a_changed_source_does_not(tmp_path, caplog):
    root = made.photographs(tmp_path / "raw")
    data = {"name": "folder_classification", "source": str(root), "splits": ("train", "val"), "skip_corrupt": 0}
    first = prepare.ensure_prepared(data, tmp_path / "prepared", progress=False)
    stamp = (first / "card.json").stat().st_mtime_ns
    assert prepare.ensure_prepared(data, tmp_path / "prepared", progress=False) == first
    assert (first / "card.json").stat().st_mtime_ns == stamp
    with caplog.at_level("INFO", logger="genseg"):
        assert prepare.ensure_prepared({**data, "source": ""}, tmp_path / "prepared") == first
    assert f"config.data.source is empty: taking {first}" in caplog.text
    moved = tmp_path / "moved"
    root.rename(moved)
    assert prepare.ensure_prepared({**data, "source": str(moved)}, tmp_path / "prepared") == first
    (moved / "train" / "class_0" / "new.jpg").write_bytes((moved / "train" / "class_0" / "0.jpg").read_bytes())
    second = prepare.ensure_prepared({**data, "source": str(moved)}, tmp_path / "prepared", progress=False)
    assert second != first and first.is_dir() and DatasetCard.read(second).splits["train"] == 19
    with pytest.raises(UserError, match="holds 2 copies"):
        prepare.ensure_prepared({**data, "source": ""}, tmp_path / "prepared")


def test_copies_of_another_version_are_named(tmp_path):
    """What an earlier genseg has written, without keys of today, ends in one sentence that says what to do."""
    root, prepared = made.photographs(tmp_path / "raw"), tmp_path / "prepared"
    data = {"name": "folder_classification", "source": str(root), "splits": ("train", "val"), "skip_corrupt": 0}
    copy, folder = {**data, "source": ""}, prepare.ensure_prepared(data, prepared, progress=False)
    good = {name: (folder / name).read_text() for name in ("source.json", "card.json")}
    source = json.loads(good["source.json"])
    del source["options"]
    whole = json.loads(good["source.json"])
    for text in (
        json.dumps(source), json.dumps({**whole, "options": {"colours": 3}}), json.dumps({**whole, "format": 1}), "[]", "{"
    ):  # fmt: skip
        (folder / "source.json").write_text(text)
        with pytest.raises(
            UserError, match=f"{folder.name} was prepared by another version of genseg.*prepare the data"
        ):
            prepare.ensure_prepared(copy, prepared)
    (folder / "source.json").write_text(good["source.json"])
    old = prepared / "folder_classification-00000000"
    old.mkdir()
    (old / "source.json").write_text(json.dumps(source))
    assert prepare.ensure_prepared(copy, prepared) == folder  # an old copy beside one that fits does no harm
    with pytest.raises(
        UserError, match=r"was prepared with splits=\['train', 'val'\], but the config says \['train'\]"
    ):
        prepare.ensure_prepared({**copy, "splits": ("train",)}, prepared)
    card = json.loads(good["card.json"])
    for text, reason in (
        (json.dumps({k: v for k, v in card.items() if k != "bands"}), "it lacks 'bands'"),
        (json.dumps({k: v for k, v in card.items() if k != "protocol"}), "'protocol'"),
        (json.dumps({**card, "author": "x"}), "'author'"), ("[]", "list"), ("", "Expecting value"),
    ):  # fmt: skip
        (folder / "card.json").write_text(text)
        with pytest.raises(
            UserError, match=f"of this version .*{reason}.*: remove {folder} and prepare the data again"
        ):
            pipeline.open_split(folder, "train")


def test_a_failed_preparation_leaves_nothing(tmp_path):
    root = made.photographs(tmp_path / "raw")
    (root / "val" / "class_2" / "0.jpg").write_bytes(b"\xff\xd8 not a photograph")
    data = {"name": "folder_classification", "source": str(root), "splits": ("train", "val"), "skip_corrupt": 0}
    with pytest.raises(UserError, match=r"class_2/0\.jpg cannot be decoded"):
        prepare.ensure_prepared(data, tmp_path / "prepared", progress=False)
    assert list((tmp_path / "prepared").iterdir()) == []
    folder = prepare.ensure_prepared({**data, "skip_corrupt": 1}, tmp_path / "prepared", progress=False)
    card = DatasetCard.read(folder)
    assert card.splits == {"train": 18, "val": 8} and "1 undecodable file(s)" in card.describe()


def test_a_killed_preparation_leaves_nothing_that_looks_prepared(tmp_path):
    script = (
        "import sys, time\nfrom genseg.data.records import storage\nfrom genseg.data.sets.demo import DemoSegmentation\n"
        "import dataclasses\nplan = DemoSegmentation(train_images=4000).plan()\n"
        "storage.write(plan, sys.argv[1], threads=1, progress=False)\n"
    )
    prepared = tmp_path / "prepared"
    process = subprocess.Popen([sys.executable, "-c", script, str(prepared)])
    deadline = time.monotonic() + 60
    while not list(prepared.glob(".partial-*/records/*.array_record*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [p.name for p in prepared.iterdir() if not p.name.startswith(".")] == []
    data = {
        "name": "demo_segmentation",
        "train_images": 2,
        "val_images": 2,
        "size": 16,
        "seed": 0,
        "skip_corrupt": 0,
    }
    folder = prepare.ensure_prepared(data, prepared, progress=False)
    assert len(pipeline.open_split(folder, "val")) == 2
    # The same preparation clears up what its killed forerunner left.
    assert not [p for p in prepared.iterdir() if p.name.startswith(".")]


def test_stored_records_are_a_tfds_data_set(tiles, photographs):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(photographs / "records")
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    assert set(source[0]) == {"image", "label", "file_name"} and len(source) == 18
    assert builder.info.features["label"].names == ["class_0", "class_1", "class_2"]
    record = pipeline.open_split(photographs, "train").record(3)
    assert source[3]["image"] == record.image and source[3]["label"] == record.label
    source = tfds.builder_from_directory(tiles / "records").as_data_source("val")
    assert source[1]["scene"].decode() == "1" and source[1]["scene_height"] == 24


def test_reading_needs_no_tensorflow(tiles):
    code = (
        "import sys; from genseg.data.batches import pipeline; s = pipeline.open_split(sys.argv[1], 'val'); s.decode(0);"
        "assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tiles)], check=True, env={**os.environ})


def test_places_are_known_without_reading_records(tiles, tmp_path):
    split = pipeline.open_split(tiles, "val")
    assert split.places[1] == storage.Place("val/tile_1.tif", "1", 0, 0, 24, 24) and len(split.places) == 3
    old = tmp_path / tiles.name
    shutil.copytree(tiles, old)
    (old / "places.json").unlink()
    with pytest.raises(UserError, match=f"{old} was prepared by another version of genseg: remove it and prepare"):
        pipeline.open_split(old, "val")


def test_unprepared_and_unknown_are_sentences(tmp_path, tiles):
    with pytest.raises(UserError, match="no prepared data set"):
        pipeline.open_split(tmp_path, "train")
    with pytest.raises(UserError, match="no split 'nowhere': it has train, val, test"):
        pipeline.open_split(tiles, "nowhere")
    with pytest.raises(UserError, match="no data set 'coco'"):
        prepare.ensure_prepared({"name": "coco"}, tmp_path)
    with pytest.raises(UserError, match="no prepared folder_segmentation"):
        prepare.ensure_prepared({"name": "folder_segmentation", "source": ""}, tmp_path)
    with pytest.raises(UserError, match="lacks 'splits', which folder_classification needs"):
        prepare.ensure_prepared({"name": "folder_classification", "source": "x", "skip_corrupt": 0}, tmp_path)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("splits", "train", r"config.data.splits is 'train': give a tuple such as"),
        ("split_blocks", "all", "split_blocks is 'all': give a mapping such as"),
        ("ignore_label", "none", "ignore_label is 'none': give a whole number"),
        ("patch", "64.0", "patch is 64.0: give a whole number"), ("scored", "3", "scored is 3: give a tuple"),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(field, text, message, tmp_path, capsys):
    root = made.tiles(tmp_path / "raw")
    argv = ["folder_segmentation", "--source", str(root), "--data_dir", str(tmp_path / "p"), f"--{field}", text]
    assert prepare.main(argv) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]


def test_several_files_a_scene_at_the_command_line(tmp_path):
    for i in range(2):
        image, mask = made.scene(i, 4, "uint8", (12, 16), 3)
        made.save_png(tmp_path / "raw" / "rgb" / f"{i}.png", image[..., :3])
        made.save_png(tmp_path / "raw" / "heat" / f"{i}.png", image[..., 3])
        made.save_png(tmp_path / "raw" / "mask" / f"{i}.png", mask)
    argv = ["folder_segmentation", "--source", str(tmp_path / "raw"), "--data_dir", str(tmp_path / "p")]
    argv += ["--image_pattern", '("rgb/{id}.png", "heat/{id}.png")', "--mask_pattern", "mask/{id}.png"]
    argv += ["--splits", '("train",)', "--bands", '("red", "green", "blue", "heat")', "--classes", '("a", "b", "c")']
    assert prepare.main(argv) == 0
    split = pipeline.open_split(next((tmp_path / "p").iterdir()), "train")
    assert np.array_equal(split.decode(1)["image"], made.scene(1, 4, "uint8", (12, 16), 3)[0])


def test_help_says_which_files_are_read(capsys):
    for argv, words in (
        (["--help"], ("[--data_dir DIR]", "folder_segmentation", "isaid")),
        (["potsdam", "--help"], ("top_potsdam_2_10_RGBIR.tif", "side of patches, pixels", "--allow_incomplete")),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            prepare.main(argv)
        out = capsys.readouterr().out
        assert end.value.code == 0 and all(word in out for word in words)
    with pytest.raises(SystemExit) as end:
        prepare.main(["coco"])
    assert end.value.code == 2 and "choose from" in capsys.readouterr().err


def test_command_line(tmp_path, capsys):
    root = made.photographs(tmp_path / "raw")
    argv = ["folder_classification", "--source", str(root), "--data_dir", str(tmp_path / "p")]
    assert prepare.main(argv) == 0
    out = capsys.readouterr().out
    assert "train 18, val 9" in out and str(tmp_path / "p") in out
    assert prepare.main([*argv[:2], str(tmp_path / "none"), *argv[3:]]) == 2
    err = capsys.readouterr().err
    assert "There is no data set at" in err and "Traceback" not in err
