"""Cross-entropy and what re-weights it pixel by pixel: class weights, focal, hard examples, borders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from genseg import borders


def soft_targets(label: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """int [b] -> float32 [b, classes]: smoothing/classes everywhere, 1 - smoothing more on the label (timm's form)."""
    off = smoothing / classes
    return jax.nn.one_hot(label, classes, dtype=jnp.float32) * (1 - smoothing) + off


@jax.named_scope("loss")
def soft_cross_entropy_sum(logits: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
    """Sum over valid examples of -sum_k target_k log p_k; float [b, k], float [b, k], bool [b] -> float32 []."""
    losses = -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
    return jnp.sum(jnp.where(valid, losses, 0.0))


def _cross_entropy(
    logits: jax.Array, label: jax.Array, valid: jax.Array, smoothing: float = 0.0, weights: Sequence[float] = ()
) -> jax.Array:
    """Of each pixel, float32 [b, h, w]; 0 where it is not valid."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    # A one-hot contraction rather than a gather: its gradient is dense, where a gather's is a scatter.
    one_hot = jax.nn.one_hot(jnp.where(valid, label, 0), logits.shape[-1], dtype=jnp.float32)
    if weights:
        one_hot, log_q = one_hot * jnp.float32(weights), log_p * jnp.float32(weights)
    else:
        log_q = log_p
    losses = -(1 - smoothing) * jnp.sum(one_hot * log_p, axis=-1)
    if smoothing:
        losses -= smoothing * jnp.mean(log_q, axis=-1)
    return jnp.where(valid, losses, 0.0)


@jax.named_scope("loss")
def pixel_cross_entropy_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, smoothing: float = 0.0, weights: Sequence[float] = ()
) -> jax.Array:
    """Sum over valid pixels; float [b, h, w, k], int [b, h, w], bool [b, h, w] -> float32 [].

    Labels at invalid pixels may be anything (255, for instance). weights: one a class, or () for none; with smoothing as
    torch.nn.CrossEntropyLoss has it: each class's term carries its own weight. The caller divides by the number of valid
    pixels, as mmsegmentation does, and not by the sum of their weights.
    """
    return jnp.sum(_cross_entropy(logits, label, valid, smoothing, weights))


@jax.named_scope("loss")
def focal_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, gamma: float, weights: Sequence[float] = ()
) -> jax.Array:
    """(1 - p)^gamma times cross-entropy, p the softmax's share of the true class. Lin et al. 2017, arXiv 1708.02002,
    whose sigmoids are a softmax here; weights: their alpha, one a class."""
    log_p = -_cross_entropy(logits, label, valid)
    # Bounded away from 0, where powers below 1 have no slope.
    rest = jnp.maximum(-jnp.expm1(log_p), 1e-7)
    losses = -(rest**gamma) * log_p
    if weights:
        losses *= _own_weight(label, valid, weights)
    return jnp.sum(losses)


def _own_weight(label: jax.Array, valid: jax.Array, weights: Sequence[float]) -> jax.Array:
    one_hot = jax.nn.one_hot(jnp.where(valid, label, 0), len(weights), dtype=jnp.float32)
    return jnp.sum(one_hot * jnp.float32(weights), axis=-1)


@jax.named_scope("loss")
def hard_pixels_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, threshold: float, kept: float
) -> jax.Array:
    """Online hard example mining: the mean cross-entropy of each image's hard pixels, times its valid pixels.

    Hard is a pixel whose true class has a probability below `threshold`, and in any case the share `kept` of an image's
    valid pixels with the largest losses (with all that tie with the last of them). Shrivastava et al. 2016, arXiv
    1604.03540; for pixels BiSeNet (0.7, 1/16) and mmsegmentation's OHEMPixelSampler, which choose over a device's batch.
    """
    losses = _cross_entropy(logits, label, valid)
    flat, valid = losses.reshape(losses.shape[0], -1), valid.reshape(losses.shape[0], -1)
    pixels = jnp.sum(valid, axis=1)
    count = jnp.maximum(jnp.ceil(kept * pixels).astype(jnp.int32), 1)
    still = jax.lax.stop_gradient(flat)
    limit = kth_largest(jnp.where(valid, still, 0.0), count)
    hard = valid & ((still >= limit[:, None]) | (still > -math.log(threshold)))
    means = jnp.sum(jnp.where(hard, flat, 0.0), axis=1) / jnp.maximum(jnp.sum(hard, axis=1), 1)
    return jnp.sum(means * pixels)


def kth_largest(values: jax.Array, k: jax.Array) -> jax.Array:
    """float32 [b, n], none negative, int32 [b] with 1 <= k <= n -> float32 [b]: the k-th largest of each row, exact.

    Bit by bit from the top, as floats that are not negative are ordered as their bits: 31 counts, and no sort.
    """
    bits = jax.lax.bitcast_convert_type(values + 0.0, jnp.int32)  # -0.0 + 0.0 is 0.0

    def refine(i: jax.Array, found: jax.Array) -> jax.Array:
        higher = found | jnp.left_shift(jnp.int32(1), 30 - i)
        enough = jnp.sum(bits >= higher[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, higher, found)

    found = jax.lax.fori_loop(0, 31, refine, jnp.zeros_like(k, jnp.int32))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


@jax.named_scope("loss")
def border_cross_entropy_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, distance: int, factor: float
) -> jax.Array:
    """Cross-entropy in which pixels at most `distance` (Euclidean) from a pixel of another class weigh 1 + factor, others
    1. After U-Net's weight map (Ronneberger et al. 2015, arXiv 1505.04597), with a step for its Gaussian."""
    (near,) = borders.near_other_class(jnp.where(valid, label, 0), valid, logits.shape[-1], (distance,))
    return jnp.sum(_cross_entropy(logits, label, valid) * jnp.where(near, 1.0 + factor, 1.0))
