"""Frozen, thawing and clipped parameters; the linear head."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from test_optim import settings

from genseg import checkpoints, nets, optim, tree
from genseg.errors import UserError
from genseg.exchange import export
from genseg.freezing import DEPTHS, Freezing
from genseg.train import train

PATHS = ("backbone/stem/kernel", *(f"backbone/stages/{i}/blocks/0/kernel" for i in range(4)),
         "backbone/stages/2/downsample/kernel", "norms/0/scale", "head/kernel")  # fmt: skip
PARAMS = {path: jnp.ones(3) for path in PATHS}  # tree.items gives these paths of a flat tree too


def moved(freezing: Freezing, steps: int) -> list[set[str]]:
    """Which parameters each of `steps` updates changed."""
    transform = optim.build(settings(no_decay=()), PARAMS, lambda _: 0.1, freezing)
    state, params, found = transform.init(PARAMS), PARAMS, []
    gradients = {p: jnp.zeros(3) if freezing.never_trained(p) else jnp.full(3, 0.5) for p in PATHS}
    for _ in range(steps):
        updates, state = transform.update(gradients, state, params)
        new = optax.apply_updates(params, updates)
        found.append({p for p in PATHS if (new[p] != params[p]).any()})
        params = new
    return found


@pytest.mark.parametrize("upto", DEPTHS)
def test_frozen_parts_are_neither_moved_nor_decayed(upto):
    frozen = set(PATHS[: DEPTHS[upto]]) | ({PATHS[5]} if DEPTHS[upto] > 3 else set())
    assert all(step == set(PATHS) - frozen for step in moved(Freezing(upto), 2))


def test_parts_thaw_from_the_deepest_on():
    steps = moved(Freezing("backbone", thaw_every=2), 11)
    first = {path: next(i for i, step in enumerate(steps) if path in step) for path in PATHS}
    assert first == dict(zip(PATHS, (10, 8, 6, 4, 2, 4, 0, 0), strict=True))
    assert steps[10] == set(PATHS)


def test_thawed_parameters_move_no_faster_than_others():
    transform = optim.build(settings(), PARAMS, lambda _: 0.1, Freezing("stem", thaw_every=5))
    state = transform.init(PARAMS)
    for _ in range(6):
        updates, state = transform.update({p: jnp.full(3, 0.5) for p in PATHS}, state, PARAMS)
    np.testing.assert_allclose(updates["backbone/stem/kernel"], updates["head/kernel"], rtol=1e-6)


def test_each_element_of_the_gradient_is_limited_before_their_norm():
    transform = optim.build(settings(clip_value=1.0), PARAMS, lambda _: 0.1)
    limited = optim.build(settings(), PARAMS, lambda _: 0.1)
    large, small = {p: jnp.array([3.0, -7.0, 0.5]) for p in PATHS}, {p: jnp.array([1.0, -1.0, 0.5]) for p in PATHS}
    for ours, theirs in zip(
        transform.update(large, transform.init(PARAMS), PARAMS)[0].values(),
        limited.update(small, limited.init(PARAMS), PARAMS)[0].values(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_linear_probe_leaves_the_backbone_as_it_was(tmp_path, monkeypatch):
    """A whole run: the head learns, the backbone is bit for bit what the seed made, and is not decayed."""
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(tmp_path / "data")
    config.model.backbone, config.model.freeze, config.model.head = "convnext_micro", "backbone", "linear"
    config.report.panels = 0
    train(config, str(tmp_path / "run"))
    weights = checkpoints.load_weights(str(tmp_path / "run"), ema=False)
    net = nets.segmenter("convnext_micro", channels=weights.card.channels, classes=len(weights.card.classes),
                         drop_path=0.0, head="linear", aux=False)  # fmt: skip
    start, _ = jax.jit(net.init)(jax.random.split(jax.random.key(config.seed))[0])
    start, end = dict(tree.items(start)), dict(tree.items(weights.params))
    assert start.keys() == end.keys()
    for path, value in end.items():
        assert np.array_equal(value, start[path]) == path.startswith("backbone/"), path
    with pytest.raises(UserError, match="linear head"):
        export(weights.params, weights.stats, "convnext_micro", "mmseg")


def test_the_linear_head_is_one_convolution_over_the_resized_maps():
    from flax import nnx

    from genseg.nets.linear_head import LinearHead

    rng = np.random.default_rng(0)
    maps = [jnp.float32(rng.normal(size=(2, 8 // 2**i, 8 // 2**i, 3 + i))) for i in range(4)]
    head = LinearHead([3, 4, 5, 6], 7, 0.0, rngs=nnx.Rngs(0))
    whole = np.concatenate([jax.image.resize(x, (2, 8, 8, x.shape[3]), "bilinear") for x in maps], -1)
    kernel = np.concatenate([np.asarray(linear.kernel[...]) for linear in head.linears])
    np.testing.assert_allclose(head(maps, train=False, key=None), whole @ kernel, atol=1e-5)
