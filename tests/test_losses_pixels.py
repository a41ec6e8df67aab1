"""Segmentation's losses against float64 NumPy written from their definitions: values, slopes, and every odd image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from genseg import losses
from genseg.losses import cross_entropy, outlines, regions

H, W, K = 9, 11, 4
WEIGHTS = (0.5, 2.0, 1.0, 0.0)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def nll(x, label, valid):
    """Cross-entropy of the valid pixels, [n], and their labels."""
    label = label[valid]
    return -log_softmax(x[valid])[np.arange(len(label)), label], label


def per_image(of_one):
    """An image's loss, times its valid pixels; images without any add nothing."""

    def total(x, label, valid):
        whole = [(one, t, v) for one, t, v in zip(x, label, valid, strict=True) if v.any()]
        return sum(of_one(one, t, v) * v.sum() for one, t, v in whole)

    total.of_one = of_one
    return total


def weighted(x, label, valid):
    weights, smoothing = np.array(WEIGHTS), 0.1
    own, ids = nll(x, label, valid)
    every = -(log_softmax(x[valid]) * weights).mean(-1)
    return ((1 - smoothing) * own * weights[ids] + smoothing * every).sum()


def focal(x, label, valid):
    own, ids = nll(x, label, valid)
    return ((1 - np.exp(-own)) ** 2 * own * np.array(WEIGHTS)[ids]).sum()


@per_image
def hard(x, label, valid):
    own, _ = nll(x, label, valid)
    count = max(int(np.ceil(0.25 * len(own))), 1)
    return own[(own >= np.sort(own)[-count]) | (np.exp(-own) < 0.2)].mean()


def at_borders(x, label, valid):
    total = 0.0
    for one, t, v in zip(x, label, valid, strict=True):
        for r, c in zip(*np.nonzero(v), strict=True):
            rows, columns = np.nonzero(v & (t != t[r, c]))
            near = ((rows - r) ** 2 + (columns - c) ** 2 <= 4).any()
            total -= (4.0 if near else 1.0) * log_softmax(one)[r, c, t[r, c]]
    return total


@per_image
def dice(x, label, valid):
    p, t = np.exp(log_softmax(x[valid])), np.eye(K)[label[valid]]
    return np.mean(1 - (2 * (p * t).sum(0) + 1) / ((p**2).sum(0) + t.sum(0) + 1))


@per_image
def lovasz(x, label, valid):
    p, ids = np.exp(log_softmax(x[valid])), label[valid]
    found = []
    for c in np.unique(ids):
        inside = ids == c
        errors = np.abs(inside - p[:, c])
        order = np.argsort(-errors)
        # The Lovasz extension: the Jaccard loss of the k most wrong pixels being wrong, one after the other.
        jaccard = [
            1 - (inside.sum() - inside[order[:k]].sum()) / (inside.sum() + (~inside[order[:k]]).sum())
            for k in range(len(ids) + 1)
        ]
        found.append((errors[order] * np.diff(jaccard)).sum())
    return np.mean(found)


def pooled(x, side):
    return ndimage.maximum_filter(x, size=(side, side), mode="constant", cval=0)


@per_image
def boundary_f1(x, label, valid):
    p, found = np.exp(log_softmax(x)), []
    for c in range(K):
        t = (label == c) & valid
        true, predicted = ((pooled(o, 3) - o) * valid for o in (np.where(valid, 1.0 - m, 0) for m in (t, p[..., c])))
        if not true.any():
            continue
        precision = (predicted * pooled(true, 5)).sum() / predicted.sum()
        recall = (true * pooled(predicted, 5)).sum() / true.sum()
        found.append(1 - 2 * precision * recall / (precision + recall))
    return np.mean(found) if found else 0.0


SHARE, SMOOTHING, REACH = 0.2, 0.2, 4.0


@per_image
def active(x, label, valid, still=None):
    """As the authors' code: per image, ignored pixels left out."""
    still = x if still is None else still
    q, theirs = log_softmax(x), log_softmax(still)

    def kl(a, b):  # of a from b
        return (np.exp(a) * (a - b)).sum()

    true = np.zeros((H, W), bool)
    steps = np.zeros((H, W))
    for r in range(H):
        for c in range(W):
            for rr, cc in ((r + 1, c), (r, c + 1)):
                if rr < H and cc < W:
                    steps[r, c] += kl(theirs[r, c], theirs[rr, cc])
                    true[r, c] |= valid[r, c] and valid[rr, cc] and label[r, c] != label[rr, cc]
    if not true.any():
        return 0.0
    distance = ndimage.distance_transform_edt(~true)
    steps[~valid] = 0
    limit = np.sort(steps, axis=None)[-int(SHARE * H * W) - 1]
    predicted = ndimage.binary_dilation(steps > limit, np.ones((3, 3))) & valid
    found = []
    for r, c in zip(*np.nonzero(predicted), strict=True):
        far = [
            distance[r + dy, c + dx] if 0 <= r + dy < H and 0 <= c + dx < W else 1e5 for dy, dx in outlines.NEIGHBOURS
        ]
        goal = int(np.argmin(far))
        if goal == 8:
            continue
        clipped = [(min(max(r + dy, 0), H - 1), min(max(c + dx, 0), W - 1)) for dy, dx in outlines.NEIGHBOURS[:8]]
        log_direction = log_softmax(np.array([kl(theirs[place], q[r, c]) for place in clipped]))
        target = np.full(8, SMOOTHING / 8)
        target[goal] = 1 - SMOOTHING
        found.append(-(log_direction * target).sum() * min(distance[r, c], REACH) / REACH)
    return np.mean(found) if found else 0.0


# ours, the reference, and the absolute error of the value beside the relative one
TERMS = {
    "weighted": (lambda *a: losses.pixel_cross_entropy_sum(*a, smoothing=0.1, weights=WEIGHTS), weighted),
    "focal": (lambda *a: cross_entropy.focal_sum(*a, gamma=2.0, weights=WEIGHTS), focal),
    "hard": (lambda *a: cross_entropy.hard_pixels_sum(*a, threshold=0.2, kept=0.25), hard),
    "borders": (lambda *a: cross_entropy.border_cross_entropy_sum(*a, distance=2, factor=3.0), at_borders),
    "dice": (lambda *a: regions.dice_sum(*a, smooth=1.0, exponent=2.0), dice),
    "lovasz": (regions.lovasz_sum, lovasz),
    "boundary_f1": (lambda *a: outlines.boundary_f1_sum(*a, width=3, tolerance=5), boundary_f1),
    "active": (lambda *a: outlines.active_boundary_sum(*a, share=SHARE, smoothing=SMOOTHING, reach=REACH), active),
}
each_term = pytest.mark.parametrize("name", TERMS)
jitted = {name: jax.jit(jax.value_and_grad(ours)) for name, (ours, _) in TERMS.items()}


def images(seed: int = 0):
    """Three images: one with all classes and some pixels ignored, one of one class, one that is all ignored."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, H, W, K)) * 2
    label = np.stack([ndimage.gaussian_filter(rng.normal(size=(H, W)), 1.5) for _ in range(K)]).argmax(0)
    label = np.stack([label, np.full((H, W), 2), label])
    valid = rng.random((3, H, W)) < 0.9
    valid[2] = False
    return logits, np.where(valid, label, 255), valid


@each_term
def test_value_and_slope(name):
    logits, label, valid = images()
    value, slope = jitted[name](jnp.float32(logits), label, valid)
    reference = TERMS[name][1]
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(logits, label, valid), rtol=2e-5)
    # A slope in a random direction, from the reference alone: no point of a kink lies within so small a step.
    direction = np.random.default_rng(1).normal(size=logits.shape)
    step = 1e-6
    if name == "active":  # neighbours' distributions and outlines do not move with the slope
        ends = [
            sum(
                active.of_one(x, t, v, s) * v.sum()
                for x, t, v, s in zip(at, label, valid, logits, strict=True)
                if v.any()
            )
            for at in (logits + step * direction, logits - step * direction)
        ]
    else:
        ends = [reference(logits + sign * step * direction, label, valid) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(np.sum(np.float64(slope) * direction), expected, rtol=2e-3)
    assert not np.asarray(slope)[~valid].any()


@each_term
def test_the_sum_does_not_depend_on_who_shares_the_batch(name):
    """Image by image it is the same: no layout of devices or microbatches changes a global batch's loss."""
    logits, label, valid = images(1)
    whole, slope = jitted[name](jnp.float32(logits), label, valid)
    alone = [jitted[name](jnp.float32(logits[i : i + 1]), label[i : i + 1], valid[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(whole, sum(float(v) for v, _ in alone), rtol=1e-6)
    np.testing.assert_allclose(slope, np.concatenate([s for _, s in alone]), rtol=1e-5, atol=1e-7)


@each_term
def test_all_ignored_adds_nothing_and_bfloat16_is_summed_in_float32(name):
    logits, label, _ = images()
    value, slope = jitted[name](jnp.float32(logits), label, np.zeros(label.shape, bool))
    assert value == 0 and not np.asarray(slope).any()
    rounded = jnp.bfloat16(logits)
    low, slope = jitted[name](rounded, *images()[1:])
    assert low.dtype == jnp.float32 and slope.dtype == jnp.bfloat16
    np.testing.assert_allclose(low, TERMS[name][1](np.float64(rounded), *images()[1:]), rtol=1e-4)


@each_term
def test_confident_logits_stay_finite(name):
    _, label, valid = images()
    for sign in (1, -1):
        sure = sign * 200.0 * np.eye(K)[np.where(valid, label, 0)]
        value, slope = jitted[name](jnp.float32(sure), label, valid)
        assert np.isfinite(value) and np.isfinite(slope).all()
        if sign > 0 and name not in ("weighted", "dice", "active"):  # smoothing, distances: not 0 at the truth
            assert value < 1e-2 * valid.sum()


def test_the_kth_largest_is_exact():
    rng = np.random.default_rng(0)
    values = np.float32(rng.exponential(size=(4, 200)))
    values[1] = np.repeat(values[1, :20], 10)
    values[2] = 0.0
    values[3, :5] = -0.0
    k = np.int32([1, 37, 50, 200])
    expected = [np.sort(row)[-n] for row, n in zip(values, k, strict=True)]
    np.testing.assert_array_equal(jax.jit(cross_entropy.kth_largest)(values, k), np.float32(expected))
