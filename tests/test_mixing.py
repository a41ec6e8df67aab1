"""Mixup, CutMix and erasing: shares, boxes, layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genseg import mixing, partition

IMAGE = jnp.arange(8, dtype=jnp.float32)[:, None, None, None] * jnp.ones((8, 16, 12, 2))
TARGET = jax.nn.one_hot(jnp.arange(8), 8)


@pytest.mark.parametrize("seed", range(4))
def test_mixup_mixes_neighbours_by_one_share(seed):
    settings = mixing.Mixing(mixup=0.8, cutmix=0.0, group=8)
    image, target = mixing.mix(IMAGE, TARGET, jax.random.key(seed), settings)
    share = float(target[0, 0])
    expected = [share * i + (1 - share) * (i ^ 1) for i in range(8)]
    np.testing.assert_allclose(image[:, 3, 5, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_share_is_that_of_the_clipped_box(seed):
    settings = mixing.Mixing(mixup=0.0, cutmix=1.0, group=8)
    image, target = mixing.mix(IMAGE, TARGET, jax.random.key(seed), settings)
    own = np.asarray(image[6, :, :, 0]) == 6
    assert set(np.unique(image[6])) <= {6.0, 7.0}
    assert float(target[6, 6]) == pytest.approx(own.mean(), abs=1e-6)
    rows, cols = np.where(~own)
    if rows.size:  # a rectangle
        assert (~own).sum() == (rows.max() - rows.min() + 1) * (cols.max() - cols.min() + 1)


def test_groups_draw_their_own_shares():
    settings = mixing.Mixing(mixup=0.8, cutmix=0.0, group=2)
    _, target = mixing.mix(IMAGE, TARGET, jax.random.key(0), settings)
    assert len(np.unique(np.round(np.diag(np.asarray(target))[::2], 5))) == 4


def test_probability_zero_changes_nothing():
    image, target = mixing.mix(IMAGE, TARGET, jax.random.key(0), mixing.Mixing(prob=0.0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(target, TARGET)


def test_mixing_stays_on_its_device_and_does_not_depend_on_the_layout(eight_devices):
    mesh = partition.make_mesh()
    image, target = jnp.concatenate([IMAGE] * 2), jnp.concatenate([TARGET] * 2)
    sharding = partition.batch_sharding(mesh)
    settings = mixing.Mixing(group=4)
    function = jax.jit(lambda x, t, k: mixing.mix(x, t, k, settings), out_shardings=(sharding, sharding))
    sharded = jax.device_put((image, target), sharding)
    compiled = function.lower(*sharded, jax.random.key(1)).compile()
    assert not partition.collectives(compiled.as_text())
    for a, b in zip(function(*sharded, jax.random.key(1)), mixing.mix(image, target, jax.random.key(1), settings), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_odd_batch_is_refused():
    with pytest.raises(ValueError, match="odd"):
        mixing.mix(IMAGE[:3], TARGET[:3], jax.random.key(0), mixing.Mixing())


def test_erasing_takes_boxes_of_the_right_size_in_the_right_share_of_images():
    image = jnp.full((2000, 32, 32, 5), 9.0)
    erased = np.asarray(mixing.erase(image, jax.random.key(0), mixing.Erasing())) != 9.0
    hit = erased.any((1, 2, 3))
    assert 0.21 < hit.mean() < 0.29
    assert (erased.all(-1) == erased.any(-1)).all()  # all channels of a pixel
    areas = erased[hit].all(-1).mean((1, 2))
    assert areas.min() > 0.01 and areas.max() < 0.37
    assert 0.14 < areas.mean() < 0.20  # uniform between 2 % and 33 %
