"""configs/pretrain.py: every published hyper-parameter with its source, and the true file end to end, shrunk in size.

Sources: FB = facebookresearch/ConvNeXt (main.py defaults, TRAINING.md commands, datasets.py, optim_factory.py);
MS = microsoft/Swin-Transformer (config.py, configs/swin/swin_*_patch4_window7_224.yaml, data/build.py, optimizer.py,
lr_scheduler.py); timm = timm/data/{auto_augment,mixup,random_erasing,transforms_factory}.py.
"""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image
from test_data_augment import torchvision_eval
from test_data_imagenet import REPAIRED, VALIDATION, _tfds_copy

from genseg import checkpoints, csp, inputs, mixing, nets, optim, tasks, train, transfer, tree
from genseg import state as states
from genseg.config import section
from genseg.data.augment import randaugment
from genseg.data.sets.imagenet import COUNTS, ImageNet2012
from genseg.errors import UserError
from genseg.nets.functional import Net
from genseg.plan import make_plan
from genseg.report.lines import score_line

CONVNEXT = ("convnext_tiny", "convnext_small", "convnext_base")
SWIN = ("swin_tiny", "swin_small", "swin_base")
DROP_PATH = {  # FB TRAINING.md --drop_path; MS yaml MODEL.DROP_PATH_RATE
    "convnext_tiny": 0.1, "convnext_small": 0.4, "convnext_base": 0.5, "convnext_large": 0.5,
    "swin_tiny": 0.2, "swin_small": 0.3, "swin_base": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("backbone", DROP_PATH)
def test_what_both_recipes_share(backbone):
    c = tiny.load("pretrain", backbone)
    assert c.model.backbone == backbone and c.model.drop_path == DROP_PATH[backbone]
    assert (c.train.epochs, c.train.warmup_epochs) == (
        300,
        20,
    )  # FB --epochs, --warmup_epochs; MS TRAIN.EPOCHS, WARMUP_EPOCHS
    assert (c.optim.b1, c.optim.b2, c.optim.eps) == (0.9, 0.999, 1e-8)  # FB opt_eps; MS TRAIN.OPTIMIZER.BETAS, EPS
    assert c.optim.schedule == "cosine" and c.optim.weight_decay == 0.05  # FB --weight_decay; MS TRAIN.WEIGHT_DECAY
    assert c.optim.layer_decay == 1.0  # FB --layer_decay
    assert c.loss.smoothing == 0.1  # FB --smoothing; MS MODEL.LABEL_SMOOTHING
    m = c.mixing  # FB --mixup ... --mixup_switch_prob; MS AUG.MIXUP ...
    assert (m.mixup, m.cutmix, m.prob, m.switch_prob, m.group) == (0.8, 1.0, 1.0, 0.5, 128)
    e = c.erasing  # FB --reprob 0.25 (pixel, 1); MS AUG.REPROB; areas, aspect and tries: timm RandomErasing
    assert (e.prob, e.min_area, e.max_area, e.min_aspect, e.tries) == (0.25, 0.02, 1 / 3, 0.3, 10)
    a = c.augment  # FB --input_size, --train_interpolation, datasets.py; MS DATA.IMG_SIZE, DATA.INTERPOLATION
    assert (a.size, a.eval_size, a.interpolation, a.horizontal_flip, a.vertical_flip) == (224, 224, "bicubic", 0.5, 0)
    assert (a.scale, a.ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))  # timm create_transform's defaults
    assert a.eval_crop_share == 224 / 256  # FB datasets.py crop_pct; MS data/build.py
    # rand-m9-mstd0.5-inc1: FB --aa; MS AUG.AUTO_AUGMENT; two operations, each with probability 0.5: timm rand_augment_ops
    assert section(randaugment.RandAugment, a.rand_augment, "x") == randaugment.RandAugment(2, 9.0, 0.5, 0.5)
    assert c.model.head_init_scale == 1.0  # FB --head_init_scale
    assert c.train.accumulation == 1  # FB --update_freq 1
    assert c.data.short_side == 0  # the original photographs
    assert (c.csp.fill, c.csp.per, c.csp.objective, c.csp.channels) == ("random", "image", "csp", 4)  # arXiv 2604.27704


@pytest.mark.parametrize("backbone", CONVNEXT)
def test_convnext_recipe(backbone):
    c = tiny.load("pretrain", backbone)
    assert c.train.batch_size == 4096  # FB TRAINING.md: 32 GPUs x 128
    assert (c.optim.learning_rate, c.optim.min_learning_rate) == (4e-3, 1e-6)  # FB --lr, --min_lr
    assert c.optim.warmup_learning_rate == 0  # FB utils.cosine_scheduler: start_warmup_value
    assert c.optim.scaling == "none" and c.optim.clip_norm == 0  # FB: no scaling with the batch; --clip_grad None
    assert (c.ema.decay, c.ema.warmup, c.eval.ema) == (0.9999, False, True)  # FB --model_ema ..., --model_ema_eval


@pytest.mark.parametrize("backbone", SWIN)
def test_swin_recipe(backbone):
    c = tiny.load("pretrain", backbone)
    assert c.train.batch_size == 1024  # MS get_started.md: 8 x 128
    rates = optim.scaled(section(optim.OptimSettings, c.optim, "optim"), c.train.batch_size)
    # MS main.py: TRAIN.BASE_LR, MIN_LR and WARMUP_LR, each x batch / 512
    assert rates.learning_rate == pytest.approx(1e-3) and rates.min_learning_rate == pytest.approx(1e-5)
    assert rates.warmup_learning_rate == pytest.approx(1e-6)
    assert c.optim.clip_norm == 5.0 and c.ema.decay == 0  # MS TRAIN.CLIP_GRAD; no EMA


@pytest.mark.parametrize(
    ("backbone", "steps", "warmup", "peak", "end"),
    [("convnext_tiny", 93_835, 6_255, 4e-3, 1e-6), ("swin_tiny", 375_341, 25_022, 1e-3, 1e-5)],
)
def test_schedule_over_all_of_imagenet(backbone, steps, warmup, peak, end):
    c = tiny.load("pretrain", backbone)
    plan = make_plan(c, COUNTS["train"], 8)
    assert (plan.steps, plan.warmup_steps) == (steps, warmup)
    settings = optim.scaled(section(optim.OptimSettings, c.optim, "optim"), c.train.batch_size)
    rate = optim.learning_rate(settings, plan.steps, plan.warmup_steps)
    assert float(rate(warmup)) == pytest.approx(peak, rel=1e-5) and float(rate(steps)) == pytest.approx(end, rel=1e-3)
    # FB utils.cosine_scheduler; MS lr_scheduler.py with WARMUP_PREFIX: the cosine runs over the steps after the warm-up
    half = (steps + warmup) // 2
    assert float(rate(half)) == pytest.approx((peak + end) / 2, rel=1e-3)


def convnext_schedule(base, final, steps, warmup):
    """FB utils.cosine_scheduler, start_warmup_value 0; one value a step."""
    cosine = [
        final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / (steps - warmup))) for i in range(steps - warmup)
    ]
    return np.concatenate([np.linspace(0, base, warmup), cosine])


def swin_schedule(base, final, steps, warmup, start):
    """timm CosineLRScheduler._get_lr as MS lr_scheduler.build_scheduler sets it: t_initial = steps - warmup, warmup_prefix."""
    rates = [start + t * (base - start) / warmup for t in range(warmup)]
    return np.array(
        rates
        + [final + 0.5 * (base - final) * (1 + math.cos(math.pi * t / (steps - warmup))) for t in range(steps - warmup)]
    )


@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_tiny"])
def test_learning_rates_are_those_of_the_published_code(backbone):
    """At every step after the warm-up. FB's warm-up reaches the peak one step earlier, since linspace has both ends."""
    c = tiny.load("pretrain", backbone)
    settings = optim.scaled(section(optim.OptimSettings, c.optim, "optim"), c.train.batch_size)
    steps, warmup = 3000, 200
    found = np.asarray(jax.vmap(optim.learning_rate(settings, steps, warmup))(jnp.arange(steps)))
    if backbone == "convnext_tiny":
        want, step_up = convnext_schedule(4e-3, 1e-6, steps, warmup), 4e-3 / (warmup - 1)
    else:
        want, step_up = swin_schedule(1e-3, 1e-5, steps, warmup, 1e-6), 1e-9
    np.testing.assert_allclose(found[warmup:], want[warmup:], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found[:warmup], want[:warmup], atol=step_up)


def test_averages_have_a_constant_decay_from_the_first_step_on():
    """timm ModelEma.update, as FB engine.py calls it after every optimiser step; it starts as a copy of the weights."""
    c = tiny.load("pretrain")
    rng = np.random.default_rng(0)
    now = rng.normal(size=7)
    want, ema = now, {"params": {"a": jnp.asarray(now)}, "stats": {}}
    for step in range(5):
        now = rng.normal(size=7)
        want = 0.9999 * want + (1 - 0.9999) * now
        ema = states.update_ema(
            ema, {"a": jnp.asarray(now)}, {}, jnp.int32(step), decay=c.ema.decay, warmup=c.ema.warmup
        )
    np.testing.assert_allclose(ema["params"]["a"], want, rtol=1e-6)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_tiny"])
def test_weight_decay_groups(backbone):
    """FB optim_factory.get_parameter_groups and MS optimizer.set_weight_decay: nothing with one axis, no bias, no table."""
    c = tiny.load("pretrain", backbone)
    net = nets.classifier(backbone, channels=4, classes=1000, drop_path=0.0)
    params, _ = jax.eval_shape(net.init, jax.random.key(0))
    for path, leaf in tree.items(params):
        expected = leaf.ndim > 1 and not path.endswith("relative_position_bias_table")
        assert optim.decays(path, c.optim.no_decay) == expected, path


@pytest.mark.parametrize("backbone", DROP_PATH)
def test_the_config_reaches_the_network_and_the_task(backbone, folder, monkeypatch):
    """And the network is the published one: nothing but its size departs from the defaults, which are the published
    initialisation and layer scale (tests/nets/test_networks.py)."""
    asked = {}
    monkeypatch.setattr(tasks, "classifier", lambda name, **options: asked.update(options, name=name))
    c = tiny.load("pretrain", backbone)
    c.data.data_dir, c.data.short_side, c.data.partial = str(folder), 0, True
    data = inputs.open_inputs(c)
    task = tasks.build(c.lock(), data.card)
    assert asked == dict(
        name=backbone, channels=4, classes=1000, drop_path=DROP_PATH[backbone], dtype="bfloat16", remat=False,
        head_init_scale=1.0, attention="rows",
    )  # fmt: skip
    assert nets.BACKBONES[backbone].keywords.keys() <= {"depths", "dims", "embed", "heads"}
    assert task.mixing == mixing.Mixing(0.8, 1.0, 1.0, 0.5, 128) and task.smoothing == 0.1
    assert task.erasing == mixing.Erasing(0.25, 0.02, 1 / 3, 0.3, 10)
    assert (task.counts, task.objective, task.fill, task.per) == ((4,), "csp", "random", "image")
    record = data.eval_split.decode(0)
    want = torchvision_eval(Image.fromarray(record["image"]), 224, 0.875)  # FB datasets.py; MS data/build.py
    seen = data.eval_transform(record, None)["image"]
    np.testing.assert_allclose(
        seen.astype(int), want, atol=4
    )  # resized by another order of axes: genseg.data.augment.simd


@pytest.mark.parametrize(("channels", "stem"), [("3", 3), ("4", 4), ("5", 5), ("(3,4,5)", 5)])
def test_channels_of_the_four_targets(channels, stem, folder):
    c = tiny.load("pretrain", f"convnext_tiny,channels={channels}")
    c.data.data_dir, c.data.short_side, c.data.partial = str(folder), 0, True
    task = tasks.build(c.lock(), inputs.open_inputs(c).card)
    params, _ = jax.eval_shape(task.net.init, jax.random.key(0))
    assert params["backbone"]["stem"]["conv"]["kernel"].shape == (4, 4, stem, 96)
    assert tree.count(params) == 28_589_128 + 1_536 * (stem - 3)


def test_im_rgb_and_impossible_choices(folder):
    c = tiny.load("pretrain", "objective=rgb,channels=3")
    assert (c.csp.objective, c.csp.channels, c.model.backbone) == ("rgb", 3, "convnext_tiny")
    card = inputs.open_inputs(shrunk(folder, "objective=rgb,channels=3")).card
    with pytest.raises(UserError, match="'rgb' keeps the data's 3 channels but config.csp.channels is 4"):
        tasks.build(shrunk(folder, "objective=rgb"), card)
    with pytest.raises(UserError, match=r"config.csp.channels is \(4, 4\)"):
        tasks.build(shrunk(folder, "channels=(4,4)"), card)
    for key, value, message in (
        ("mixing.group", 3, r"config\.mixing\.group is 3: .*that is even"),
        ("mixing.switch_prob", 1.5, r"config\.mixing\.switch_prob is 1\.5: give a number from 0 to 1"),
        ("erasing.max_area", 0.01, r"config\.erasing\.min_area is 0\.02 and max_area 0\.01: give the smaller first"),
        ("erasing.tries", 0, r"config\.erasing\.tries is 0: give a whole number of at least 1"),
    ):
        wrong = shrunk(folder)
        wrong.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=message):
            tasks.build(wrong.lock(), card)
    with pytest.raises(UserError, match="no published recipe for 'convnext_micro'"):
        tiny.load("pretrain", "convnext_micro")


# ---- the true file, shrunk in size only ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prepared data_dir: five training and four validation images, as TFDS's builder writes them."""
    root = tmp_path_factory.mktemp("imagenet")
    copy = _tfds_copy(root / "tfds", REPAIRED, VALIDATION)
    ImageNet2012(source=str(copy), partial=True).prepare(root / "data", progress=False)
    return root / "data"


def shrunk(data_dir, arguments=""):
    c = tiny.load("pretrain", arguments)
    c.model.backbone = "convnext_micro"
    c.data.data_dir, c.data.short_side, c.data.partial, c.data.threads = str(data_dir), 0, True, 1
    c.augment.size = c.augment.eval_size = 32
    c.train.batch_size, c.eval.batch_size = 8, 8
    c.train.epochs, c.train.steps, c.train.warmup_epochs, c.train.warmup_steps = 0.0, 2, 0.0, 1
    c.checkpoint.every = 1
    return c


@pytest.mark.parametrize("arguments", ["swin_tiny,channels=5", "channels=(3,4,5)"])
def test_two_steps_evaluation_and_resume(folder, tmp_path, arguments):
    c = shrunk(folder, arguments)
    result = train.train(c.lock(), str(tmp_path))
    assert result["scores"].keys() >= {"top1", "top5", "top1_permuted", "top1_reversed"}
    assert all(0 <= value <= 1 for value in result["scores"].values())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["train/loss"] for line in lines if "train/loss" in line]).all()
    if "(3,4,5)" in arguments:  # ConvNeXt's recipe
        # The bias of the logits starts at 0 and the first step's rate is 0: what the averages hold is (1 - decay) of it.
        raw, ema = (
            checkpoints.load_weights(str(tmp_path), ema=e).params["head"]["linear"]["bias"] for e in (False, True)
        )
        np.testing.assert_allclose(ema, (1 - 0.9999) * raw, rtol=1e-3)
        assert np.abs(raw).max() > 1e-3
        each = [result["scores"][f"top1_permuted_n{n}"] for n in (3, 4, 5)]
        assert result["scores"]["top1_permuted"] == pytest.approx(np.mean(each))
    line = score_line(result["scores"])  # one mean stands for several counts
    assert "top1_permuted " in line and "_n3" not in line
    assert train.train(c, str(tmp_path))["scores"] == result["scores"]  # found finished, evaluated again


@pytest.fixture
def seen(folder):
    """seen(arguments, **changes of the task) -> the network's input [64 16 16 n] in a step on images of value 200."""

    def run(arguments="", **changes):
        c = shrunk(folder, arguments)
        task = dataclasses.replace(tasks.build(c.lock(), inputs.open_inputs(c).card), **changes)
        caught = {}

        def apply(params, stats, image, *, train, key=None):
            caught["image"] = np.asarray(image)
            return jnp.zeros((len(image), 1000)), stats

        task = dataclasses.replace(task, net=Net(lambda key: ({}, {}), apply))
        label = jnp.arange(64) % 2
        batch = {"image": jnp.full((64, 16, 16, 3), 200, jnp.uint8), "label": label, "valid": jnp.ones(64, bool)}
        loss, _ = task.loss_sum({}, {}, batch, jax.random.key(3))
        # All logits are equal: the loss of each image is log 1000 times the sum of its target.
        assert float(loss) == pytest.approx(64 * math.log(1000), rel=1e-5)
        return caught["image"]

    return run


NORMALISED = (200 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def test_pixels_are_normalised_then_repeated_and_shuffled_then_erased_then_mixed(seen):
    """timm transforms_factory: RandomErasing behind Normalize; mixup and CutMix on finished batches (FB engine.py)."""
    off = dict(erasing=mixing.Erasing(prob=0.0), mixing=mixing.Mixing(prob=0.0))
    plain = seen(**off)
    assert plain.shape == (64, 16, 16, 4) and (plain == plain[:, :1, :1]).all()
    colours = np.abs(plain[:, 0, 0, :, None] - NORMALISED).argmin(-1)
    np.testing.assert_allclose(plain[:, 0, 0], NORMALISED[colours], rtol=1e-5)
    assert len(np.unique(colours, axis=0)) > 10  # an order for each image
    # Erased: noise of spread 1 in all four places, each its own, although two of them hold the same colour.
    erased = seen(**off | {"erasing": mixing.Erasing(prob=1.0)})
    noise = erased[(erased != plain).all(-1)]
    assert len(noise) > 500 and 0.9 < noise.std() < 1.1 and np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.15
    assert ((erased == plain).all(-1) | (erased != plain).all(-1)).all()
    # Mixed: a share of the image's own erased pixels and of its neighbour's, with the same share everywhere.
    both = seen(erasing=mixing.Erasing(prob=1.0), mixing=mixing.Mixing(cutmix=0.0, group=64))
    neighbour = erased.reshape(32, 2, 16, 16, 4)[:, ::-1].reshape(erased.shape)
    own = np.sum((both - neighbour) * (erased - neighbour)) / np.sum((erased - neighbour) ** 2)
    assert 0.01 < own < 0.99
    np.testing.assert_allclose(both, own * erased + (1 - own) * neighbour, atol=1e-5)


def test_one_stem_for_several_counts_sees_scaled_channels_and_zeros(seen):
    """Neighbours, which mixing blends, have the same n; erasing leaves the unused places zero."""
    image = seen("channels=(3,4,5)", erasing=mixing.Erasing(prob=1.0), mixing=mixing.Mixing(group=64))
    used = (image != 0).any((1, 2))
    n = used.sum(1)
    assert set(n) == {3, 4, 5} and (n[::2] == n[1::2]).all()
    assert (used == (np.arange(5) < n[:, None])).all()
    plain = seen("channels=(3,4,5)", erasing=mixing.Erasing(prob=0.0), mixing=mixing.Mixing(prob=0.0))
    for row, count in zip(plain[:, 0, 0], n, strict=True):
        places = np.abs(row[:count, None] / math.sqrt(5 / count) - NORMALISED).min(1)
        np.testing.assert_allclose(places, 0, atol=1e-5)


@pytest.mark.parametrize("bands", [3, 4, 5, 7])
def test_fine_tuning_from_one_stem_sees_what_training_saw(folder, monkeypatch, bands):
    """Up to n_max the sliced stem answers as the wide one did with the other places zero; beyond, the weights repeat."""
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    task = tasks.build(shrunk(folder, "channels=(3,4,5)").lock(), inputs.open_inputs(shrunk(folder)).card)
    wide, _ = task.net.init(jax.random.key(0))
    fresh, _ = nets.classifier("convnext_micro", channels=bands, classes=9, drop_path=0.0).init(jax.random.key(1))
    adopted, summary = transfer.adopt_backbone(fresh, wide, rule="universal", key=jax.random.key(2), origin="here")
    assert summary.missing and all(path.startswith("head/") for path in summary.missing)
    assert summary.inflated == (() if bands == 5 else ("backbone/stem/conv/kernel",))
    kernel = adopted["backbone"]["stem"]["conv"]["kernel"]
    if bands > 5:
        for band in range(bands):
            np.testing.assert_allclose(
                kernel[:, :, band], wide["backbone"]["stem"]["conv"]["kernel"][:, :, band % 5] * 5 / bands, rtol=1e-6
            )
        return

    def stem(params, pixels):
        weights = params["backbone"]["stem"]["conv"]
        patches = jax.lax.conv_general_dilated(
            pixels, weights["kernel"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
        return patches + weights["bias"]

    image = jax.random.normal(jax.random.key(3), (2, 32, 32, 3))
    order = csp.draw_orders(jax.random.key(4), 2, 3, bands, fill="random", per="image")
    trained = stem(wide, task.in_order(image, order))
    np.testing.assert_allclose(stem(adopted, csp.apply_order(image, order)), trained, rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(trained).max()) > 0.1


def test_im_rgb_sees_red_green_and_blue_in_place(seen):
    image = seen("objective=rgb,channels=3", erasing=mixing.Erasing(prob=0.0), mixing=mixing.Mixing(prob=0.0))
    np.testing.assert_allclose(image, np.broadcast_to(NORMALISED, image.shape), rtol=1e-5)


def test_rand_augment_is_applied_between_flip_and_accelerator(folder):
    c = shrunk(folder)
    c.augment.rand_augment.prob = 1.0
    data = inputs.open_inputs(c)
    record = data.train_split.decode(0)
    c.augment.rand_augment.layers = 0
    plain = inputs.open_inputs(c).train_transform(record, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    inputs.open_inputs(c).train_transform(record, rng)  # what the crop and the flip draw
    expected = randaugment.rand_augment(plain["image"], rng, prob=1.0, fill=(124, 116, 104), interpolation="bicubic")
    found = data.train_transform(record, np.random.default_rng(3))["image"]
    np.testing.assert_array_equal(found, expected)
    c.augment.rand_augment.layers, c.augment.interpolation = 2, "area"
    with pytest.raises(UserError, match="set config.augment.rand_augment.layers to 0"):
        inputs.open_inputs(c)
