"""What config.data.skip_corrupt allows to be damaged: panels and counts of classes go on, and take the same records everywhere."""

import dataclasses

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg import design, evaluate, inputs, nets, partition, recipes
from genseg.data.batches import pipeline
from genseg.data.batches.class_pixels import class_pixels
from genseg.data.records import storage
from genseg.errors import CorruptFile, UserError
from genseg.report import writing
from genseg.tasks import Segment
from genseg.train import train
from genseg.windows import Inference
from tests.data import made
from tests.test_evaluate import value_net

SCENES, PATCHES = 4, 4  # a scene of 24 x 24 pixels is cut into patches of 12


class Damaged:
    """A prepared split's records; images and masks at these places are cut short."""

    def __init__(self, source, images=(), masks=()):
        self.source, self.images, self.masks = source, set(images), set(masks)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> bytes:
        raw, record = self.source[index], storage.parse(self.source[index])
        for hit, data in ((index in self.images, record.image), (index in self.masks, record.label)):
            raw = raw.replace(data, data[:20] + bytes(len(data) - 20)) if hit else raw
        return raw


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> inputs.Inputs:
    root = tmp_path_factory.mktemp("damaged")
    made.tiles(root / "raw", count=SCENES)
    plain = tiny.segment(root / "data").to_dict()
    kept = ("train_split", "eval_split", "threads", "workers")
    plain["data"] = {key: plain["data"][key] for key in kept} | {
        "name": "folder_segmentation", "source": str(root / "raw"), "data_dir": str(root / "data"), "skip_corrupt": 99,
        "image_pattern": "{split}/img/tile_{id}.tif", "mask_pattern": "{split}/mask/mask_{id}.tif",
        "bands": ("red", "green", "blue", "nir"), "classes": ("a", "b", "c"), "patch": 12, "stride": 12,
    }  # fmt: skip
    plain["augment"]["size"] = (12, 12)
    return inputs.open_inputs(recipes.segment.config({k: v for k, v in plain.items() if isinstance(v, dict)}))


def broken(split: pipeline.Split, **places) -> pipeline.Split:
    """With a list of its own of what was met, as another process or worker has it."""
    return dataclasses.replace(split, source=Damaged(split.source, **places), corrupt={})


@pytest.fixture(scope="module")
def evaluated(data):
    """An evaluation of value_net, and the source whose damage may be changed."""
    split = broken(data.eval_split)
    bands = tuple(dataclasses.replace(band, mean=0.0, std=1.0) for band in data.card.bands)
    task = Segment(
        value_net(3), dataclasses.replace(data.card, bands=bands),
        Inference("slide", (12, 12), (12, 12), "uniform", False, (1.0,), 4),
    )  # fmt: skip
    return evaluate.Evaluation(task, dataclasses.replace(data, eval_split=split), partition.make_mesh()), split.source


def panel(one: evaluate.Evaluation, *arguments) -> np.ndarray:
    return one.panels(*one.task.net.init(None), *arguments)


@settings(max_examples=12, deadline=None)
@given(
    st.sets(st.integers(0, SCENES * PATCHES - 1)), st.sets(st.integers(0, SCENES * PATCHES - 1), max_size=3),
    st.integers(1, 5),
)  # fmt: skip
def test_panels_take_the_next_record_of_the_scene_or_split(evaluated, images, masks, samples):
    one, source = evaluated
    lost = images | masks
    for scene in range(SCENES):  # a scene without a readable record has no score, and is never ranked
        lost -= {scene * PATCHES + 1}
    source.images, source.masks = images & lost, masks & lost
    wanted = [2, 6, 11]
    taken = [next(i for i in (*range(w, w + 4), *range(w)) if i // 4 == w // 4 and i not in lost) for w in wanted]
    first = [i for i in range(SCENES * PATCHES) if i not in lost][:samples]
    found = panel(one, 0, wanted), panel(one, samples)
    assert not one._data.eval_split.corrupt  # nothing is counted: the scores of the pass stand
    source.images, source.masks = set(), set()
    np.testing.assert_array_equal(found[0], panel(one, 0, taken))
    np.testing.assert_array_equal(found[1], panel(one, 0, first))


def test_an_evaluation_with_damaged_middles_is_drawn(evaluated, tmp_path):
    one, source = evaluated
    source.images, source.masks = {2, 6, 10, 14}, {0}
    params, stats = one.task.net.init(None)
    counts = one(params, stats)
    ranked = evaluate.ranked_records(counts, one.scenes, one.task.card)
    assert len(ranked) == 3 and set(ranked) <= source.images
    writers = writing.Writers(str(tmp_path), step=0, active=True)
    evaluate.write_panels(one, params, stats, tmp_path, writers, 7, "val", samples=2, counts=counts)
    writers.close()
    assert (tmp_path / "val_samples.png").exists() and (tmp_path / "val_ranked.png").exists()
    one._data.eval_split.corrupt.clear()


def test_panels_end_where_no_damage_is_allowed(evaluated, data):
    one, source = evaluated
    source.images, source.masks = {0}, set()
    config = data.config.copy_and_resolve_references()
    config.data.skip_corrupt = 0
    strict = evaluate.Evaluation(one.task, dataclasses.replace(one._data, config=config), one._mesh)
    with pytest.raises(CorruptFile, match="set skip_corrupt"):
        panel(strict, 1)


# --------------------------------------------------------------------------------------------------- counts of classes


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, SCENES * PATCHES - 1), max_size=5), st.integers(0, 5), st.integers(0, 3))
def test_a_damaged_mask_is_a_row_without_a_class(data, lost, allowed, threads):
    split, whole = broken(data.train_split, masks=lost), class_pixels(data.train_split)
    if lost and not allowed:
        with pytest.raises(CorruptFile, match="set skip_corrupt"):
            class_pixels(split, threads, allowed)
        return
    if len(lost) > allowed:
        said = f"{allowed + 1} records of the split 'train' .* more than the {allowed} of config.data.skip_corrupt"
        with pytest.raises(UserError, match=said):
            class_pixels(split, threads, allowed)
        return
    rows = class_pixels(split, threads, allowed)
    kept = [i for i in range(len(split)) if i not in lost]
    np.testing.assert_array_equal(rows[kept], whole[kept])
    assert rows.dtype == np.int64 and not rows[sorted(lost)].any() and set(split.corrupt) == lost
    class_pixels(split, threads, allowed)  # met again, counted once
    assert len(split.corrupt) == len(lost)


def test_rules_of_classes_and_sampling_go_on(data, monkeypatch):
    opened = pipeline.open_split
    monkeypatch.setattr(pipeline, "open_split", lambda *a: broken(opened(*a), masks={1, 5}))
    config = data.config.copy_and_resolve_references()
    config.augment.sampling, config.data.skip_corrupt = "class_balanced", 2
    found = inputs.open_inputs(config)
    config.loss.class_rule = "inverse"
    weights = design._with_class_weights(config, found).loss.class_weights
    pixels = class_pixels(data.train_split)
    pixels[[1, 5]] = 0
    np.testing.assert_array_equal(found.sampling.probability > 0, pixels.any(axis=1))
    np.testing.assert_allclose(np.array(weights) * pixels.sum(0), np.full(3, pixels.sum() / 3), rtol=1e-4)
    config.data.skip_corrupt = 1
    with pytest.raises(UserError, match=r"2 records of the split 'train' .* more than the 1"):
        inputs.open_inputs(config)


@pytest.mark.slow
def test_a_run_with_damaged_records_ends_with_its_scores(data, monkeypatch, tmp_path):
    opened = pipeline.open_split
    damage = {"train": {"masks": {1}}, "val": {"images": {0}, "masks": {6}}}
    monkeypatch.setattr(pipeline, "open_split", lambda folder, name: broken(opened(folder, name), **damage[name]))
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = data.config.copy_and_resolve_references()
    config.model.backbone, config.augment.sampling, config.loss.class_rule = (
        "convnext_micro",
        "class_balanced",
        "inverse",
    )
    config.data.skip_corrupt, config.train.steps, config.report.panels = 2, 2, 2
    config.train.warmup_steps, config.augment.size, config.augment.eval_multiple = 1, (32, 32), 32
    assert "miou" in train(config, str(tmp_path / "run"))["scores"]
    assert (tmp_path / "run" / "pictures" / "val_samples.png").exists()
