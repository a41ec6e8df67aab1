"""A convolution over resized maps: both forms are one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg import nets, tasks
from genseg.data.card import Band, DatasetCard
from genseg.nets import flops, fusion

SIDES = st.integers(1, 7)


def drawn(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4), size=st.tuples(SIDES, SIDES),
    kernel=st.sampled_from([(3, 3), (1, 3), (5, 3)]), seed=st.integers(0, 99),
)  # fmt: skip
def test_coarse_is_resized(sizes, size, kernel, seed):
    """Values and all gradients in float64, for maps that are smaller, larger, or both, and any ratio of sides."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        maps = [drawn(rng, 2, *s, 1 + i) for i, s in enumerate(sizes)]
        weights = drawn(rng, *kernel, sum(x.shape[3] for x in maps), 3)
        toward = drawn(rng, 2, *size, 3)
        found = []
        for form in fusion.FORMS:

            @jax.jit  # a program, where every operation alone would be compiled for every shape
            def both(m, k, toward, form=form):
                y, back = jax.vjp(lambda m, k: fusion.conv_of_resized(m, k, *size, form), m, k)
                return y, back(toward)

            found.append(jax.tree.leaves(both(maps, weights, toward)))
            assert all(leaf.dtype == jnp.float64 for leaf in found[-1])
    for resized, coarse in zip(*found, strict=True):
        np.testing.assert_allclose(coarse, resized, rtol=0, atol=1e-13 * max(1.0, np.abs(resized).max()))


def test_the_product_of_accelerators_is_the_sum_of_a_cpu():
    with jax.enable_x64(True):
        x = drawn(np.random.default_rng(0), 2, 5, 3, 4)
        for size in (1, 3, 5, 10, 13, 40):
            np.testing.assert_allclose(fusion._by_product(x, size), fusion._by_sums(x, size), rtol=0, atol=1e-14)


def test_it_is_a_convolution_of_what_is_seen_at_one_size():
    """By hand: a map of one pixel fills the plane, and the padding around it stays zero."""
    x, kernel = jnp.full((1, 1, 1, 1), 2.0), jnp.ones((3, 3, 1, 1))
    for form in fusion.FORMS:
        y = fusion.conv_of_resized([x], kernel, 3, 4, form)[0, :, :, 0]
        np.testing.assert_array_equal(y, 2.0 * np.array([[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]))


def test_bfloat16_is_float32_to_its_rounding():
    rng = np.random.default_rng(0)
    maps = [drawn(rng, 2, 16 >> i, 16 >> i, 32).astype(jnp.bfloat16) for i in range(4)]
    kernel, toward = drawn(rng, 3, 3, 128, 32).astype(jnp.float32) / 34, drawn(rng, 2, 16, 16, 32)

    def run(maps, form):
        y, back = jax.vjp(lambda m, k: fusion.conv_of_resized(m, k, 16, 16, form), maps, kernel)
        to_maps, to_kernel = back(toward.astype(y.dtype))
        assert to_kernel.dtype == jnp.float32 and y.dtype == maps[0].dtype
        return [x.astype(jnp.float32) for x in (y, *to_maps, to_kernel)]

    wide = run([x.astype(jnp.float32) for x in maps], "resized")
    for form in fusion.FORMS:
        for narrow, exact in zip(run(maps, form), wide, strict=True):
            assert np.linalg.norm(narrow - exact) < 0.01 * np.linalg.norm(exact)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)


def test_a_trained_segmenter_takes_the_form_of_its_config(small):
    """By itself coarse: fewer multiply-adds, the same trees, the same logits and statistics in training."""
    card = DatasetCard(
        "x", "segmentation", tuple(Band(b, mean=1.0, std=2.0) for b in "abcd"), ("p", "q", "r"), (), 255, (0, 1, 2), {}, "none", True,
        "uint8",
    )  # fmt: skip
    image, found = jax.random.normal(jax.random.key(1), (2, 96, 64, 4)), {}
    for form in ("default", *fusion.FORMS):
        config = tiny.load("demo_segment")
        if form != "default":
            config.model.fusion = form
        net = tasks.build(config, card).net
        params, stats = jax.jit(net.init)(jax.random.key(0))

        def run(params, stats, net=net):
            return net.apply(params, stats, image, train=True, key=jax.random.key(2))

        found[form] = flops.of(jax.make_jaxpr(run)(params, stats).jaxpr), jax.tree.leaves(jax.jit(run)(params, stats))
    assert found["default"][0] == found["coarse"][0] < 0.9 * found["resized"][0]
    for coarse, resized in zip(found["coarse"][1], found["resized"][1], strict=True):
        np.testing.assert_allclose(coarse, resized, rtol=0, atol=2e-6 * np.abs(resized).max())
