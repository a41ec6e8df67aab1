"""The method: what must hold for every source and target channel count."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from genseg import csp, partition
from genseg.dry_run import hlo

CASES = [1, 2, 3, 4, 5, 6, 7, 13]


@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from(CASES), fill=st.sampled_from(csp.FILLS), per=st.sampled_from(csp.PERS), seed=st.integers(0, 99)
)
def test_output_channels_are_inputs_and_counts_are_balanced(n, fill, per, seed):
    image = jax.random.normal(jax.random.key(seed), (6, 5, 4, 3))
    key = jax.random.key(seed + 1)
    orders = np.asarray(csp.draw_orders(key, 6, 3, n, fill=fill, per=per))
    out = np.asarray(csp.shuffle(image, key, n, fill=fill, per=per))
    assert out.shape == (6, 5, 4, n)
    for i in range(6):
        np.testing.assert_array_equal(out[i], np.asarray(image)[i][..., orders[i]])  # copies, to the bit
        counts = np.bincount(orders[i], minlength=3)
        assert set(counts) <= {n // 3, -(-n // 3)}
        if fill == "cyclic":
            assert all(counts[c] == n // 3 + (c < n % 3) for c in range(3))
    if per == "batch":
        assert (orders == orders[0]).all()


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("fill", csp.FILLS)
def test_all_orders_equally_likely(n, fill):
    draws = np.asarray(csp.draw_orders(jax.random.key(7), 60_000, 3, n, fill=fill, per="image"))
    words, counts = np.unique(draws @ 3 ** np.arange(n), return_counts=True)
    # n = 3: 3! orders. n = 4: one channel doubled, 4!/2! arrangements of each multiset; 3 multisets if drawn at random.
    expected = {(3, "random"): 6, (3, "cyclic"): 6, (4, "random"): 36, (4, "cyclic"): 12}[n, fill]
    assert len(words) == expected
    assert chisquare(counts).pvalue > 1e-4


def test_fewer_channels_than_the_source_choose_uniformly():
    draws = np.asarray(csp.draw_orders(jax.random.key(3), 30_000, 3, 1, fill="random", per="image"))
    assert chisquare(np.bincount(draws[:, 0], minlength=3)).pvalue > 1e-4
    pairs = np.asarray(csp.draw_orders(jax.random.key(4), 30_000, 3, 2, fill="random", per="image"))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert chisquare(np.unique(pairs @ [1, 3], return_counts=True)[1]).pvalue > 1e-4


def test_same_key_same_result_and_other_key_another():
    image = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
    a, b, c = (csp.shuffle(image, jax.random.key(k), 4) for k in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_images_of_a_batch_get_different_orders():
    orders = np.asarray(csp.draw_orders(jax.random.key(0), 64, 3, 5, fill="random", per="image"))
    assert len(np.unique(orders, axis=0)) > 20


def test_fixed_and_reversed_orders():
    assert csp.fixed_order(3, 5).tolist() == [0, 1, 2, 0, 1]
    assert csp.reversed_order(3, 5).tolist() == [2, 1, 0, 2, 1]


def test_gather_is_exact_in_bfloat16_too():
    image = jax.random.normal(jax.random.key(0), (2, 3, 3, 3), jnp.bfloat16)
    out = csp.apply_order(image, jnp.array([2, 0, 1, 1]))
    np.testing.assert_array_equal(np.asarray(out, np.float32), np.asarray(image, np.float32)[..., [2, 0, 1, 1]])


def test_sharded_shuffle_needs_no_collective_and_equals_the_unsharded(eight_devices):
    mesh = partition.make_mesh()
    image = jax.random.normal(jax.random.key(0), (16, 4, 4, 3))
    sharded = jax.device_put(image, partition.batch_sharding(mesh))
    function = jax.jit(lambda x, k: csp.shuffle(x, k, 5), out_shardings=partition.batch_sharding(mesh))
    key = jax.random.key(5)
    compiled = function.lower(sharded, key).compile()
    assert not hlo.collectives(compiled.as_text()), re.findall("all-.*", compiled.as_text())[:3]
    np.testing.assert_array_equal(function(sharded, key), csp.shuffle(image, key, 5))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="fill is 'best'"):
        csp.draw_order(jax.random.key(0), 3, 4, "best")
    with pytest.raises(ValueError, match="per is 'pixel'"):
        csp.draw_orders(jax.random.key(0), 2, 3, 4, fill="random", per="pixel")


COUNTS = (3, 4, 5)


@pytest.mark.parametrize("per", csp.PERS)
def test_mixed_orders_are_orders_of_one_of_the_counts_with_unused_places_behind(per):
    orders = np.asarray(csp.draw_mixed_orders(jax.random.key(0), 600, 3, COUNTS, fill="random", per=per))
    assert orders.shape == (600, 5)
    n = (orders >= 0).sum(1)
    for row, used in zip(orders, n, strict=True):
        assert used in COUNTS and (row[:used] >= 0).all() and (row[used:] == -1).all()
        times = np.bincount(row[:used], minlength=3)
        assert times.min() >= used // 3 and times.max() <= -(-used // 3)
    assert (n[0::2] == n[1::2]).all()  # the images that mixup blends
    if per == "batch":
        assert (orders == orders[0]).all()
    else:
        found = [int((n[::2] == count).sum()) for count in COUNTS]
        assert chisquare(found).pvalue > 1e-4
        assert len({tuple(row) for row in orders[n == 3]}) == 6


def test_unused_channels_are_zero_and_the_response_of_a_fresh_stem_has_one_scale_for_every_count():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(64, 4, 4, 3)).astype("f4")
    kernel = rng.normal(size=(5, 256)).astype("f4")
    spread = []
    for n in COUNTS:
        order = csp.pad_order(csp.fixed_order(3, n), 5)
        wide = csp.apply_order(jnp.asarray(image), order) * csp.channel_weight(order)
        assert (np.asarray(wide)[..., n:] == 0).all() and np.abs(wide[..., :n]).min() > 0
        # Channels that repeat one another are correlated, but fresh weights are not: their variances add up.
        spread.append(float(np.sqrt(np.mean(np.square(wide @ kernel)))))
    np.testing.assert_allclose(spread, spread[-1], rtol=0.05)
    unscaled = [s * np.sqrt(n / 5) for s, n in zip(spread, COUNTS, strict=True)]
    assert unscaled[0] < 0.85 * unscaled[-1]  # what the weight mends


def test_one_count_is_not_scaled():
    assert (np.asarray(csp.channel_weight(csp.fixed_order(3, 4))) == 1).all()
