"""Mixup, CutMix and erasing: shares, boxes, layout."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, ks_1samp, ks_2samp, norm

from genseg import mixing, partition
from genseg.dry_run import hlo

mix, erase = jax.jit(mixing.mix, static_argnums=3), jax.jit(mixing.erase, static_argnums=2)

IMAGE = jnp.arange(8, dtype=jnp.float32)[:, None, None, None] * jnp.ones((8, 16, 12, 2))
TARGET = jax.nn.one_hot(jnp.arange(8), 8)


@pytest.mark.parametrize("seed", range(4))
def test_mixup_mixes_neighbours_by_one_share(seed):
    settings = mixing.Mixing(mixup=0.8, cutmix=0.0, group=8)
    image, target = mix(IMAGE, TARGET, jax.random.key(seed), settings)
    share = float(target[0, 0])
    expected = [share * i + (1 - share) * (i ^ 1) for i in range(8)]
    np.testing.assert_allclose(image[:, 3, 5, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_share_is_that_of_the_clipped_box(seed):
    settings = mixing.Mixing(mixup=0.0, cutmix=1.0, group=8)
    image, target = mix(IMAGE, TARGET, jax.random.key(seed), settings)
    own = np.asarray(image[6, :, :, 0]) == 6
    assert set(np.unique(image[6])) <= {6.0, 7.0}
    assert float(target[6, 6]) == pytest.approx(own.mean(), abs=1e-6)
    rows, cols = np.where(~own)
    if rows.size:  # a rectangle
        assert (~own).sum() == (rows.max() - rows.min() + 1) * (cols.max() - cols.min() + 1)


def test_groups_draw_their_own_shares():
    settings = mixing.Mixing(mixup=0.8, cutmix=0.0, group=2)
    _, target = mix(IMAGE, TARGET, jax.random.key(0), settings)
    assert len(np.unique(np.round(np.diag(np.asarray(target))[::2], 5))) == 4


def test_probability_zero_changes_nothing():
    image, target = mix(IMAGE, TARGET, jax.random.key(0), mixing.Mixing(prob=0.0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(target, TARGET)


def test_mixing_stays_on_its_device_and_does_not_depend_on_the_layout(eight_devices):
    mesh = partition.make_mesh()
    image, target = jnp.concatenate([IMAGE] * 2), jnp.concatenate([TARGET] * 2)
    sharding = partition.batch_sharding(mesh)
    settings = mixing.Mixing(group=4)
    function = jax.jit(lambda x, t, k: mix(x, t, k, settings), out_shardings=(sharding, sharding))
    sharded = jax.device_put((image, target), sharding)
    compiled = function.lower(*sharded, jax.random.key(1)).compile()
    assert not hlo.collectives(compiled.as_text())
    for a, b in zip(
        function(*sharded, jax.random.key(1)), mix(image, target, jax.random.key(1), settings), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_odd_batch_is_refused():
    with pytest.raises(ValueError, match="odd"):
        mix(IMAGE[:3], TARGET[:3], jax.random.key(0), mixing.Mixing())


def test_erasing_takes_boxes_of_the_right_size_in_the_right_share_of_images():
    image = jnp.full((2000, 32, 32, 5), 9.0)
    erased = np.asarray(erase(image, jax.random.key(0), mixing.Erasing())) != 9.0
    hit = erased.any((1, 2, 3))
    assert 0.21 < hit.mean() < 0.29
    assert (erased.all(-1) == erased.any(-1)).all()  # all channels of a pixel
    areas = erased[hit].all(-1).mean((1, 2))
    assert areas.min() > 0.01 and areas.max() < 0.37
    assert 0.14 < areas.mean() < 0.20  # uniform between 2 % and 33 %


# ---- against timm's definitions, written out again: timm/data/mixup.py, timm/data/random_erasing.py ------------------


def test_published_draws_are_timms():
    """Mode "batch", mixup 0.8, cutmix 1.0, prob 1, switch_prob 0.5: Mixup._params_per_batch and rand_bbox (timm 0.4.12)."""
    pairs, height, width, key = 1500, 20, 14, jax.random.key(5)
    image = jnp.tile(jnp.array([1.0, 0.0])[:, None, None, None], (pairs, height, width, 1))
    image, target = mix(image, image[:, 0, 0], key, mixing.Mixing(group=2))
    mask, share = np.asarray(image)[::2, :, :, 0], np.asarray(target)[::2, 0]
    cut = np.isin(mask, (0, 1)).all((1, 2))
    assert abs(cut.mean() - 0.5) < 5 * math.sqrt(0.25 / pairs)
    _, many = mix(
        jnp.zeros((40_000, 1, 1, 1)), jnp.tile(jnp.eye(2), (20_000, 1)), key, mixing.Mixing(cutmix=0.0, group=2)
    )
    for found in (share[~cut], np.asarray(many)[::2, 0]):
        assert ks_1samp(found, beta(0.8, 0.8).cdf).pvalue > 1e-4
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(4 * pairs):
        ratio = np.sqrt(1 - rng.beta(1.0, 1.0))
        half_h, half_w = int(height * ratio) // 2, int(width * ratio) // 2
        y, x = rng.integers(0, height), rng.integers(0, width)
        top, bottom = np.clip((y - half_h, y + half_h), 0, height)
        left, right = np.clip((x - half_w, x + half_w), 0, width)
        boxes.append((bottom - top, right - left, 1 - (bottom - top) * (right - left) / (height * width)))
    expected = np.array(boxes).T
    rows, columns = (mask[cut] == 0).any(2).sum(1), (mask[cut] == 0).any(1).sum(1)
    for found, want in zip((rows, columns, share[cut]), expected, strict=True):
        assert ks_2samp(found, want).pvalue > 1e-4
    np.testing.assert_allclose(share[cut], mask[cut].mean((1, 2)), rtol=1e-5)


def test_prob_is_the_share_of_groups_that_are_mixed():
    image = jnp.tile(IMAGE[:2, :2, :2], (600, 1, 1, 1))
    mixed, _ = mix(image, image[:, 0, 0], jax.random.key(0), mixing.Mixing(group=2, cutmix=0.0, prob=0.3))
    changed = (np.asarray(mixed) != np.asarray(image)).any((1, 2, 3))[::2]
    assert abs(changed.mean() - 0.3) < 5 * math.sqrt(0.21 / 600)


def timm_box(rng, height, width, settings):
    """RandomErasing._erase: (top, left, h, w), or None after `tries` boxes that did not fit."""
    log = math.log(settings.min_aspect), math.log(1 / settings.min_aspect)
    for _ in range(settings.tries):
        area = rng.uniform(settings.min_area, settings.max_area) * height * width
        aspect = math.exp(rng.uniform(*log))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w < width and h < height:
            return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
    return None


@pytest.mark.parametrize(
    "settings",
    [mixing.Erasing(prob=1.0), mixing.Erasing(prob=1.0, min_area=0.4, max_area=0.95, tries=2)],
    ids=["published", "boxes that often do not fit"],
)
def test_erased_boxes_are_distributed_as_timms(settings):
    images, height, width = 1500, 24, 15
    erased = np.asarray(erase(jnp.full((images, height, width, 1), 9.0), jax.random.key(1), settings)) != 9.0
    rows, columns = erased[..., 0].any(2), erased[..., 0].any(1)
    hit = rows.any(1)
    found = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1)[hit]
    assert (erased.sum((1, 2, 3))[hit] == found[:, 2] * found[:, 3]).all()
    rng = np.random.default_rng(3)
    boxes = [timm_box(rng, height, width, settings) for _ in range(4 * images)]
    fits = np.mean([box is not None for box in boxes])
    assert abs(hit.mean() - fits) < 5 * math.sqrt(max(fits * (1 - fits), 1e-4) * 1.25 / images)
    expected = np.array([box for box in boxes if box is not None])
    for k in range(4):
        assert ks_2samp(found[:, k], expected[:, k]).pvalue > 1e-4, k
    for combine in (np.multiply, np.divide):  # area and aspect ratio
        assert ks_2samp(combine(*found[:, 2:].T), combine(*expected[:, 2:].T)).pvalue > 1e-4


def test_erased_pixels_are_standard_normal_in_every_channel():
    """Mode "pixel"."""
    image = jnp.full((300, 16, 16, 5), 9.0)
    erased = np.asarray(erase(image, jax.random.key(2), mixing.Erasing(prob=1.0)))
    noise = erased[(erased != 9.0).all(-1)]
    assert len(noise) > 5000
    for channel in range(5):
        assert ks_1samp(noise[:, channel], norm.cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(noise.T) - np.eye(5)).max() < 0.06
