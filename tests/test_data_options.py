"""Options of one's own data hold everywhere: from the first file on, in preparation, training, scores, maps and hand-overs."""

import json

import jax
import numpy as np
import pytest
import rasterio
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg import exchange, inputs, nets, train
from genseg.data import prepare, show
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.compare_cards import card_for_network
from genseg.data.files import masks
from genseg.data.records import storage
from genseg.data.sets.own import FolderSegmentation
from genseg.errors import CorruptFile, UserError
from genseg.partition import make_mesh
from genseg.predict import __main__ as maps
from genseg.predict.network import Measured
from genseg.score import __main__ as score
from genseg.score import counting

pytestmark = pytest.mark.usefixtures("narrow_micro")

WHERE = rasterio.Affine(10, 0, 700_000, 0, -10, 4_000_000)
IGNORE = 250


def geotiff(path, pixels, transform=WHERE, crs="EPSG:32633", nodata=None, scale=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    shape = dict(height=pixels.shape[0], width=pixels.shape[1], count=pixels.shape[2], dtype=pixels.dtype)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, nodata=nodata, **shape) as file:
        file.write(pixels.transpose(2, 0, 1))
        if scale:
            file.scales = (scale,) * pixels.shape[2]
    return path


def source(root, bands=3, dtype="uint8", ignore=IGNORE, size=64):
    for number, (split, name) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        rng = np.random.default_rng(number)
        # A photometric tag says nothing of more than a few bands.
        pixels = rng.integers(1, 200, (size, size, bands)).astype(dtype)
        mask = rng.integers(0, 2, (size, size)).astype(np.uint8)
        mask[:5] = ignore
        geotiff(root / split / "images" / f"{name}.tif", pixels)
        geotiff(root / split / "masks" / f"{name}.tif", mask)
    return root


def options(root, bands=("red", "green", "blue"), **more):
    return {
        "source": str(root), "data_dir": str(root / "data"), "splits": ("train", "val"), "eval_split": "val", "bands": bands,
        "image_pattern": "{split}/images/{id}.tif", "mask_pattern": "{split}/masks/{id}.tif", "classes": ("x", "y"),
        "palette": (), "protocol": "", **more,
    }  # fmt: skip


def config_of(data):
    made = tiny.load("small_segment", "naip")
    with made.unlocked():
        made.data.update(data)
        made.augment.size, made.eval.mode, made.eval.batch_size = (32, 32), "whole", 8
        made.model.head_channels, made.model.aux_channels = 16, 8
        made.train.steps, made.train.warmup_steps, made.train.batch_size, made.report.panels = 1, 0, 8, 0
    return made.lock()


def plan_of(root, **more):
    given = {
        k: v for k, v in options(root, **more).items() if k not in ("data_dir", "eval_split", "palette", "protocol")
    }
    return FolderSegmentation(**given).plan()


# ---------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("lost", ["a", "b", "c"])
def test_any_damaged_file_may_be_skipped(lost, tmp_path):
    root = source(tmp_path)
    if lost == "c":
        source_of = root / "val" / "images" / "d.tif"
        source_of.write_bytes((root / "val" / "images" / "c.tif").read_bytes())
        (root / "val" / "masks" / "d.tif").write_bytes((root / "val" / "masks" / "c.tif").read_bytes())
    path = next(root.glob(f"*/images/{lost}.tif"))
    path.write_bytes(path.read_bytes()[:300])
    data = {"name": "folder_segmentation", "skip_corrupt": 0, **options(root, ignore_label=IGNORE)}
    data = prepare.completed(
        {k: v for k, v in data.items() if k not in ("data_dir", "eval_split", "skip_corrupt")}, "x"
    )
    with pytest.raises(CorruptFile, match=rf"{lost}\.tif cannot be decoded"):
        prepare.ensure_prepared(data | {"skip_corrupt": 0}, root / "data", progress=False)
    folder = prepare.ensure_prepared(data | {"skip_corrupt": 1}, root / "data", progress=False)
    card = DatasetCard.read(folder)
    assert sum(card.splits.values()) == (3 if lost == "c" else 2)
    assert any("1 undecodable file(s) were left out" in note and f"{lost}.tif" in note for note in card.notes)


def test_all_damaged_is_said(tmp_path):
    root = source(tmp_path)
    for path in (root / "train" / "images").iterdir():
        path.write_bytes(b"II*\0nothing")
    with pytest.raises(CorruptFile, match=r"a\.tif cannot be decoded"):
        plan_of(root)


# --------------------------------------------------------------------------------------------- another ignore label


def test_an_ignore_label_of_250_from_masks_to_hand_overs(tmp_path):
    root = source(tmp_path)
    made = config_of(options(root, ignore_label=IGNORE))
    train.train(made, str(root / "run"))
    folder = prepare.ensure_prepared(made.data, made.data.data_dir)
    split = pipeline.open_split(folder, "val")
    assert (split.decode(0)["label"][:5] == IGNORE).all()
    assert show.sheet(split, 1).size[0] > 60
    checkpoint = f"--checkpoint={root / 'run'}"
    by_training = np.load(root / "run" / "val_scene_counts.npz")["confusion"].sum(0)
    assert by_training.sum() == 59 * 64
    images, truth = str(root / "val" / "images"), f"--masks={root / 'val' / 'masks'}"
    assert score.main([checkpoint, f"--prepared={folder}", "--split=val", f"--out={root / 'a'}"]) == 0
    assert score.main([checkpoint, truth, images, f"--out={root / 'b'}"]) == 0
    # Maps: what is not measured has the label, which is stated as nodata.
    holed = split.decode(0)["image"].copy()
    holed[10:20] = 0
    scene = geotiff(root / "scene.tif", holed, nodata=0)
    assert maps.main([checkpoint, f"--out={root / 'maps'}", str(scene), f"{images}/c.tif", "--mode=whole"]) == 0
    with rasterio.open(root / "maps" / "scene_classes.tif") as file:
        ids = file.read(1)
        assert file.nodata == IGNORE and (ids[10:20] == IGNORE).all() and set(np.unique(ids)) <= {0, 1, IGNORE}
    assert score.main(["--maps", truth, str(root / "maps" / "c_classes.tif"), f"--out={root / 'c'}"]) == 0
    for name in "abc":
        np.testing.assert_array_equal(json.loads((root / name / "score.json").read_text())["confusion"], by_training)


@pytest.mark.parametrize(("label", "said"), [(250, 250), (255, 255), (None, -100)])
def test_a_hand_over_says_the_ignore_label(label, said):
    net = nets.segmenter("convnext_tiny", channels=3, classes=2, drop_path=0.0)
    params, _ = jax.eval_shape(net.init, jax.random.key(0))
    assert exchange.config(params, "convnext_tiny", "huggingface", ("x", "y"), label)["loss_ignore_index"] == said


# ---------------------------------------------------------------------------------------------------- many bands


def test_200_bands_come_to_the_devices(tmp_path):
    names = tuple(f"b{i}" for i in range(200))
    root = source(tmp_path, bands=200, dtype="uint16")
    made = config_of(options(root, bands=names, ignore_label=IGNORE))
    data = inputs.open_inputs(made)
    batch = data.first_batch(make_mesh(-1, 1))
    assert batch["image"].shape == (8, 32, 32, 200) and np.isfinite(batch["image"]).all()
    record = data.eval_split.decode(0)
    with rasterio.open(root / "val" / "images" / "c.tif") as file:
        np.testing.assert_array_equal(record["image"], file.read().transpose(1, 2, 0))
    assert show.sheet(data.eval_split, 1).size[0] > 60


# ------------------------------------------------------------------------------------------------------ large ids


@settings(max_examples=100, deadline=None)
@given(
    ids=st.lists(st.integers(2**52, 2**64 - 1), min_size=1, max_size=6, unique=True), step=st.sampled_from([0, 1, -1]),
    place=st.integers(0, 5),
)  # fmt: skip
def test_ids_of_64_bits_are_themselves(ids, step, place):
    mask = np.array([[*ids, 255]], np.uint64)
    wanted = [[*range(len(ids)), 255]]
    assert masks.renumber(mask, tuple(ids), 255, None, "m").tolist() == wanted
    other = ids[place % len(ids)] + step
    if other in ids or not 0 <= other < 2**64:
        return
    mask[0, 0] = other
    with pytest.raises(UserError, match=rf"holds the label {other}, which"):
        masks.renumber(mask, tuple(ids), 255, None, "m")


# -------------------------------------------------------------------------------------------- scores of files in place


def test_masks_of_other_ground_or_with_a_class_as_nodata_are_refused(tmp_path):
    card = DatasetCard("a", "segmentation", (Band("grey"),), ("x", "y"), (), 255, (0, 1), {}, "", True)
    mask = np.zeros((8, 8), np.uint8)
    here = [(tmp_path / "image.tif", predict_place(geotiff(tmp_path / "image.tif", mask)), (8, 8))]
    assert (counting.read_mask(geotiff(tmp_path / "m.tif", mask), card, None, here) == 0).all()
    moved = geotiff(tmp_path / "moved.tif", mask, transform=WHERE @ rasterio.Affine.translation(3, 0))
    with pytest.raises(UserError, match=r"moved\.tif lies elsewhere on the ground than .*image\.tif"):
        counting.read_mask(moved, card, None, here)
    zone = geotiff(tmp_path / "zone.tif", mask, crs="EPSG:32634")
    with pytest.raises(UserError, match=r"zone\.tif is in EPSG:32634, but .*image\.tif in EPSG:32633"):
        counting.read_mask(zone, card, None, here)
    with pytest.raises(UserError, match=r"n\.tif states the nodata value 0, which is the id of the class 'x'"):
        counting.read_mask(geotiff(tmp_path / "n.tif", mask, nodata=0), card, None)


def predict_place(path):
    from genseg.data.files.maps import Place

    return Place.of(path)


# ------------------------------------------------------------------------------------------------ scale and offset


def test_other_scales_than_those_of_training_are_named(tmp_path):
    pixels = np.random.default_rng(0).integers(1000, 3000, (32, 32, 2)).astype(np.uint16)
    for split in ("train", "val"):
        geotiff(tmp_path / split / "images" / f"{split}.tif", pixels, scale=0.0001)
        geotiff(tmp_path / split / "masks" / f"{split}.tif", (pixels[..., 0] > 2000).astype(np.uint8))
    plan = plan_of(tmp_path, bands=("red", "nir"))
    card = DatasetCard.read(storage.write(plan, tmp_path / "data", progress=False))
    assert [band.scale for band in card.bands] == [(0.0001, 0.0)] * 2
    assert DatasetCard.from_json(card.to_json()) == card
    from genseg.data.files.rasters import Raster

    def said(scale, of=card):
        path = geotiff(tmp_path / "scene.tif", pixels, scale=scale)
        return Measured(Raster([path]), of).strange()

    assert said(0.0001) == []
    assert said(None) == [
        f"{name} has scale and offset 1 and 0 here, and were 0.0001 and 0 in training (values are read as stored)"
        for name in ("red", "nir")
    ]
    plain = DatasetCard.from_json(json.dumps(json.loads(card.to_json()) | {"bands": [
        {k: v for k, v in band.items() if k != "scale"} for band in json.loads(card.to_json())["bands"]]}))  # fmt: skip
    assert [band.scale for band in plain.bands] == [None, None] and '"scale"' not in plain.to_json()
    assert "none are known of training" in said(0.5, plain)[0]
    (note,) = [n for n in card_for_network(plain, card).notes if "another scale" in n]
    assert "red, nir" in note
