"""Losses on outlines: a differentiable boundary F1, and the active boundary loss."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from genseg import borders
from genseg.losses.cross_entropy import kth_largest
from genseg.losses.regions import mean_over_present, shares

# The eight neighbours of a pixel and, last, the pixel itself: the order in which ties are broken.
NEIGHBOURS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1), (0, 0))


def _largest(x: jax.Array, side: int) -> jax.Array:
    """Maximum over side x side (odd) around each pixel of [b, h, w, k], none negative; 0 beyond the edge.

    Shifts along one axis, then the other: its gradient is dense, where a max-pool's is a scatter.
    """
    for axis in (1, 2):
        sides = [(0, 0)] * x.ndim
        sides[axis] = (side // 2, side // 2)
        wide, length = jnp.pad(x, sides), x.shape[axis]
        x = functools.reduce(jnp.maximum, (jax.lax.slice_in_dim(wide, k, k + length, axis=axis) for k in range(side)))
    return x


@jax.named_scope("loss")
def boundary_f1_sum(logits: jax.Array, label: jax.Array, valid: jax.Array, *, width: int, tolerance: int) -> jax.Array:
    """1 - F1 of soft outlines, mean over the classes that have one in the truth, of each image, times its valid pixels.

    An outline is maxpool_width(1 - x) - (1 - x), of the truth and of the softmax; outlines match within
    maxpool_tolerance. Bokhovkin and Burnaev 2019, arXiv 1905.07852 (width 3, tolerance 5). There all classes are
    averaged; a class without an outline in the truth would add a constant. Width and tolerance are odd, in pixels.
    """
    p, truth, pixels = shares(logits, label, valid)
    inside = valid[..., None]

    def outline(x: jax.Array) -> jax.Array:
        # An invalid pixel is no "outside" of its neighbours, and has no outline.
        outside = jnp.where(inside, 1 - x, 0.0)
        return jnp.where(inside, _largest(outside, width) - outside, 0.0)

    true, predicted = outline(truth), outline(p)

    def share(part: jax.Array, reach: jax.Array) -> jax.Array:
        return jnp.sum(part * _largest(reach, tolerance), axis=(1, 2)) / (jnp.sum(part, axis=(1, 2)) + 1e-7)

    precision, recall = share(predicted, true), share(true, predicted)
    losses = 1 - 2 * precision * recall / (precision + recall + 1e-7)
    return jnp.sum(mean_over_present(losses, jnp.any(true > 0, axis=(1, 2))) * pixels)


@jax.named_scope("loss")
def active_boundary_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, share: float, smoothing: float, reach: float
) -> jax.Array:
    """Pushes predicted outlines towards true ones: mean over an image's predicted outline, times its valid pixels.

    The predicted outline is the `share` of pixels whose class distributions differ most from their right and lower
    neighbours', dilated by 3 x 3. Each of its pixels should differ most from the neighbour that is nearest to the truth's
    outline: cross-entropy (with `smoothing`) over the KL divergences to its eight neighbours, weighted by its own
    distance to that outline, min(distance, reach) / reach. Neighbours' distributions are constants of the gradient.
    Wang et al. 2022 (AAAI, arXiv 2102.02696) and their code (0.01, 0.2, 20 px), with a threshold from each image instead
    of the device's batch. Their ignored pixels attract outlines; here they neither attract nor are outlines. The
    distance transform is exact and on the device (`borders.squared_distance`).
    """
    logits = jnp.asarray(logits, jnp.float32)
    still = jax.lax.stop_gradient(logits)
    h, w = label.shape[1:]
    pixels = jnp.sum(valid, axis=(1, 2))
    outline = _true_outline(label, valid)
    distance = jnp.sqrt(borders.squared_distance(outline).astype(jnp.float32))
    predicted = _predicted_outline(still, valid, share)

    log_p = jax.nn.log_softmax(logits)
    neighbour_p = jax.lax.stop_gradient(log_p)
    divergences, distances = [], []
    near = jnp.pad(distance, ((0, 0), (1, 1), (1, 1)), constant_values=1e5)
    wide = jnp.pad(neighbour_p, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    for dy, dx in NEIGHBOURS:
        distances.append(near[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w])
        if (dy, dx) != (0, 0):
            theirs = wide[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
            divergences.append(jnp.sum(jnp.exp(theirs) * (theirs - log_p), axis=-1))
    goal = jnp.argmin(jnp.stack(distances, -1), axis=-1)
    counted = predicted & (goal != len(NEIGHBOURS) - 1) & jnp.any(outline, axis=(1, 2), keepdims=True)

    log_direction = jax.nn.log_softmax(jnp.stack(divergences, -1))
    target = jax.nn.one_hot(goal, 8) * (1 - smoothing - smoothing / 8) + smoothing / 8
    losses = -jnp.sum(target * log_direction, axis=-1) * jnp.minimum(distance, reach) / reach
    total = jnp.sum(jnp.where(counted, losses, 0.0), axis=(1, 2))
    return jnp.sum(total / jnp.maximum(jnp.sum(counted, axis=(1, 2)), 1) * pixels)


def _lower_and_right(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each pixel's lower and right neighbour, [b, h, w, ...] likewise; beyond the edge it is the pixel itself."""
    return jnp.concatenate([x[:, 1:], x[:, -1:]], axis=1), jnp.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)


def _true_outline(label: jax.Array, valid: jax.Array) -> jax.Array:
    """bool [b, h, w]: valid pixels whose valid lower or right neighbour is of another class."""
    neighbours = zip(_lower_and_right(label), _lower_and_right(valid), strict=True)
    return functools.reduce(jnp.logical_or, (valid & there & (other != label) for other, there in neighbours))


def _predicted_outline(logits: jax.Array, valid: jax.Array, share: float) -> jax.Array:
    """bool [b, h, w]: the `share` of an image's pixels with the largest divergences, and all beside them."""
    log_p = jax.nn.log_softmax(logits)
    steps = sum(jnp.sum(jnp.exp(log_p) * (log_p - other), axis=-1) for other in _lower_and_right(log_p))
    b, h, w = steps.shape
    steps = jnp.where(valid, jnp.maximum(steps, 0.0), 0.0)
    limit = kth_largest(steps.reshape(b, -1), jnp.full(b, min(int(share * h * w) + 1, h * w), jnp.int32))
    sharp = steps > jnp.maximum(limit, 1e-5)[:, None, None]
    return valid & (_largest(sharp[..., None].astype(jnp.float32), 3)[..., 0] > 0)
