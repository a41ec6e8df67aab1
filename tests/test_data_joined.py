"""Several data sets in one run: one card, records in order, rows drawn as asked, each scored alone and all together."""

import dataclasses

import jax
import numpy as np
import pytest
import tifffile
import tiny

from genseg import design, evaluate, inputs, partition, recipes
from genseg.errors import UserError
from genseg.tasks import Segment
from genseg.windows import Inference
from tests.data import made
from tests.test_evaluate import value_net

TILES = {
    "name": "folder_segmentation", "image_pattern": "{split}/img/tile_{id}.tif",
    "mask_pattern": "{split}/mask/mask_{id}.tif", "bands": ("red", "green", "blue", "nir"), "classes": ("a", "b", "c"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two data sets whose files have the same names; the second one's pixels are brighter and fewer."""
    root = tmp_path_factory.mktemp("joined")
    for name, count in (("plain", 5), ("bright", 3)):
        made.tiles(root / name, count=count)
    for path in (root / "bright").glob("*/img/*.tif"):
        tifffile.imwrite(path, tifffile.imread(path) // 2 + 120)
    return root


def config(root, **data):
    made_of = dict(TILES, source=str(root / "plain"), data_dir=str(root / "prepared"))
    made_of["also"] = {"bright": TILES | {"source": str(root / "bright")}}
    one = tiny.segment(root / "prepared")
    plain = one.to_dict()
    kept = {
        k: v
        for k, v in plain["data"].items()
        if k in ("train_split", "eval_split", "skip_corrupt", "threads", "workers")
    }
    plain["data"] = kept | made_of | data
    plain["augment"]["size"] = (32, 32)
    return recipes.segment.config({k: v for k, v in plain.items() if isinstance(v, dict)})


def test_records_stand_one_behind_the_other_under_pooled_statistics(folders):
    data = inputs.open_inputs(config(folders))
    split = data.train_split
    assert len(split) == 8 and split.card.splits["train"] == 8 and split.card.name == "folder_segmentation+bright"
    names = [split.decode(i)["name"] for i in range(8)]
    assert [n.split("/")[0] for n in names] == ["folder_segmentation"] * 5 + ["bright"] * 3 and len(set(names)) == 8
    pixels = np.concatenate([split.decode(i)["image"].reshape(-1, 4) for i in range(8)]).astype(float)
    np.testing.assert_allclose(data.card.mean, pixels.mean(0), rtol=1e-6)  # tiles of equal size: as if one data set
    np.testing.assert_allclose(data.card.std, pixels.std(0), rtol=1e-6)
    assert [b.high for b in data.card.bands] == list(pixels.max(0))
    assert [p.file_name for p in split.places] == names and len({p.scene for p in split.places}) == 8
    halved = split.shared(0.4)
    assert len(halved) == 2 + 1 and halved.decode(2)["name"].startswith("bright/")


def test_some_of_the_bands_are_picked_by_name_and_in_order(folders):
    whole, some = (inputs.open_inputs(config(folders, only_bands=names)) for names in ((), ("nir", "red")))
    assert [band.name for band in some.card.bands] == ["nir", "red"]
    np.testing.assert_array_equal(some.card.mean, whole.card.mean[[3, 0]])
    for i in (0, 6):
        ours, theirs = (data.train_split.decode(i) for data in (some, whole))
        np.testing.assert_array_equal(ours["image"], theirs["image"][..., [3, 0]])
        np.testing.assert_array_equal(ours["label"], theirs["label"])
    assert inputs.card_without_data(config(folders, only_bands=("nir", "red"))).channels == 2
    with pytest.raises(UserError, match="has no band 'nirr': its bands are red, green, blue, nir; did you mean 'nir'"):
        inputs.open_inputs(config(folders, only_bands=("nirr",)))


def test_rows_come_from_each_as_often_as_its_weight_says(folders):
    weights = {"folder_segmentation": 1.0, "bright": 3.0}
    data = inputs.open_inputs(config(folders, also_weights=weights))
    stream = data.sampling.stream(len(data.train_split), seed=0)
    drawn = np.bincount([stream[i] for i in range(8000)], minlength=8) / 8000
    np.testing.assert_allclose(drawn, [0.25 / 5] * 5 + [0.75 / 3] * 3, atol=0.02)
    parts = {
        name: np.concatenate([data.train_split.decode(i)["image"].reshape(-1, 4) for i in places]).astype(float)
        for name, places in (("folder_segmentation", range(5)), ("bright", range(5, 8)))
    }
    mean = 0.25 * parts["folder_segmentation"].mean(0) + 0.75 * parts["bright"].mean(0)
    square = 0.25 * (parts["folder_segmentation"] ** 2).mean(0) + 0.75 * (parts["bright"] ** 2).mean(0)
    np.testing.assert_allclose(data.card.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(data.card.std, np.sqrt(square - mean**2), rtol=1e-5)


def test_weighted_rows_are_taken_up_anywhere_without_what_came_before(folders):
    one = config(folders, also_weights={"folder_segmentation": 1.0, "bright": 3.0})
    data, mesh = inputs.open_inputs(one), partition.make_mesh()
    through, resumed = data.train_batches(start=0, mesh=mesh), data.train_batches(start=2, mesh=mesh)
    seen = [next(through) for _ in range(4)]
    for right in seen[2:]:
        jax.tree.map(np.testing.assert_array_equal, next(resumed), right)
    assert any((seen[0]["index"] != later["index"]).any() for later in seen[1:])


def test_all_are_scored_together_and_each_alone(folders):
    data = inputs.open_inputs(config(folders))
    card = dataclasses.replace(
        data.card, bands=tuple(dataclasses.replace(b, mean=0.0, std=1.0) for b in data.card.bands)
    )
    task = Segment(value_net(3), card, Inference("whole", (32, 32), (32, 32), "uniform", False, (1.0,), 32))
    counts = evaluate.Evaluation(task, data, partition.make_mesh())(*task.net.init(None))
    assert counts["confusion"].sum() == 8 * 24 * 24  # val has as many tiles as train here
    alone = [counts["confusion_folder_segmentation"], counts["confusion_bright"]]
    assert [c.sum() // 576 for c in alone] == [5, 3] and (sum(alone) == counts["confusion"]).all()
    scores = task.summarize(counts)
    for name, confusion in (("miou_folder_segmentation", alone[0]), ("miou_bright", alone[1])):
        hit = np.diag(confusion)
        np.testing.assert_allclose(scores[name], (hit / (confusion.sum(0) + confusion.sum(1) - hit)).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"classes": ("a", "c", "b")}, "'folder_segmentation' and 'bright' cannot be trained on together: classes"),
        ({"bands": ("red", "green", "nir", "blue")}, "the bands are red, green, blue, nir and red, green, nir, blue"),
        ({"ignore_label": 9}, "ignore_label is 255 and 9"),
        ({"colour": 1}, r"config.data.also\['bright'\] has 'colour', which folder_segmentation does not know"),
        ({"name": "folders"}, "names no data set"),
        ({"splits": ("val",)}, "'bright' has no split 'train'"),
    ],
)
def test_what_does_not_go_together_is_refused(folders, other, said):
    one = config(folders, also={"bright": TILES | {"source": str(folders / "bright")} | other})
    with pytest.raises(UserError, match=said):
        inputs.open_inputs(one)


def test_values_of_another_scale_are_refused(folders, tmp_path):
    """Both would be read as stored, and pooled as if their units were one."""
    made.tiles(tmp_path / "scaled")
    tags = {"scale": 1e-4, "offset": -0.1}
    items = "".join(f'<Item name="{k.upper()}" sample="1" role="{k}">{v}</Item>' for k, v in tags.items())
    stated = [(42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)]
    for path in (tmp_path / "scaled").glob("*/img/*.tif"):
        tifffile.imwrite(path, tifffile.imread(path), photometric="minisblack", planarconfig="contig", extratags=stated)
    scaled = TILES | {"source": str(tmp_path / "scaled")}
    said = "'folder_segmentation' and 'scaled' cannot .*: band green has no scale in one and scale 0.0001, offset -0.1 in the"
    with pytest.raises(UserError, match=said):
        inputs.open_inputs(config(folders, also={"scaled": scaled}))
    one = config(folders, also={"scaled": scaled}, only_bands=("red", "nir"))
    assert inputs.open_inputs(one).card.channels == 2  # bands that are not read do not matter


@pytest.mark.parametrize("name", ["stitched", "all", "here/there"])
def test_names_that_would_mix_with_others_are_refused_before_anything_is_prepared(folders, tmp_path, name):
    one = config(folders, data_dir=str(tmp_path), also={name: TILES | {"source": str(folders / "bright")}})
    with pytest.raises(UserError, match=rf"config\.data\.also\['{name}'\] .*give it another"):
        inputs.open_inputs(one)
    assert not list(tmp_path.iterdir())


def test_borders_of_a_part_are_found_by_its_whole_name():
    counts = {name: np.full(1, i) for i, name in enumerate(("borders", "borders_confusion", "borders_stitched_too"))}
    for name, place in (
        ("confusion", 0),
        ("confusion_stitched", 0),
        ("confusion_confusion", 1),
        ("confusion_stitched_too", 2),
    ):
        assert evaluate._borders_of(counts, name) == place


def test_weights_that_name_others_and_the_same_data_twice_are_refused(folders):
    with pytest.raises(UserError, match="also_weights names dark; give one for each of folder_segmentation, bright"):
        inputs.open_inputs(config(folders, also_weights={"dark": 1.0}))
    with pytest.raises(UserError, match="also_weights is .*numbers above 0"):
        config(folders, also_weights={"bright": 0.0})
    twice = {"again": TILES | {"source": str(folders / "plain")}}
    with pytest.raises(UserError, match="is the same data as another"):
        inputs.open_inputs(config(folders, also=twice))
    balanced = config(folders, also_weights={"folder_segmentation": 1.0, "bright": 1.0}).unlock()
    balanced.augment.sampling = "class_balanced"
    with pytest.raises(UserError, match="both say how often"):
        design.setup(balanced, "")
