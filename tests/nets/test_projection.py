"""The learned 1 x 1 convolution before a backbone: what it starts as, and that the backbone behind it is the RGB one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from genseg import exchange, nets, transfer, tree
from genseg.errors import UserError


@pytest.fixture
def segmenter(monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "narrow", tiny.narrow)

    def build(channels, **options):
        sizes = {"classes": 2, "drop_path": 0.0, "head_channels": 8, "aux_channels": 8}
        return nets.segmenter("narrow", channels=channels, **sizes, **options)

    return build


def test_it_starts_by_sharing_bands_out_and_the_backbone_sees_that(segmenter):
    projected, plain = segmenter(5, project=3, aux=False, dropout=0.0), segmenter(3, aux=False, dropout=0.0)
    params, stats = jax.jit(projected.init)(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (1, 32, 32, 5))
    seen = jnp.stack([(image[..., 0] + image[..., 3]) / 2, (image[..., 1] + image[..., 4]) / 2, image[..., 2]], -1)
    inner = {name: part for name, part in params.items() if name != "projection"}
    ours = jax.jit(lambda x: projected.apply(params, stats, x, train=False)[0]["logits"])(image)
    theirs = jax.jit(lambda x: plain.apply(inner, stats, x, train=False)[0]["logits"])(seen)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rgb_weights_fit_as_they_are_and_the_projection_is_its_own(segmenter):
    shapes = [jax.eval_shape(net.init, jax.random.key(0))[0] for net in (segmenter(4, project=3), segmenter(3))]
    target, source = (
        jax.tree.map(lambda leaf, n=n: jnp.full(leaf.shape, n, leaf.dtype), s) for n, s in enumerate(shapes)
    )
    adopted, report = transfer.adopt_backbone(target, source, rule="exact", key=jax.random.key(0), origin="rgb")
    assert not report.inflated and {"projection/linear/kernel", "projection/linear/bias"} <= set(report.missing)
    assert all((np.asarray(leaf) == 1).all() for _, leaf in tree.items(adopted["backbone"]))


def test_weights_for_other_codebases_are_refused(segmenter):
    params, stats = jax.eval_shape(segmenter(4, project=3).init, jax.random.key(0))
    with pytest.raises(UserError, match="no name for a projection"):
        exchange.export(params, stats, "narrow", "mmseg")
