"""Weights from one classifier into another: the head included, where the task says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genseg import transfer
from genseg.errors import UserError

KEY = jax.random.key(0)


def weights(channels: int, classes: int, value: float) -> dict:
    def full(*shape):
        return jnp.full(shape, value)

    return {
        "backbone": {"stem": {"conv": {"kernel": full(4, 4, channels, 8)}}, "blocks": {"0": {"scale": full(8)}}},
        "head": {"norm": {"scale": full(8)}, "linear": {"kernel": full(8, classes), "bias": full(classes)}},
    }


@pytest.mark.parametrize("head", [False, True])
def test_the_head_comes_along_where_it_is_wanted(head):
    adopted, report = transfer.adopt_backbone(
        weights(4, 10, 0.0), weights(3, 10, 1.0), rule="repeat", key=KEY, origin="rgb", head=head
    )
    assert (np.asarray(adopted["head"]["linear"]["kernel"]) == head).all()
    assert (np.asarray(adopted["head"]["norm"]["scale"]) == head).all()
    np.testing.assert_allclose(adopted["backbone"]["stem"]["conv"]["kernel"], 0.75)
    assert len(report.missing) == (0 if head else 3) and len(report.unused) == (0 if head else 3)


def test_the_rule_mean_averages_as_many_bands_too():
    source = weights(3, 10, 1.0)
    kernel = np.random.default_rng(0).normal(size=(4, 4, 3, 8)).astype("f4")
    source["backbone"]["stem"]["conv"]["kernel"] = jnp.asarray(kernel)
    for rule, want, inflated in (("mean", kernel.mean(2, keepdims=True).repeat(3, 2), 1), ("repeat", kernel, 0)):
        adopted, report = transfer.adopt_backbone(weights(3, 10, 0.0), source, rule=rule, key=KEY, origin="rgb")
        np.testing.assert_allclose(adopted["backbone"]["stem"]["conv"]["kernel"], want, rtol=1e-5, atol=1e-7)
        assert len(report.inflated) == inflated and len(report.matched) == 2 - inflated


def test_a_head_for_other_classes_is_refused():
    with pytest.raises(UserError, match="'head/linear/.*set config.init.head to False"):
        transfer.adopt_backbone(weights(3, 10, 0.0), weights(3, 7, 1.0), rule="exact", key=KEY, origin="x", head=True)
    transfer.adopt_backbone(weights(3, 10, 0.0), weights(3, 7, 1.0), rule="exact", key=KEY, origin="x")


def test_a_checkpoint_without_a_head_is_refused():
    bare = {"backbone": weights(3, 10, 1.0)["backbone"]}
    with pytest.raises(UserError, match="3 parameters missing"):
        transfer.adopt_backbone(weights(3, 10, 0.0), bare, rule="exact", key=KEY, origin="x", head=True)
