"""Losses over regions of an image: Dice and Lovasz-softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def shares(logits: jax.Array, label: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(softmax, one-hot truth) float32 [b, h, w, k], both 0 at pixels that are not valid, and valid pixels [b]."""
    inside = valid[..., None]
    p = jnp.where(inside, jax.nn.softmax(logits.astype(jnp.float32)), 0.0)
    truth = jax.nn.one_hot(jnp.where(valid, label, -1), logits.shape[-1], dtype=jnp.float32)
    return p, truth, jnp.sum(valid, axis=(1, 2)).astype(jnp.float32)


def mean_over_present(losses: jax.Array, present: jax.Array) -> jax.Array:
    """[b, k], bool [b, k] -> [b]; 0 for an image without any."""
    total = jnp.sum(jnp.where(present, losses, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(present, axis=-1), 1)


@jax.named_scope("loss")
def dice_sum(logits: jax.Array, label: jax.Array, valid: jax.Array, *, smooth: float, exponent: float) -> jax.Array:
    """1 - (2 sum p t + smooth) / (sum p^exponent + sum t + smooth), mean over all classes, of each image, times its valid
    pixels. Milletari et al. 2016, arXiv 1606.04797, in mmsegmentation's form (smooth 1, exponent 2).

    A class that an image lacks pushes its probabilities down, as there.
    """
    p, truth, pixels = shares(logits, label, valid)
    both, predicted, true = (jnp.sum(x, axis=(1, 2)) for x in (p * truth, p**exponent, truth))
    losses = 1 - (2 * both + smooth) / (predicted + true + smooth)
    return jnp.sum(jnp.mean(losses, axis=-1) * pixels)


@jax.named_scope("loss")
def lovasz_sum(logits: jax.Array, label: jax.Array, valid: jax.Array) -> jax.Array:
    """Lovasz-softmax of each image over the classes that it holds, times its valid pixels. Berman et al. 2018, arXiv
    1705.08790, with their per_image=True and classes="present".

    One sort of an image's errors a class, and one back: the weights are constants of the gradient, so that nothing else
    goes through a sort.
    """
    p, truth, pixels = shares(logits, label, valid)
    b, k = p.shape[0], p.shape[-1]
    errors = jnp.moveaxis(jnp.abs(truth - p), -1, 0).reshape(k, b, -1)
    inside = jnp.moveaxis(truth, -1, 0).reshape(k, b, -1) > 0
    flat_valid = valid.reshape(b, -1)
    weights = jax.lax.map(lambda c: _lovasz_weights(*c, flat_valid), (jax.lax.stop_gradient(errors), inside))
    losses = jnp.sum(errors * weights, axis=-1).T  # [b, k]
    return jnp.sum(mean_over_present(losses, jnp.any(inside, axis=-1).T) * pixels)


def _lovasz_weights(errors: jax.Array, inside: jax.Array, valid: jax.Array) -> jax.Array:
    """Of one class, [b, n] each: the slope of the Jaccard loss's Lovasz extension at each error."""
    place = jnp.broadcast_to(jnp.arange(errors.shape[1], dtype=jnp.int32), errors.shape)
    key = jnp.where(valid, -errors, 1.0)  # largest error first, what is not valid last
    _, packed = jax.lax.sort((key, 2 * place + inside), dimension=1, num_keys=1)
    hit, place = packed % 2, packed // 2
    true = jnp.sum(inside, axis=1, keepdims=True)
    found = jnp.cumsum(hit, axis=1)
    left, union = true - found, true + jnp.cumsum(1 - hit, axis=1)
    # Differences of 1 - left / union from one pixel to the next, without the cancellation of subtracting them.
    union_float = union.astype(jnp.float32)
    slope = jnp.where(hit == 1, 1 / union_float, left / (union_float * jnp.maximum(union_float - 1, 1)))
    _, back = jax.lax.sort((place, slope), dimension=1, num_keys=1)
    return jnp.where(valid, back, 0.0)
