"""Losses against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genseg import losses


def _log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_soft_targets_sum_to_one_and_follow_timm():
    target = np.asarray(losses.soft_targets(jnp.array([2, 0]), 5, 0.1))
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(target[0], [0.02, 0.02, 0.92, 0.02, 0.02], rtol=1e-6)


def test_soft_cross_entropy_leaves_padding_out():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(4, 5)).astype(np.float32), rng.dirichlet(np.ones(5), 4).astype(np.float32)
    valid = np.array([True, False, True, True])
    expected = -(target * _log_softmax(logits)).sum(-1)[valid].sum()
    assert losses.soft_cross_entropy_sum(logits, target, valid) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pixel_cross_entropy_and_its_gradient(smoothing):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    label = rng.integers(0, 6, (2, 3, 4))
    label[0, 0] = 255
    valid = label != 255
    target = np.eye(6)[np.where(valid, label, 0)] * (1 - smoothing) + smoothing / 6

    def loss(x):
        return losses.pixel_cross_entropy_sum(x, jnp.array(label), jnp.array(valid), smoothing=smoothing)

    expected = -(target * _log_softmax(logits)).sum(-1)[valid].sum()
    assert loss(logits) == pytest.approx(expected, rel=1e-5)
    gradient = (np.exp(_log_softmax(logits)) - target) * valid[..., None]
    np.testing.assert_allclose(jax.grad(loss)(logits), gradient, atol=1e-5)
