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

from genseg import border_scores, metrics, nets, outputs, predict, scene_borders, train
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
    assert "; 10 scenes; seen in " in text
    with (tmp_path / "files" / "scenes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and sum(int(row["pixels"]) for row in rows) == by_training.sum()
    wrong = sum((tifffile.imread(path) == 1).sum() for path in (tmp_path / "files").glob("*_errors.tif"))
    assert wrong == by_training.sum() - np.trace(by_training)

    assert predict.main([*own_way(root, tmp_path / "maps"), str(root / "images")]) == 0
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
    written["record"].write_text(json.dumps({"software": outputs.MARK, "card": json.loads(card.to_json())}))
    for name in (written["classes"], written["classes"].with_suffix(".tif")):
        assert scoring._card_of(name) == card


@pytest.mark.parametrize(
    ("dtype", "nodata", "said"),
    [
        ("int16", -32768, None),
        ("float32", np.float32(-3.4028235e38), None),
        ("uint8", 255, None),
        ("uint8", None, "holds 255 where its mask has a class"),
        ("int16", -1, "holds 255 where its mask has a class"),
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
        given = [sources.Map("map", tmp_path / "map.tif", tmp_path / "mask.tif", None)]
        return sources.drawn(card, given, None, borders=False, told=lambda scene: None, errors=None)[0]

    if nodata != 0:
        assert (score(truth).confusion == np.diag([2048, 2048])).all()
    stored = truth.astype(np.float64)
    stored[:8] = nodata if nodata is not None and nodata != -1 else 1.5 if dtype == "float32" else 255
    if said is None:  # what the file itself says to be nothing
        assert (score(stored).confusion == np.diag([2048 - 8 * 64, 2048])).all() and score(stored).left_out == 8 * 64
        return
    with pytest.raises(UserError, match=said):
        score(stored)


def own_way(root, out):
    """Options of `predict` that show the network what its training's evaluation did."""
    seen = json.loads((root / "run" / "config.json").read_text())["eval"]
    argv = [f"--checkpoint={root / 'run'}", f"--out={out}", "--batch=8", f"--mode={seen['mode']}", "--no-quicklook"]
    return [*argv, "--crop", *map(str, seen["crop"]), "--stride", *map(str, seen["stride"]), f"--blend={seen['blend']}"]


def test_maps_of_scenes_with_holes_score_as_the_network_does(trained, tmp_path, capsys):
    root = trained[0]
    scenes, card = tmp_path / "scenes", pipeline.open_split(trained[1], trained[2]).card
    scenes.mkdir()
    for i in range(2):
        pixels = np.moveaxis(tifffile.imread(root / "images" / f"s{i}.tif"), 2, 0).copy()
        pixels[pixels == 0] = 1
        pixels[:, : 9 + i, 5:30] = 0
        with rasterio.open(
            scenes / f"s{i}.tif", "w", driver="GTiff", height=pixels.shape[1], width=pixels.shape[2], count=len(pixels),
            dtype=pixels.dtype, nodata=0,
        ) as file:  # fmt: skip
            file.write(pixels)
    masks, network = f"--masks={root / 'masks'}", f"--checkpoint={root / 'run'}"
    assert command.main([network, masks, f"--out={tmp_path / 'a'}", "--borders", "--batch=8", str(scenes)]) == 0
    assert predict.main([*own_way(root, tmp_path / "maps"), str(scenes)]) == 0
    maps = [str(tmp_path / "maps" / f"s{i}_classes.tif") for i in range(2)]
    capsys.readouterr()
    assert command.main(["--maps", masks, f"--out={tmp_path / 'b'}", "--borders", *maps]) == 0
    text = capsys.readouterr().out
    a, b = (json.loads((tmp_path / name / "score.json").read_text()) for name in "ab")
    assert a["confusion"] == b["confusion"] and a["scores"] == b["scores"]
    assert [*a["left_out"].values()] == [*b["left_out"].values()]
    labels = [tifffile.imread(root / "masks" / f"s{i}_mask.tif")[: 9 + i, 5:30] for i in range(2)]
    lost = sum(int((label < len(card.classes)).sum()) for label in labels)
    assert sum(b["left_out"].values()) == lost > 0
    assert f"NOTE       {lost:,} of" in text and "the maps have no class there" in text
    # The same map without the file's own word for it, as in a picture: genseg's record says what 255 is; nothing else does.
    ids = tifffile.imread(maps[0])
    tifffile.imwrite(maps[0], ids)
    assert command.main(["--maps", masks, f"--out={tmp_path / 'c'}", "--borders", *maps]) == 0
    assert json.loads((tmp_path / "c" / "score.json").read_text())["confusion"] == a["confusion"]
    (tmp_path / "maps" / "s0.json").unlink()
    assert command.main(["--maps", network, masks, f"--out={tmp_path / 'd'}", *maps]) == 2
    assert "holds 255 where its mask has a class" in capsys.readouterr().err


def test_each_map_is_read_by_its_own_record_or_refused(trained, tmp_path, capsys):
    root = trained[0]
    maps, masks = tmp_path / "maps", f"--masks={root / 'masks'}"
    images = [str(root / "images" / f"s{i}.tif") for i in range(3)]
    assert predict.main([*own_way(root, maps), *images]) == 0
    given = [str(maps / f"s{i}_classes.tif") for i in range(3)]
    record = json.loads((maps / "s1.json").read_text())
    record["card"]["classes"] = record["card"]["classes"][::-1]
    (maps / "s1.json").write_text(json.dumps(record))
    capsys.readouterr()
    for network in ([], [f"--checkpoint={root / 'run'}"]):
        assert command.main(["--maps", *network, masks, f"--out={tmp_path / 'a'}", *given]) == 2
        error = capsys.readouterr().err.strip()
        assert (
            error.count("\n") == 0 and f"The map {given[1]} has the classes" in error and "in the same order" in error
        )
    for odd in (f"{given[0]}:1", f"{given[0]}+{given[2]}"):
        assert command.main(["--maps", masks, f"--out={tmp_path / 'a'}", odd]) == 2
        assert "give each scene's one map as it is" in capsys.readouterr().err
    (maps / "s1.json").unlink()  # then the network's classes are all that is known of it
    assert command.main(["--maps", f"--checkpoint={root / 'run'}", masks, f"--out={tmp_path / 'a'}", *given]) == 0


def test_a_score_takes_the_place_of_the_former_with_its_pictures(trained, tmp_path, capsys):
    root, out = trained[0], tmp_path / "out"
    argv = [f"--checkpoint={root / 'run'}", f"--masks={root / 'masks'}", f"--out={out}", "--batch=8"]
    images = [str(root / "images" / f"s{i}.tif") for i in range(3)]
    assert command.main([*argv, "--errors", *images[:2]]) == 0
    (out / "mine_errors.tif").write_bytes((out / "s0_errors.tif").read_bytes())
    capsys.readouterr()
    assert command.main([*argv, "--errors", *images[1:]]) == 0
    assert sorted(path.name for path in out.glob("*_errors.tif")) == [
        "mine_errors.tif",
        "s1_errors.tif",
        "s2_errors.tif",
    ]
    assert f"Removed, of the former scores in {out}: s0_errors.tif" in capsys.readouterr().out
    assert command.main([*argv, *images[1:]]) == 0
    assert [path.name for path in out.glob("*_errors.tif")] == ["mine_errors.tif"]  # which no score of genseg lists


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
