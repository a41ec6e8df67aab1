"""Windows, flips, scales and scores against brute force. The networks here are tiny functions, so that nothing but the
evaluation is computed, and their scores are exact in float32, so that equality means equality."""

import csv
import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from test_border_scores import brute

from genseg import evaluate, inputs, metrics, partition, windows
from genseg.data.records import patches, storage
from genseg.data.sets import isaid, mfnet, published_names
from genseg.errors import UserError
from genseg.nets.functional import Net
from genseg.report import writing
from genseg.tasks import Segment
from genseg.windows import Inference
from tests.data import made

WHOLE = Inference("whole", (8, 8), (8, 8), "uniform", False, (1.0,), 8)
FILL = np.zeros(1, np.uint8)


def slide(crop, stride, blend="uniform", **others) -> Inference:
    return dataclasses.replace(WHOLE, mode="slide", crop=crop, stride=stride, blend=blend, **others)


def position_scores(pixels: np.ndarray, classes: int) -> np.ndarray:
    """Scores that depend on a pixel's value and on its place in the window, as a network's do."""
    h, w = pixels.shape[1:3]
    place = (np.arange(h)[:, None] * 7 + np.arange(w) * 13) % 11
    return ((pixels + place[..., None]) * (np.arange(classes) * 5 + 3) % 17).astype(np.float32)


def brute_force(image: np.ndarray, inference: Inference, classes: int) -> np.ndarray:
    """float64 [h, w, classes]: blended scores of every pixel, by plain loops over windows."""
    height, width, _ = image.shape
    (h, w), (dy, dx) = inference.crop, inference.stride
    padded = np.zeros((max(h, height), max(w, width), 1), image.dtype)
    padded[:height, :width] = image
    total = np.zeros((*padded.shape[:2], classes))
    for i in range(max(height - h + dy - 1, 0) // dy + 1):  # mmsegmentation, EncoderDecoder.slide_inference
        for j in range(max(width - w + dx - 1, 0) // dx + 1):
            top, left = max(min(i * dy, height - h), 0), max(min(j * dx, width - w), 0)
            scores = position_scores(padded[None, top : top + h, left : left + w], classes)[0]
            for y in range(h):
                for x in range(w):
                    weight = 1.0
                    if inference.blend == "hann":
                        weight = np.sin(np.pi * (y + 0.5) / h) ** 2 * np.sin(np.pi * (x + 0.5) / w) ** 2
                    total[top + y, left + x] += weight * scores[y, x]
    return total[:height, :width]


def predicted(images: list[np.ndarray], inference: Inference, batch: int, classes: int = 4) -> list[np.ndarray]:
    """Class ids put together from the rows that `windows.class_rows` gives out, which must come once and in order."""
    out = [[] for _ in images]
    for key, row, ids in windows.class_rows(
        enumerate(images), lambda p: position_scores(p, classes), inference=inference, classes=classes, batch=batch,
        fill=FILL,
    ):  # fmt: skip
        assert row == sum(len(piece) for piece in out[key])
        out[key].append(ids)
    return [np.concatenate(pieces) for pieces in out]


# ---------------------------------------------------------------------------------------------------------- windows


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=3),
    crop=st.tuples(st.integers(3, 12), st.integers(3, 12)), share=st.tuples(st.floats(0.3, 1), st.floats(0.3, 1)),
    blend=st.sampled_from(windows.BLENDS), batch=st.integers(1, 7),
)  # fmt: skip
def test_sliding_windows_equal_brute_force_in_any_batch_size(seed, sizes, crop, share, blend, batch):
    inference = slide(crop, tuple(max(1, int(c * s)) for c, s in zip(crop, share, strict=True)), blend)
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 200, (*size, 1), dtype=np.uint8) for size in sizes]
    for image, ids in zip(images, predicted(images, inference, batch), strict=True):
        total = brute_force(image, inference, 4)
        assert ids.shape == total.shape[:2] and ids.dtype == np.uint8
        if blend == "uniform":  # sums of small integers: exact
            np.testing.assert_array_equal(ids, total.argmax(-1))
        else:  # ties may be decided otherwise in float32
            chosen = np.take_along_axis(total, ids[..., None].astype(int), -1)[..., 0]
            np.testing.assert_allclose(chosen, total.max(-1), rtol=1e-5)


class Holes:
    """An image of which only the pixels `seen` bool [h, w] are to be classified."""

    def __init__(self, image: np.ndarray, seen: np.ndarray):
        self.image, self.seen, self.shape = image, seen, image.shape

    def __getitem__(self, at):
        return self.image[at]

    def empty(self, at) -> bool:
        return not self.seen[at].any()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6), size=st.tuples(st.integers(20, 80), st.integers(3, 20)),
    crop=st.tuples(st.integers(3, 9), st.integers(3, 9)), blend=st.sampled_from(windows.BLENDS), batch=st.integers(1, 7),
    rows=st.lists(st.tuples(st.integers(0, 79), st.integers(1, 9)), max_size=3),
)  # fmt: skip
def test_windows_that_are_left_out_move_nothing(seed, size, crop, blend, batch, rows):
    """Belts without a pixel to classify, as of a mosaic or around an area, may be higher than a window."""
    inference = slide(crop, tuple(max(1, c // 2) for c in crop), blend)
    image = np.random.default_rng(seed).integers(0, 200, (*size, 1), dtype=np.uint8)
    seen = np.zeros(size, bool)
    for first, count in rows:
        seen[first : first + count, seed % size[1] :] = True
    (whole,), (left,) = (predicted([one], inference, batch) for one in (image, Holes(image, seen)))
    assert left.shape == size
    np.testing.assert_array_equal(left[seen], whole[seen])


def test_order_of_windows_within_a_row_does_not_matter():
    rng = np.random.default_rng(0)
    inference = slide((6, 6), (4, 3), "hann")
    places, scores = inference.places(20, 22), {}
    for place in places:
        scores[place] = rng.integers(0, 100, (6, 6, 3)).astype(np.float32)

    def drawn(order):
        canvas, rows = windows.Canvas(20, 22, (6, 6), 3, "hann"), []
        for place in order:
            rows += [found.ids() for found in canvas.add(*place, scores[place])]
        return np.concatenate(rows + [found.ids() for found in canvas.rest()])

    reference = drawn(places)
    for seed in range(3):
        keys = np.random.default_rng(seed).random(len(places))
        shuffled = [p for _, p in sorted(zip(keys, places, strict=True), key=lambda kp: (kp[1][0], kp[0]))]
        assert shuffled != places
        np.testing.assert_array_equal(drawn(shuffled), reference)


def test_memory_does_not_grow_with_the_height_of_a_scene():
    """One row of windows is held, for a scene that is never in memory either."""

    class Tall:
        shape = (4000, 16, 1)

        def __getitem__(self, place):
            rows = range(*place[0].indices(self.shape[0]))
            return np.full((len(rows), len(range(*place[1].indices(16))), 1), rows.start % 200, np.uint8)

    inference = slide((8, 8), (6, 6))
    held = set()
    rows = windows.class_rows(
        [("tall", Tall())], lambda p: position_scores(p, 2), inference=inference, classes=2, batch=3, fill=FILL
    )
    count = 0
    for _, row, ids in rows:
        assert row == count
        count += len(ids)
        held.add(len(ids))
    assert count == 4000 and max(held) <= 8
    assert windows.Canvas(10**9, 16, (8, 8), 2, "hann")._sums.shape == (8, 16, 2)


def test_whole_images_are_one_padded_window():
    image = np.arange(5 * 9, dtype=np.uint8).reshape(5, 9, 1)
    (ids,) = predicted([image], WHOLE, 2)
    padded = np.zeros((8, 16, 1), np.uint8)
    padded[:5, :9] = image
    np.testing.assert_array_equal(ids, position_scores(padded[None], 4)[0, :5, :9].argmax(-1))


def test_settings_that_cannot_be_are_refused():
    for changes, message in (
        ({"mode": "tiles"}, "config.eval.mode must be one of"), ({"blend": "gauss"}, "config.eval.blend one of"),
        ({"stride": (8, 9)}, "leaves gaps"), ({"stride": (0, 8)}, "leaves gaps"),
        ({"scales": ()}, "config.eval.scales"), ({"scales": (1.0, 0.0)}, "config.eval.scales"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            dataclasses.replace(WHOLE, **changes)


def test_the_line_that_stands_beside_scores():
    assert WHOLE.describe() == "whole images, no flips, single scale"
    line = slide((512, 512), (341, 341), "hann", flip=True, scales=(0.5, 1.0)).describe()
    assert line == "windows of 512 x 512 every 341 x 341 pixels, hann blending, with flips, scales (0.5, 1.0)"


# --------------------------------------------------------------------------------------------------- flips and scales


def card_of(classes: int, bands: int = 1):
    config = isaid.DatasetCard(
        name="made", task="segmentation", bands=tuple(isaid.Band(f"b{i}", std=1.0) for i in range(bands)),
        classes=tuple(f"c{i}" for i in range(classes)), palette=(), ignore_label=255, scored=tuple(range(classes)),
        splits={}, protocol="", synthetic=True,
    )  # fmt: skip
    return config


def gradient_net(classes: int) -> Net:
    """Logits at stride 4 from means over 4 x 4 pixels and from the place in the image: not symmetric under flips."""

    def apply(params, stats, image, *, train, key=None):
        b, h, w, _ = image.shape
        means = image[..., :1].reshape(b, h // 4, 4, w // 4, 4, 1).mean((2, 4))
        place = jnp.arange(w // 4)[:, None] * 0.25
        return {"logits": jnp.sin(means * params["factor"] + place * jnp.arange(classes))}, stats

    return Net(lambda key: ({"factor": jnp.arange(1.0, classes + 1)}, {}), apply)


def test_flips_and_scales_are_the_mean_of_softmaxes_at_the_image_size():
    classes = 3
    net, image = gradient_net(classes), jax.random.normal(jax.random.key(0), (2, 64, 96, 1))
    params, _ = net.init(None)
    inference = dataclasses.replace(WHOLE, flip=True, scales=(0.5, 1.0))
    task = Segment(net, card_of(classes), inference)

    def view(x):
        logits = net.apply(params, {}, x, train=False)[0]["logits"]
        return jax.nn.softmax(jax.image.resize(logits, (2, 64, 96, classes), "bilinear", antialias=False))

    half = jax.image.resize(image, (2, 32, 64, 1), "bilinear", antialias=False)  # 48 is no multiple of 32
    views = [view(half), view(half[:, :, ::-1])[:, :, ::-1], view(image), view(image[:, :, ::-1])[:, :, ::-1]]
    np.testing.assert_allclose(task.scores(params, {}, image), sum(views) / 4, atol=2e-6)
    plain = dataclasses.replace(task, inference=WHOLE).scores(params, {}, image)
    assert np.abs(jax.nn.softmax(plain) - sum(views) / 4).max() > 0.05  # each view counts


@pytest.mark.parametrize(("height", "width"), [(35, 63), (64, 50), (32, 32)])
def test_windows_that_fill_no_stride_are_neither_stretched_nor_cut(height, width):
    """In training and in windows, with flips and scales: as of the image padded with the bands' means, cut to its size."""
    classes = 3
    net, card = gradient_net(classes), card_of(classes)

    def dropping(params, stats, image, *, train, key=None):  # as ConvNeXt: what fills no stride is not seen
        h, w = (side // 32 * 32 for side in image.shape[1:3])
        return net.apply(params, stats, image[:, :h, :w], train=train)

    params, _ = net.init(None)
    image = jax.random.normal(jax.random.key(0), (2, height, width, 1))
    whole = (
        jnp.zeros((2, 64, 64, 1)).at[:, :height, :width].set(image)[:, : -(-height // 32) * 32, : -(-width // 32) * 32]
    )
    label = jax.random.randint(jax.random.key(1), (2, height, width), 0, classes)
    around = jnp.full(whole.shape[:3], 255).at[:, :height, :width].set(label)
    for more in ({}, {"flip": True, "scales": (1.0, 2.0)}):
        task = Segment(Net(net.init, dropping), card, slide((height, width), (height, width), **more))
        expected = dataclasses.replace(task, net=net).scores(params, {}, whole)[:, :height, :width]
        np.testing.assert_allclose(task.scores(params, {}, image), expected, atol=1e-6)
    losses = [
        task.loss_sum(params, {}, {"image": x, "label": y, "valid": jnp.ones(2, bool)}, jax.random.key(0))[0]
        for x, y in ((image, label), (whole, around))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- whole evaluations


def value_net(classes: int) -> Net:
    """Says class k where the mean of the bands, rounded, has remainder k: exact, and the same at every size."""

    def apply(params, stats, image, *, train, key=None):
        value = jnp.round(image[:, ::4, ::4].sum(-1) * params["factor"]).astype(jnp.int32)
        return {"logits": 8.0 * jax.nn.one_hot(value // 7 % classes, classes)}, stats

    return Net(lambda key: ({"factor": jnp.ones(())}, {}), apply)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(published_names, "ISAID", {"train": ["P0000", "P0001", "P0002"], "val": ["P0003"]})
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 3, "val": 2, "test": 3})
    monkeypatch.setattr(mfnet, "SIZE", (24, 32))


def evaluation(name: str, tmp_path, mesh=None, split="train", **changes) -> evaluate.Evaluation:
    """Of value_net on a fixture; changes: of config.eval."""
    raw = tmp_path / "raw"
    if not raw.exists():
        getattr(made, name)(raw)
    config = tiny.target(name, raw, tmp_path / "data")
    config.data.eval_split = split
    config.eval.update(changes)
    data = inputs.open_inputs(config)
    card = dataclasses.replace(
        data.card, bands=tuple(dataclasses.replace(b, mean=0.0, std=1.0) for b in data.card.bands)
    )
    inference = Inference(
        **{k: config.eval[k] for k in ("mode", "crop", "stride", "blend", "flip", "scales")}, multiple=32
    )
    task = Segment(value_net(len(card.classes)), card, inference)
    return evaluate.Evaluation(task, data, mesh or partition.make_mesh())


def counts_of(one: evaluate.Evaluation) -> evaluate.Counts:
    params, stats = one.task.net.init(None)
    return one(params, stats)


def every_record(one: evaluate.Evaluation) -> list[tuple[storage.Record, np.ndarray, np.ndarray]]:
    """(record, label, what value_net says on it), by NumPy."""
    split, classes, found = one._data.eval_split, len(one.task.card.classes), []
    for i in range(len(split)):
        example = split.decode(i)
        h, w = example["label"].shape
        padded = np.tile(one._data.card.fill, (-(-h // 32) * 32, -(-w // 32) * 32, 1)).astype(np.float32)
        padded[:h, :w] = example["image"]
        logits = np.eye(classes)[padded[::4, ::4].sum(-1).astype(int) // 7 % classes]
        scores = jax.image.resize(8.0 * logits, (*padded.shape[:2], classes), "bilinear", antialias=False)
        found.append((split.record(i), example["label"], np.asarray(scores).argmax(-1)[:h, :w]))
    return found


@pytest.mark.parametrize("name", ["mfnet", "isaid"])
def test_counts_equal_scikit_learn_and_every_record_counts_once(name, tmp_path, few):
    one = evaluation(name, tmp_path)
    counts, found = counts_of(one), every_record(one)
    assert len(found) % 8 and counts["confusion"].dtype == np.int64  # a last batch that is not full
    truth, said = (np.concatenate([f[i].ravel() for f in found]) for i in (1, 2))
    truth, said, classes = truth[truth != 255], said[truth != 255], range(len(one.task.card.classes))
    np.testing.assert_array_equal(counts["confusion"], sk.confusion_matrix(truth, said, labels=classes))
    scores, options = one.task.detail(counts["confusion"]), {"labels": classes, "average": None, "zero_division": 0}
    for ours, theirs in (
        (scores.iou, sk.jaccard_score), (scores.f1, sk.f1_score), (scores.precision, sk.precision_score),
        (scores.recall, sk.recall_score),
    ):  # fmt: skip
        np.testing.assert_allclose(np.nan_to_num(ours), theirs(truth, said, **options), rtol=1e-12)
    assert scores.oa == pytest.approx(sk.accuracy_score(truth, said))
    if "records" in counts:  # not cut from scenes
        alone = [sk.confusion_matrix(t[t != 255], s[t != 255], labels=classes) for _, t, s in found]
        np.testing.assert_array_equal(counts["records"], alone)
    evaluate.write_scene_counts(tmp_path / "counts.npz", counts, one.scenes, one.task.card, 3)
    with np.load(tmp_path / "counts.npz") as stored:
        assert stored["scenes"].tolist() == list(dict.fromkeys(r.scene for r, _, _ in found))
        whole = counts["confusion" if "records" in counts else "confusion_stitched"]
        np.testing.assert_array_equal(stored["confusion"].sum(0), whole)
        assert tuple(stored["classes"]) == one.task.card.classes and tuple(stored["scored"]) == one.task.card.scored
        assert stored["step"] == 3 and str(stored["absent"]) == one.task.card.absent
        np.testing.assert_array_equal(stored["borders"].sum(0), counts["borders"])
    outlines = []
    for (_, t, s), (top, bottom, left, right) in zip(found, one._parts.own, strict=True):
        own = np.zeros(t.shape, bool)
        own[top:bottom, left:right] = True
        outlines.append(brute(s, t, t != 255, len(classes), own))
    np.testing.assert_array_equal(counts["borders"], sum(outlines))
    for place, scene in enumerate(dict.fromkeys(one.scenes)):
        expected = sum(o for o, other in zip(outlines, one.scenes, strict=True) if other == scene)
        np.testing.assert_array_equal(counts["scene_borders"][place], expected)
    seen = np.union1d(truth, said)  # absent from both: left out of the mean
    assert scores.mf1 == pytest.approx(sk.f1_score(truth, said, labels=seen, average="macro", zero_division=0))
    assert scores.miou == pytest.approx(sk.jaccard_score(truth, said, labels=seen, average="macro", zero_division=0))


def test_day_and_night_are_scored_apart(tmp_path, few):
    one = evaluation("mfnet", tmp_path, split="test")
    counts, found = counts_of(one), every_record(one)
    assert [r.file_name for r, _, _ in found] == ["test/00006D", "test/00007N", "test/00008D"]
    for group, members in (("day", (0, 2)), ("night", (1,))):
        expected = sum(metrics.count(found[i][2], found[i][1], found[i][1] != 255, 9) for i in members)
        np.testing.assert_array_equal(counts[f"confusion_{group}"], expected)
    np.testing.assert_array_equal(counts["confusion_day"] + counts["confusion_night"], counts["confusion"])
    scores = one.task.summarize(counts)
    assert scores["miou_night"] == pytest.approx(one.task.detail(counts["confusion_night"]).miou)
    borders = [f"{name}_{d}px" for name in ("boundary_iou", "boundary_f1", "trimap_iou") for d in (1, 3, 5)]
    names = ("miou", "mf1", "macc", "oa", *borders)
    assert set(scores) == {f"{s}{p}" for s in names for p in ("", "_day", "_night")}
    np.testing.assert_array_equal(counts["borders_day"] + counts["borders_night"], counts["borders"])
    detail = one.task.border_detail(counts["borders_night"])
    assert scores["boundary_f1_3px_night"] == pytest.approx(detail.mean_f1[1])


def test_overlapping_patches_count_each_pixel_of_a_scene_once_from_the_most_central_patch(tmp_path, few):
    """Brute force: every pixel of every scene looks for the patch whose centre is nearest."""
    one = evaluation("isaid", tmp_path)
    counts, found = counts_of(one), every_record(one)
    total = np.zeros((16, 16), int)
    for scene in ("P0000", "P0001", "P0002"):
        here = [(r, label, said) for r, label, said in found if r.scene == scene]
        expected = np.zeros((16, 16), int)
        for y in range(here[0][0].scene_height):
            for x in range(here[0][0].scene_width):
                over = [
                    (abs(y - r.row - 15.5), r.row, abs(x - r.column - 15.5), r.column, label, said)
                    for r, label, said in here
                    if 0 <= y - r.row < 32 and 0 <= x - r.column < 32
                ]
                _, row, _, column, label, said = min(over, key=lambda o: o[:4])
                expected[label[y - row, x - column], said[y - row, x - column]] += 1
        np.testing.assert_array_equal(counts[f"scene:{scene}"], expected)
        total += expected
    np.testing.assert_array_equal(counts["confusion_stitched"], total)
    assert total.sum() == 40 * 72 + 100 * 36 + 20 * 90 < counts["confusion"].sum()


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 200), patch=st.integers(1, 60), share=st.floats(0.05, 1))
def test_central_parts_cover_every_pixel_once(length, patch, share):
    starts = patches.starts(length, patch, max(1, int(patch * share)))
    owner = np.zeros(max(length, patch), int)
    for start in starts:
        first, end = patches.central(starts, start, patch)
        assert 0 <= first <= end <= patch
        owner[start + first : start + end] += 1
        for pixel in range(start + first, start + end):
            nearest = min(starts, key=lambda s: (abs(pixel - s - (patch - 1) / 2), s))
            assert nearest == start
    assert (owner == 1).all()


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_batch_size_and_number_of_devices_change_nothing(mode, tmp_path, few, monkeypatch):
    changes = {"mode": mode, "crop": (32, 32), "stride": (32, 32)}
    reference = counts_of(evaluation("isaid", tmp_path, batch_size=8, **changes))
    larger = counts_of(evaluation("isaid", tmp_path, batch_size=24, **changes))
    single = jax.sharding.Mesh(
        np.array(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    monkeypatch.setattr(partition, "local_mesh", lambda: single)
    alone = counts_of(evaluation("isaid", tmp_path, mesh=single, batch_size=3, **changes))
    for counts in (larger, alone):
        assert counts.keys() == reference.keys()
        for name, value in reference.items():
            np.testing.assert_array_equal(counts[name], value, err_msg=name)


def in_a_process(folder: str, out: str) -> None:
    """What each of two processes does: both kinds of pass, the counts written by the first process."""
    published_names.ISAID = {"train": ["P0000", "P0001", "P0002"], "val": ["P0003"]}
    partition.start(Path(folder) / "xla")
    for mode in ("whole", "slide"):
        counts = counts_of(evaluation("isaid", Path(folder), mode=mode, crop=(32, 32), stride=(32, 32)))
        np.savez(f"{out}-{mode}-{partition.process_index()}.npz", **counts)


@pytest.mark.slow
def test_two_processes_count_what_one_does(tmp_path, few):
    windows_of = {"crop": (32, 32), "stride": (32, 32)}
    reference = {m: counts_of(evaluation("isaid", tmp_path, mode=m, **windows_of)) for m in windows.MODES}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = (
        f"import sys; sys.path[:0] = ['tests', '.']; import test_evaluate; "
        f"test_evaluate.in_a_process({str(tmp_path)!r}, {str(tmp_path / 'counts')!r})"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=tiny.ROOT, text=True, stderr=subprocess.PIPE,
            env={
                **os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu",
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i),
            },
        )
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]
    for mode, counts in reference.items():
        for i in range(2):
            with np.load(tmp_path / f"counts-{mode}-{i}.npz") as found:
                assert set(found.files) == set(counts)
                for name, value in counts.items():
                    np.testing.assert_array_equal(found[name], value, err_msg=f"{mode} {name}")


def test_windows_and_whole_images_agree_where_windows_are_the_images(tmp_path, few):
    """Patches of 32 seen through windows of 32: the path through the host counts what the devices count."""
    whole = counts_of(evaluation("isaid", tmp_path))
    slid = counts_of(evaluation("isaid", tmp_path, mode="slide", crop=(32, 32), stride=(16, 16), blend="hann"))
    assert whole.keys() == slid.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(slid[name], value, err_msg=name)


def test_pieces_of_a_record_count_only_its_own_pixels(tmp_path, few):
    """Windows smaller than the records, so that rows come in pieces; each pixel's class depends on that pixel alone."""

    def apply(params, stats, image, *, train, key=None):
        return {"logits": 8.0 * jax.nn.one_hot(image.sum(-1).astype(jnp.int32) // 7 % 16, 16)}, stats

    counts = []
    for changes in ({}, {"mode": "slide", "crop": (16, 16), "stride": (12, 16)}):
        one = evaluation("isaid", tmp_path, **changes)
        task = dataclasses.replace(one.task, net=dataclasses.replace(one.task.net, apply=apply))
        counts.append(counts_of(evaluate.Evaluation(task, one._data, one._mesh)))
    for name, value in counts[0].items():
        np.testing.assert_array_equal(counts[1][name], value, err_msg=name)


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_what_is_raised_between_batches_ends_the_pass(mode, tmp_path, few):
    one, calls = evaluation("isaid", tmp_path, mode=mode, crop=(32, 32), stride=(32, 32)), []

    def third_time():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    stopped = evaluate.Evaluation(one.task, one._data, one._mesh, third_time)
    with pytest.raises(InterruptedError):
        counts_of(stopped)


def test_what_an_evaluation_writes(tmp_path, few, caplog):
    one = evaluation("isaid", tmp_path)
    counts, out = counts_of(one), tmp_path / "run" / "pictures"
    out.mkdir(parents=True)
    writers = writing.Writers(str(tmp_path / "run"), step=0, active=True)
    with caplog.at_level("INFO"):
        evaluate.write_details(one.task, counts, out, writers, 7, "train", ())
        params, stats = one.task.net.init(None)
        evaluate.write_panels(one, params, stats, out, writers, 7, "train", samples=2, counts=counts)
    writers.close()
    for name in ("confusion", "classes", "samples"):
        assert (out / f"train_{name}.png").stat().st_size > 500
    classes, confusion = list(csv.DictReader((out / "train_classes.csv").open())), counts["confusion"]
    outside = confusion.sum() - confusion[3].sum() - confusion[:, 3].sum() + 2 * confusion[3, 3]
    matrix = list(csv.reader((out / "train_confusion.csv").open()))
    assert matrix[0] == ["truth", *isaid.CLASSES, "protocol"] and [row[0] for row in matrix[1:]] == list(isaid.CLASSES)
    np.testing.assert_array_equal([[int(n) for n in row[1:-1]] for row in matrix[1:]], confusion)
    assert {row["protocol"] for row in classes} == {
        f"{one.task.card.protocol}; seen in {one.task.inference.describe()}"
    }
    assert float(classes[3]["accuracy"]) == pytest.approx(100 * outside / confusion.sum(), abs=0.006)
    parts = {row["part"]: row for row in csv.DictReader((out / "train_parts.csv").open())}
    assert list(parts) == ["all", "stitched"] and int(parts["stitched"]["pixels"]) == 40 * 72 + 100 * 36 + 20 * 90
    assert [parts[p]["protocol"].endswith("counts once") for p in parts] == [False, True]
    each = {row["part"]: row for row in csv.DictReader((out / "train_scenes.csv").open())}
    assert list(each) == ["P0000", "P0001", "P0002"] and int(each["P0002"]["pixels"]) == 1800
    assert float(each["P0000"]["mIoU"]) == pytest.approx(100 * one.task.detail(counts["scene:P0000"]).miou, abs=0.006)
    assert "every 896 patch" not in caplog.text and "whole images, no flips, single scale" in caplog.text
    json.dumps(one.task.summarize(counts))
