"""What the compiled programs send between devices, for each layout of the mesh and both tasks: never images, labels or
logits, however small; whole parameters only where they are kept in parts."""

import re

import jax
import jax.numpy as jnp
import pytest
import tiny

from genseg import border_scores, design, evaluate, mixing, nets, partition, train, watch
from genseg.dry_run import hlo
from genseg.losses import terms
from genseg.report import lines, step_metrics

LAYOUTS = {"replicated": (8, 1), "fsdp": (1, 8), "hybrid": (2, 4)}
ROWS = 160  # in microbatches of 80: no other dimension has these lengths
FLOOR = 256  # of elements: the narrow network's parameters are small


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    monkeypatch.setattr(partition, "FSDP_FLOOR", FLOOR)


def made(task, layout, data_dir, tmp_path, dtype="float32", evaluation=True, losses=()):
    """losses: those that stand beside cross-entropy. (run, its compiled train step, its compiled evaluation step or None); nothing of the step is left out."""
    config = tiny.pretrain(data_dir) if task == "pretrain" else tiny.segment(data_dir)
    config.mesh.data, config.mesh.fsdp = LAYOUTS[layout]
    config.train.batch_size, config.train.accumulation, config.ema.decay = ROWS, 2, 0.9
    config.model.drop_path, config.model.dtype, config.optim.clip_norm = 0.1, dtype, 1.0
    if task == "pretrain":
        config.mixing.prob, config.mixing.mixup, config.mixing.cutmix, config.mixing.group = 1.0, 0.8, 1.0, 4
        config.erasing.prob = 0.25
    else:
        config.augment.size = (32, 32)
        for name in losses:
            config.loss[name].weight = config.loss.aux[name] = 0.1
    run = design.setup(config.lock(), str(tmp_path))
    with partition.use_mesh(run.mesh):
        progress = lines.Progress(0, 1, 1)
        batch = next(train.device_batches(run, 0, progress, watch.NonFiniteWatch(run)))
        state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), run.abstract, run.sharding
        )
        step = run.train_step.lower(state, step_metrics.fresh_metrics(run.mesh), batch).compile()
        if not evaluation:
            return run, step, None
        make = evaluate.make_step if task == "pretrain" else evaluate._make_record_step
        evaluation = make(run.task, run.mesh).lower(state.params, state.stats, batch).compile()
    return run, step, evaluation


def kept_in_parts(run):
    """Bytes of each parameter that is spread over devices."""
    leaves, shardings = jax.tree.leaves(run.abstract.params), jax.tree.leaves(run.sharding.params)
    return {4 * leaf.size for leaf, sharding in zip(leaves, shardings, strict=True) if any(sharding.spec)}


def check_records(run, compiled):
    """Segmentation is counted by record: of those, class by class, borders, and their numbers; labels are larger still."""
    classes = len(run.data.card.classes)
    borders = len(border_scores.COUNTS) * len(border_scores.DISTANCES) * classes
    counts = {4 * ROWS, 4 * ROWS * classes**2, 4 * ROWS * borders}
    found = hlo.collectives(compiled.as_text())
    assert {c.size for c in found} & counts and {c.kind for c in found} == {"all-gather"}
    assert {c.size for c in found} <= counts | kept_in_parts(run)


def check(run, compiled, *, training):
    """All-gathers of single whole parameters that are kept in parts; all-reduces of gradients and sums; nothing else."""
    found = hlo.collectives(compiled.as_text())
    leaves, in_parts = jax.tree.leaves(run.abstract.params), kept_in_parts(run)
    assert {c.kind for c in found} == {"all-reduce"} | ({"all-gather"} if in_parts else set())
    for collective in found:
        assert collective.kind == "all-reduce" or collective.size in in_parts, collective
    # An all-reduce may carry rows in disguise, as zeros everywhere but in the own ones: then it has the batch's length.
    for shape in re.findall(r" = (.*?) all-(?:reduce|gather)(?:-start)?\(", compiled.as_text()):
        lengths = {int(n) for dims in re.findall(r"\[([\d,]+)\]", shape) for n in dims.split(",")}
        assert not lengths & {ROWS, ROWS // 2}, shape
    reduced = sum(c.size for c in found if c.kind == "all-reduce")
    gradients = 4 * sum(leaf.size for leaf in leaves)
    assert reduced >= gradients if training else reduced < 1024


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", ["pretrain", "segment"])
def test_no_images_labels_or_logits_travel(task, layout, data_dir, tmp_path, eight_devices):
    run, step, evaluation = made(task, layout, data_dir, tmp_path)
    check_both(run, step, evaluation)


def test_losses_beside_cross_entropy_send_sums_only(data_dir, tmp_path, eight_devices):
    names = sorted(set(terms.FUNCTIONS) - {"cross_entropy"})
    run, step, _ = made("segment", "hybrid", data_dir, tmp_path, evaluation=False, losses=names)
    assert len(names) == 7
    check(run, step, training=True)


def test_bfloat16_networks_add_up_float32_gradients(data_dir, tmp_path, eight_devices):
    """All layers that have weights are in a segmenter. On a CPU an all-reduce of bfloat16 is widened just before, and its
    sum named `promoted`."""
    text = made("segment", "replicated", data_dir, tmp_path, dtype="bfloat16", evaluation=False)[1].as_text()
    assert "bf16[" in text
    assert {c.dtype for c in hlo.collectives(text)} <= {"f32", "s32"} and "promoted" not in text


def check_both(run, step, evaluation):
    check(run, step, training=True)
    if run.config.task == "pretrain":
        check(run, evaluation, training=False)
    else:
        check_records(run, evaluation)


def across_the_batch(x):
    """Row i -> row b - 1 - i: timm's partner, on another device."""
    return jnp.flip(x, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "name", "broken", "task", "layout"),
    [
        (partition, "gathered", lambda tree: tree, "pretrain", "fsdp"),
        (partition, "gathered", lambda tree: tree, "segment", "hybrid"),
        (partition, "batch_sharding", partition.replicated, "pretrain", "replicated"),
        (partition, "batch_sharding", partition.replicated, "segment", "hybrid"),
        (mixing, "_neighbour", across_the_batch, "pretrain", "replicated"),
    ],
)
def test_a_missing_annotation_is_seen(
    place, name, broken, task, layout, data_dir, tmp_path, monkeypatch, eight_devices
):
    monkeypatch.setattr(place, name, broken)
    if name == "batch_sharding":  # or the batch's parts would not fit together before anything is compiled
        monkeypatch.setattr(partition, "to_global", lambda b, mesh: jax.device_put(dict(b), partition.replicated(mesh)))
    run, step, evaluation = made(task, layout, data_dir, tmp_path)
    with pytest.raises(AssertionError):
        check_both(run, step, evaluation)
