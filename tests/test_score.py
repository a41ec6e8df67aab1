"""One count of a network's pixels, whichever way it is asked for: by training, a prepared split, files, or maps."""

import csv
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rasterio
import tifffile
import tiny
from PIL import Image

from genseg import border_scores, metrics, nets, predict, scene_borders, train
from genseg.data import prepare, show
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.errors import UserError
from genseg.predict.products import paths
from genseg.score import __main__ as command
from genseg.score import command as scoring
from genseg.score import counting, report, sources

pytestmark = pytest.mark.usefixtures("narrow_micro")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The demo's fine-tuning for a step; its prepared data; the evaluation split as files."""
    root = tmp_path_factory.mktemp("scored")
    patch = pytest.MonkeyPatch()
    patch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(root / "data")
    config.train.steps, config.train.warmup_steps, config.report.panels = 1, 0, 0
    config.model.head_channels, config.model.aux_channels = 16, 8
    train.train(config.lock(), str(root / "run"))
    prepared = prepare.ensure_prepared(config.data, config.data.data_dir)
    split = pipeline.open_split(prepared, config.data.eval_split)
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for i in range(len(split)):
        record = split.decode(i)
        tifffile.imwrite(
            root / "images" / f"s{i}.tif", record["image"], photometric="minisblack", planarconfig="contig"
        )
        tifffile.imwrite(root / "masks" / f"s{i}_mask.tif", record["label"])
    yield root, prepared, config.data.eval_split
    patch.undo()


def confusion_of(folder):
    return np.array(json.loads((folder / "score.json").read_text())["confusion"])


@pytest.fixture(scope="module")
def by_training(trained):
    root, _, split = trained
    with (root / "run" / "pictures" / f"{split}_confusion.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array([[int(cell) for cell in row[1:-1]] for row in rows])


def test_a_prepared_split_counts_what_training_counted(trained, by_training, tmp_path):
    root, prepared, split = trained
    argv = [f"--checkpoint={root / 'run'}", f"--prepared={prepared}", f"--split={split}"]
    assert command.main([*argv, f"--out={tmp_path / 'a'}", "--panels=3"]) == 0
    assert Image.open(tmp_path / "a" / "samples.png").height > 3 * 200
    np.testing.assert_array_equal(confusion_of(tmp_path / "a"), by_training)
    result = json.loads((root / "run" / "result.json").read_text())["scores"]
    assert json.loads((tmp_path / "a" / "score.json").read_text())["scores"]["miou"] == result["miou"]
    # Another data set's statistics change nothing: the network is fed through its own card.
    other = shutil.copytree(prepared, tmp_path / "other")
    card = DatasetCard.read(other)
    bands = tuple(dataclasses.replace(band, mean=band.mean + 40, std=3 * band.std) for band in card.bands)
    (other / "card.json").write_text(dataclasses.replace(card, bands=bands).to_json())
    argv[1] = f"--prepared={other}"
    assert command.main([*argv, f"--out={tmp_path / 'b'}"]) == 0
    np.testing.assert_array_equal(confusion_of(tmp_path / "b"), by_training)


def test_a_network_of_some_bands_finds_them_in_data_of_more(trained, tmp_path):
    root, prepared, split = trained
    config = tiny.segment(root / "data")
    config.data.only_bands = ("thermal", "red")
    config.train.steps, config.train.warmup_steps, config.report.panels = 1, 0, 0
    config.model.head_channels, config.model.aux_channels = 16, 8
    train.train(config.lock(), str(tmp_path / "run"))
    argv = [
        f"--checkpoint={tmp_path / 'run'}",
        f"--prepared={prepared}",
        f"--split={split}",
        f"--out={tmp_path / 'out'}",
    ]
    assert command.main(argv) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    assert json.loads((tmp_path / "out" / "score.json").read_text())["scores"]["miou"] == result["miou"]
    opened = pipeline.open_split(prepared, split)
    network, image = show.network_of(str(tmp_path / "run"), opened.card, best=False), opened.decode(0)["image"]
    blind = image.copy()
    blind[..., 1:3] = 0  # green and blue
    np.testing.assert_array_equal(network(image), network(blind))


def test_files_and_maps_count_what_training_counted(trained, by_training, tmp_path, capsys):
    root = trained[0]
    argv = [f"--checkpoint={root / 'run'}", f"--masks={root / 'masks'}", f"--out={tmp_path / 'files'}", "--batch=8"]
    assert command.main([*argv, "--errors", "--borders", str(root / "images")]) == 0
    np.testing.assert_array_equal(confusion_of(tmp_path / "files"), by_training)
    text = capsys.readouterr().out
    assert "mIoU" in text and "95 % interval" in text and "boundary_iou_3px" in text
    with (tmp_path / "files" / "scenes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and sum(int(row["pixels"]) for row in rows) == by_training.sum()
    wrong = sum((tifffile.imread(path) == 1).sum() for path in (tmp_path / "files").glob("*_errors.tif"))
    assert wrong == by_training.sum() - np.trace(by_training)

    with open(root / "run" / "config.json") as file:
        seen = json.load(file)["eval"]
    maps = [f"--checkpoint={root / 'run'}", f"--out={tmp_path / 'maps'}", "--batch=8", f"--mode={seen['mode']}"]
    maps += ["--crop", *map(str, seen["crop"]), "--stride", *map(str, seen["stride"]), f"--blend={seen['blend']}"]
    assert predict.main([*maps, "--no-quicklook", str(root / "images")]) == 0
    argv = [f"--masks={root / 'masks'}", "--maps", f"--out={tmp_path / 'again'}", f"{tmp_path / 'maps'}/*_classes.tif"]
    assert command.main(argv) == 0
    np.testing.assert_array_equal(confusion_of(tmp_path / "again"), by_training)


@pytest.mark.parametrize("scene", ["scene", "land_classes_2020", "land_classes", "v1.2"])
def test_a_map_finds_the_record_of_its_scene_by_name(tmp_path, scene):
    card = DatasetCard(
        "x", "segmentation", (Band("g", 100, 50),), ("ground", "water"), ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {}, "p", False
    )  # fmt: skip
    out = tmp_path / "maps"
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 4), np.uint8))
    written = paths(predict.Scene(scene, ((tmp_path / "x.tif", ()),)), out, predict.Products())
    out.mkdir()
    written["record"].write_text(json.dumps({"card": json.loads(card.to_json())}))
    for name in (written["classes"], written["classes"].with_suffix(".tif")):
        assert scoring._card_of(name) == card


@pytest.mark.parametrize(
    ("dtype", "nodata", "said"),
    [
        ("int16", -32768, "holds 255 where its mask has a class"),
        ("float32", np.float32(-3.4028235e38), "holds 255 where its mask has a class"),
        ("float32", None, "map .* holds the label 1.5"),
        ("int32", 0, "map .* states the nodata value 0"),
    ],
)
def test_maps_that_another_program_stored_anew_are_not_read_as_classes(tmp_path, dtype, nodata, said):
    card = DatasetCard(
        "x", "segmentation", (Band("g", 100, 50),), ("ground", "water"), ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {}, "p", False
    )  # fmt: skip
    truth = np.repeat(np.uint8([0, 1]), 32)[:, None] * np.ones((1, 64), np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", truth)

    def score(stored):
        with rasterio.open(
            tmp_path / "map.tif", "w", driver="GTiff", height=64, width=64, count=1, dtype=dtype, nodata=nodata
        ) as file:
            file.write(stored.astype(dtype), 1)
        (scene,) = predict.scenes_of([str(tmp_path / "map.tif")])
        pair = [(scene, tmp_path / "mask.tif")]
        return sources.drawn(card, pair, None, borders=False, told=lambda scene: None, errors=None)[0].confusion

    if nodata != 0:
        assert (score(truth) == np.diag([2048, 2048])).all()
    stored = truth.astype(np.float64)
    stored[:8] = 1.5 if nodata is None else nodata
    with pytest.raises(UserError, match=said):
        score(stored)


def test_a_contact_sheet_shows_what_the_network_makes_of_the_records(
    trained, by_training, monkeypatch, tmp_path, capsys
):
    root, prepared, split = trained
    opened = pipeline.open_split(prepared, split)
    network = show.network_of(str(root / "run"), opened.card, best=False)
    counted = np.zeros_like(by_training)
    for i in range(len(opened)):
        record = opened.decode(i)
        ids, titled = network(record["image"]), dict(show.pictures(record, opened.card, network))
        counted += metrics.count(ids, record["label"], record["label"] != 255, len(opened.card.classes))
        np.testing.assert_array_equal(titled["mask predicted"], show.colour_mask(ids, opened.card))
        wrong = (titled["mask wrong"] == show.WRONG).all(axis=2)
        np.testing.assert_array_equal(wrong, (ids != record["label"]) & (record["label"] != 255))
    np.testing.assert_array_equal(counted, by_training)
    monkeypatch.setattr(prepare, "ensure_prepared", lambda *_, **__: prepared)
    argv = ["demo_segmentation", f"--data_dir={root}", f"--show_split={split}", "--count=2"]
    argv.append(f"--output={tmp_path / 'sheet.png'}")
    assert show.main([*argv, f"--checkpoint={root / 'run'}"]) == 0
    assert Image.open(tmp_path / "sheet.png").width > 6 * show.CELL  # two more than without a network
    assert show.main([*argv, f"--checkpoint={tmp_path / 'none'}"]) == 2 and show.main([*argv, "--checkpoint="]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_borders_in_tiles_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 3, (9, 8)), np.ones((7, 7), int)).astype(np.uint8)
    ids = np.where(rng.random(label.shape) < 0.1, rng.integers(0, 3, label.shape), label).astype(np.uint8)
    label[20:25, :9] = 255
    monkeypatch.setattr(scene_borders, "TILE", 20)
    found = counting.count("x", ids, label, 3, borders=True)
    whole = jax.jit(border_scores.border_counts, static_argnums=3)(
        jnp.asarray(ids, jnp.int32)[None], jnp.asarray(label, jnp.int32)[None], jnp.asarray(label != 255)[None], 3
    )
    np.testing.assert_array_equal(found.borders, whole[0])
    np.testing.assert_array_equal(found.confusion, metrics.count(ids, label, label != 255, 3))


def test_intervals_cover_as_often_as_they_say():
    """Scenes of many pixels with known accuracies: the mean of the accuracies lies in 95 % intervals about so often."""
    card = DatasetCard(
        name="x", task="segmentation", bands=(Band("a"),), classes=("a", "b"), palette=(), ignore_label=None,
        scored=(0, 1), splits={}, protocol="", synthetic=True,
    )  # fmt: skip
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        right = rng.beta(8, 2, 30) * 1000
        confusions = np.array([[[int(r), 1000 - int(r)], [0, 0]] for r in right])
        found = report.interval(confusions, card, "oa")
        inside += found.low <= 0.8 <= found.high
    assert 51 <= inside < 60
    assert report.interval(confusions[:1], card, "oa") is None


def test_mistakes_end_in_one_sentence(trained, tmp_path, capsys):
    root, prepared, split = trained
    tifffile.imwrite(tmp_path / "s0.tif", np.full((5, 5), 1, np.uint8))
    (tmp_path / "strange").mkdir()
    shape = tifffile.imread(root / "masks" / "s0_mask.tif").shape
    tifffile.imwrite(tmp_path / "strange" / "s0.tif", np.full(shape, 77, np.uint8))
    image = str(root / "images" / "s0.tif")
    (tmp_path / "pairs.csv").write_text(f"{image}\n")
    network, out = f"--checkpoint={root / 'run'}", f"--out={tmp_path / 'out'}"
    for argv, message in (
        ([network, out, image], "give one of them"),
        ([out, f"--masks={tmp_path}", image], "There is no network to score"),
        ([network, out, f"--masks={tmp_path}", image], "and its mask"),
        ([network, out, f"--masks={tmp_path / 'no'}", image], "There is no folder of masks"),
        ([network, out, f"--masks={tmp_path / 'strange'}", image], "holds the label 77"),
        ([network, out, f"--masks={tmp_path}", str(root / "images" / "s1.tif")], "has no mask in"),
        ([network, out, f"--masks={tmp_path}", "--panels=2", image], "--panels are of a prepared split"),
        ([network, out, f"--pairs={tmp_path / 'pairs.csv'}"], "give the scene's files, and its mask last"),
        ([network, out, f"--prepared={prepared}", f"--split={split}", "--borders"], "are of scenes in files"),
        ([out, "--maps", f"--masks={tmp_path}", str(tmp_path / "s0.tif")], "has no record s0.json"),
    ):
        assert command.main(argv) == 2, argv
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0], error
