"""Scores in other channel orders: the orders themselves by brute force, then whole checkpoints of both tasks."""

import itertools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from genseg import csp, design, evaluate, partition, robustness, start, tasks, train
from genseg.data.card import Band, DatasetCard
from genseg.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_micro")

CARD = DatasetCard(
    "made", "segmentation", tuple(Band(f"b{i}", mean=10.0 * i, std=1.0 + i) for i in range(4)), ("a", "b"),
    ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {"val": 3}, "none", True,
)  # fmt: skip


def test_every_order_of_the_bands_is_drawn_equally_often_and_depends_on_draw_and_record_alone():
    drawn = [tuple(robustness.band_order(3, "permuted", 0, i)) for i in range(3000)]
    counts = {order: drawn.count(order) for order in itertools.permutations(range(3))}
    assert set(drawn) == set(counts) and all(400 < count < 600 for count in counts.values())
    assert drawn[7] == tuple(robustness.band_order(3, "permuted", 0, 7))
    assert drawn[:50] != [tuple(robustness.band_order(3, "permuted", 1, i)) for i in range(50)]
    assert robustness.band_order(4, "permuted", 0, -1).shape == (4,)  # a row that fills up the last batch


@pytest.mark.parametrize("order", tasks.ORDERS)
def test_normalised_bands_change_places(order):
    image = np.random.default_rng(0).integers(0, 200, (3, 4, 5, 4)).astype(np.uint8)
    batch = {"image": image, "index": np.array([5, 9, -1])}
    source = SimpleNamespace(card=CARD, config=None, eval_split=None)
    source.eval_batches = lambda: [batch]
    source.eval_records = lambda: [{"image": image[i], "index": batch["index"][i]} for i in range(3)]
    data = robustness.Reordered(source)
    data.order, data.draw = order, 2
    found = np.asarray(tasks.normalise(next(data.eval_batches())["image"], CARD))
    alone = [np.asarray(tasks.normalise(record["image"][None], CARD))[0] for record in data.eval_records()]
    np.testing.assert_array_equal(np.stack(alone), found)
    for row, index in enumerate(batch["index"]):
        places = range(4) if order == "fixed" else robustness.band_order(4, order, 2, int(index))
        for place, band in enumerate(places):
            want = (image[row, ..., band].astype("f4") - 10 * band) / (1 + band)
            np.testing.assert_allclose(found[row, ..., place], want, atol=1e-4)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("channels", ["4", "(3,5)"])
def test_pretraining_checkpoint(data_dir, tmp_path, channels, caplog):
    config = tiny.pretrain(data_dir, f"channels={channels}")
    config.train.steps, config.ema.decay = 2, 0.9
    scores = train.train(config.lock(), str(tmp_path))["scores"]
    with caplog.at_level("INFO"):
        rows = robustness.run(config, str(tmp_path), permutations=3)
    assert "top1 - fixed" in caplog.text
    counts = (4,) if channels == "4" else (3, 5)
    assert [(r.weights, r.order, r.channels) for r in rows] == [
        (w, o, n) for w in ("raw", "ema") for n in counts for o in tasks.ORDERS
    ]
    raw = {(r.order, r.channels): r.scores["top1"] for r in rows if r.weights == "raw"}
    assert all(len(raw["permuted", n]) == 3 and len(raw["fixed", n]) == 1 for n in counts)
    # What training said of the same weights; its one permutation is the first of the three.
    assert np.mean([raw["fixed", n] for n in counts]) == pytest.approx(scores["top1"])
    assert np.mean([raw["permuted", n][0] for n in counts]) == pytest.approx(scores["top1_permuted"])
    assert np.mean([raw["reversed", n] for n in counts]) == pytest.approx(scores["top1_reversed"])
    saved = json.loads((tmp_path / "robustness.json").read_text())
    assert len(saved["rows"]) == len(rows) and saved["synthetic"] is True and saved["protocol"]
    assert Image.open(tmp_path / "pictures" / "robustness.png").size[1] > 300

    other = tiny.pretrain(data_dir, "channels=6")
    with pytest.raises(UserError, match="not of this config's network: 'params/backbone/stem/conv/kernel'"):
        robustness.run(other.lock(), str(tmp_path))


def test_permuted_counts_equal_a_loop_over_images(data_dir, tmp_path):
    config = tiny.pretrain(data_dir, "channels=(3,5)")
    config.eval.permutations = 2
    run = design.setup(config.lock(), str(tmp_path))
    with partition.use_mesh(run.mesh):
        state = start.initial_state(run)
        step = evaluate.make_step(run.task, run.mesh)
        counts = evaluate.run(step, state.params, state.stats, run.data.eval_batches(), run.mesh)
    params = jax.device_get(state.params)
    logits_of = jax.jit(lambda wide: run.task.net.apply(params, {}, wide, train=False)[0][0])
    right, images = np.zeros((2, 2), int), 0  # [draw, count]
    for batch in run.data.eval_batches():
        for i in np.flatnonzero(batch["valid"]):
            images += 1
            pixels = np.asarray(tasks.normalise(batch["image"][i : i + 1], run.card))
            for draw in range(2):
                key = jax.random.fold_in(jax.random.key(tasks.PERMUTATION_SEED), draw)
                for j, n in enumerate((3, 5)):
                    order = csp.draw_order(jax.random.fold_in(key, int(batch["index"][i])), 3, n, "random")
                    wide = np.zeros((*pixels.shape[:3], 5), "f4")
                    wide[..., :n] = pixels[..., np.asarray(order)] * np.sqrt(5 / n)
                    right[draw, j] += int(np.argmax(logits_of(wide)) == batch["label"][i])
    assert images == counts["images"] == 20
    np.testing.assert_array_equal(counts["permuted/3"][:, 0], right[:, 0])
    np.testing.assert_array_equal(counts["permuted/5"][:, 0], right[:, 1])


def test_segmentation_checkpoint(data_dir, tmp_path):
    config = tiny.segment(data_dir)
    config.train.steps, config.report.panels = 2, 0
    scores = train.train(config.lock(), str(tmp_path))["scores"]
    rows = robustness.run(config, str(tmp_path / "elsewhere"), checkpoint=str(tmp_path), permutations=2)
    assert [(r.order, len(r.scores["miou"])) for r in rows] == [("fixed", 1), ("permuted", 2), ("reversed", 1)]
    assert rows[0].scores["miou"][0] == pytest.approx(scores["miou"])
    assert (tmp_path / "elsewhere" / "pictures" / "robustness.png").exists()


def test_mistakes_are_named(data_dir, tmp_path):
    config = tiny.pretrain(data_dir).lock()
    with pytest.raises(UserError, match="--permutations is 0; give at least 1"):
        robustness.run(config, str(tmp_path), permutations=0)
    with pytest.raises(UserError, match="no checkpoint at"):
        robustness.run(config, str(tmp_path / "nowhere"))
