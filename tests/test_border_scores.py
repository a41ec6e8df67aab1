"""Border counts against SciPy's distance transform, pixel by pixel, and what must not make a border."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from genseg import border_scores, borders, scene_borders
from genseg.border_scores import COUNTS, DISTANCES, border_counts

counted = jax.jit(border_counts, static_argnums=3)


def within(targets: np.ndarray, distance: float) -> np.ndarray:
    """Pixels at most `distance` from a target."""
    if not targets.any():
        return np.zeros(targets.shape, bool)
    return ndimage.distance_transform_edt(~targets) <= distance


def brute(prediction, label, valid, classes, own=None) -> np.ndarray:
    own = np.ones(valid.shape, bool) if own is None else own
    out = np.zeros((len(COUNTS), len(DISTANCES), classes), np.int64)
    all_bands = [np.zeros(valid.shape, bool) for _ in DISTANCES]
    for c in range(classes):
        g = valid & (label == c)
        for k, d in enumerate(DISTANCES):
            all_bands[k] |= g & within(valid & (label != c), d)
    for c in range(classes):
        g, p = valid & (label == c), valid & (prediction == c)
        outline_g, outline_p = g & within(valid & ~g, 1), p & within(valid & ~p, 1)
        for k, d in enumerate(DISTANCES):
            band_g, band_p = g & within(valid & ~g, d), p & within(valid & ~p, d)
            flags = (
                band_g, band_p, band_g & band_p, outline_g & within(outline_p, d), outline_p & within(outline_g, d),
                g & p & all_bands[k], p & all_bands[k],
            )  # fmt: skip
            out[:, k, c] = [np.count_nonzero(flag & own) for flag in flags]
    return out


def blobs(seed: int, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Smooth regions of several sizes, as class maps have them."""
    rng = np.random.default_rng(seed)
    return np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 1 + seed % 4) for _ in range(classes)]).argmax(0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(3, (23, 31)), (40, (23, 31))]), st.booleans())
def test_counts_equal_scipys_distance_transform(seed, form, masked):
    classes, shape = form
    rng = np.random.default_rng(seed)
    label, prediction = blobs(seed, shape, classes), blobs(seed + 1, shape, classes)
    prediction = np.where(rng.random() < 0.5, prediction, np.roll(label, 1, axis=0))
    valid = ~(blobs(seed + 2, shape, 3) == 0) if masked else np.ones(shape, bool)
    label = np.where(valid, label, 255)
    own = np.zeros(shape, bool)
    own[3:17, 5:] = True
    ours = counted(prediction[None], label[None], valid[None], classes, own[None])[0]
    np.testing.assert_array_equal(ours, brute(prediction, label, valid, classes, own))


def test_a_prediction_that_is_the_truth_scores_one_and_a_shift_counts_by_distance():
    label = np.zeros((1, 40, 40), np.int32)
    label[:, 10:30, 10:30] = 1
    valid = np.ones(label.shape, bool)
    right = border_scores.border_scores(counted(label, label, valid, 2)[0], (0, 1))
    for values in (right.iou, right.f1, right.trimap):
        np.testing.assert_array_equal(values, 1.0)
    shifted = border_scores.border_scores(counted(np.roll(label, 2, 2), label, valid, 2)[0], (1,))
    assert shifted.f1[0, 1] < 0.6 and shifted.f1[1, 1] == shifted.f1[2, 1] == 1.0
    # Band of 1: 76 pixels each; two rows of 18 (20 less the shift) and nothing of the columns lie in both.
    assert shifted.iou[0, 1] == pytest.approx(36 / (76 + 76 - 36))


def test_neither_ignored_pixels_nor_the_edge_make_a_border():
    label = np.ones((1, 20, 20), np.int32)
    label[:, 8:12] = 255
    counts = np.asarray(counted(np.ones_like(label), label, label != 255, 2)[0])
    assert not counts.any()
    scores = border_scores.border_scores(counts, (0, 1))
    assert np.isnan(scores.f1).all() and np.isnan(scores.mean_iou).all()
    np.testing.assert_array_equal(border_scores.border_scores(counts, (0, 1), "zero").mean_f1, 0.0)


def test_parts_that_see_their_surroundings_add_up_to_the_whole():
    """What patches that overlap by twice the reach count of their own pixels is what the scene counts."""
    label, prediction = blobs(0, (60, 50), 4), blobs(3, (60, 50), 4)
    valid = blobs(2, (60, 50), 5) > 0
    whole = np.asarray(counted(prediction[None], label[None], valid[None], 4)[0], np.int64)
    reach, total = border_scores.REACH, 0
    for top, first, end in ((0, 0, 30), (30 - reach, reach, 30 + reach)):
        part = [x[None, top : top + 30 + reach] for x in (prediction, label, valid)]
        own = np.zeros(part[0].shape, bool)
        own[:, first:end] = True
        total = total + np.asarray(counted(*part, 4, own)[0], np.int64)
    np.testing.assert_array_equal(total, whole)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.3])
def test_squared_distance_equals_scipys(density):
    targets = np.random.default_rng(0).random((2, 17, 29)) < density
    ours = np.asarray(jax.jit(borders.squared_distance)(jnp.asarray(targets)))
    for target, mine in zip(targets, ours, strict=True):
        if target.any():
            np.testing.assert_array_equal(mine, np.rint(ndimage.distance_transform_edt(~target) ** 2))
        else:
            assert (mine == 2**30).all()


def test_a_map_counted_in_tiles_is_the_map_counted_whole(monkeypatch):
    monkeypatch.setattr(scene_borders, "TILE", 64)
    label, prediction = blobs(0, (150, 90), 4), blobs(3, (150, 90), 4)
    valid, own = blobs(2, (150, 90), 5) > 0, np.zeros((150, 90), bool)
    own[10:130, 5:80] = True
    whole = counted(prediction[None], label[None], valid[None], 4, own[None])[0]
    tiled = scene_borders.map_border_counts(prediction.astype(np.uint8), label, valid, 4, (10, 130, 5, 80))
    np.testing.assert_array_equal(tiled, whole)
