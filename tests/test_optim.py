"""Schedules, layer-wise decay and decay groups against published numbers and plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genseg import optim, tree
from genseg.errors import UserError
from genseg.nets import segmenter

BASE = optim.OptimSettings(
    scaling="none", scaling_batch=0, learning_rate=4e-3, min_learning_rate=1e-6, warmup_learning_rate=0.0, schedule="cosine", power=1.0, b1=0.9, b2=0.999,
    eps=1e-8, weight_decay=0.05, no_decay=(r".*/(bias|scale|gamma)",), clip_norm=0.0, layer_decay=1.0,
    layer_decay_layers=6,
)  # fmt: skip


def settings(**changes) -> optim.OptimSettings:
    return dataclasses.replace(BASE, **changes)


def test_cosine_with_warmup():
    rate = optim.learning_rate(BASE, 100, 20)
    assert rate(0) == 0 and rate(10) == pytest.approx(2e-3)
    for step in (20, 37, 60, 99, 100):
        expected = 1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + np.cos(np.pi * (step - 20) / 80))
        assert rate(step) == pytest.approx(expected, rel=1e-4)  # float32


def test_poly_without_warmup():
    rate = optim.learning_rate(settings(schedule="poly", power=0.9, min_learning_rate=0.0), 50, 0)
    assert rate(10) == pytest.approx(4e-3 * 0.8**0.9, rel=1e-5)
    assert rate(50) == 0


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_learning_rates_follow_the_batch_only_by_the_named_rule(rule, factor):
    given = settings(scaling=rule, scaling_batch=256, warmup_learning_rate=1e-5)
    found = optim.scaled(given, 1024)
    assert found.learning_rate == pytest.approx(4e-3 * factor)
    assert found.min_learning_rate == pytest.approx(1e-6 * factor)
    assert found.warmup_learning_rate == pytest.approx(1e-5 * factor)
    assert optim.scaled(found, 1024) == found  # not twice
    assert optim.scaled(given, 256).learning_rate == 4e-3


def test_rates_are_said_in_a_line():
    assert optim.describe_rates(BASE, 64, 3000, 0) == (
        "0.004, then cosine to 1e-06 at step 3,000; as given, whatever the batch (rule 'none'; here 64)"
    )
    swin = settings(
        scaling="linear", scaling_batch=512, learning_rate=5e-4, min_learning_rate=5e-6, warmup_learning_rate=5e-7
    )
    assert optim.describe_rates(swin, 1024, 375_341, 25_022) == (
        "1e-06 rising to 0.001 over 25,022 steps, then cosine to 1e-05 at step 375,341; given for batches of 512, x 2 for "
        "1024 by the rule 'linear'"
    )


def test_layer_factors_of_convnext_tiny_as_published():
    # ConvNeXt semantic_segmentation, layer decay 0.9, stage-wise, num_layers 6.
    factor = {
        "backbone/stem/conv/kernel": 0.4783, "backbone/stages/3/downsample/norm/scale": 0.4783,
        "backbone/stages/0/blocks/0/gamma": 0.5314, "backbone/stages/1/blocks/2/mlp/fc1/kernel": 0.5905,
        "backbone/stages/2/blocks/8/norm/bias": 0.6561, "backbone/stages/3/blocks/0/gamma": 0.7290,
        "norms/0/scale": 1.0, "head/logits/kernel": 1.0, "aux_head/conv/kernel": 1.0,
    }  # fmt: skip
    for path, expected in factor.items():
        assert optim.layer_factor(path, 0.9, 6) == pytest.approx(expected, abs=5e-5), path


def test_every_parameter_of_the_segmenter_is_in_the_expected_decay_group():
    net = segmenter("convnext_tiny", channels=4, classes=9, drop_path=0.1)
    params, _ = jax.eval_shape(net.init, jax.random.key(0))
    for path, leaf in tree.items(params):
        # facebookresearch/ConvNeXt optim_factory.py: no decay for one-dimensional parameters and biases.
        assert optim.decays(path, BASE.no_decay) == (len(leaf.shape) > 1), path


def test_updates_equal_a_plain_adamw_with_groups():
    params = {
        "backbone": {"stem": {"conv": {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.ones(2)}}},
        "head": {"kernel": jnp.full((3,), 2.0)},
    }
    chosen = settings(layer_decay=0.5, layer_decay_layers=2, clip_norm=1.0, schedule="poly", min_learning_rate=0.0)
    optimizer = optim.build(chosen, params, optim.learning_rate(chosen, 10, 2))
    state = optimizer.init(params)
    rng = np.random.default_rng(0)
    mine = {path: np.asarray(leaf, np.float64) for path, leaf in tree.items(params)}
    m = {k: 0 * v for k, v in mine.items()}
    v = {k: 0 * v for k, v in mine.items()}
    for step in range(4):
        grads = {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in tree.items(params)}
        updates, state = optimizer.update(tree.from_items(grads), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        rate = 4e-3 * (step / 2 if step < 2 else 1 - (step - 2) / 8)
        for path in mine:
            g = grads[path] * min(1, 1 / norm)
            m[path] = 0.9 * m[path] + 0.1 * g
            v[path] = 0.999 * v[path] + 0.001 * g**2
            adam = (m[path] / (1 - 0.9 ** (step + 1))) / (np.sqrt(v[path] / (1 - 0.999 ** (step + 1))) + 1e-8)
            factor = 0.125 if path.startswith("backbone") else 1.0
            decay = 0.0 if path.endswith("bias") else 0.05
            mine[path] = mine[path] - rate * factor * (adam + decay * mine[path])
    for path, leaf in tree.items(params):
        np.testing.assert_allclose(leaf, mine[path], rtol=2e-5, err_msg=path)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="warm-up of 30 steps does not fit in 30"):
        optim.learning_rate(BASE, 30, 30)
    with pytest.raises(UserError, match="'linear'"):
        optim.learning_rate(settings(schedule="linear"), 30, 3)
    with pytest.raises(UserError, match="'nothing' matches no parameter"):
        optim.build(settings(no_decay=("nothing",)), {"a": jnp.ones(2)}, lambda _: 1e-3)
