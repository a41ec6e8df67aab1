"""Losses over valid elements. All return a SUM; the caller divides by the count over the *global* batch.

Dividing by a per-device or per-microbatch count would weight pixels by where they happened to lie.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def soft_targets(label: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """int [b] -> float32 [b, classes]: smoothing/classes everywhere, 1 - smoothing more on the label (timm's form)."""
    off = smoothing / classes
    return jax.nn.one_hot(label, classes, dtype=jnp.float32) * (1 - smoothing) + off


@jax.named_scope("loss")
def soft_cross_entropy_sum(logits: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
    """Sum over valid examples of -sum_k target_k log p_k; float [b, k], float [b, k], bool [b] -> float32 []."""
    losses = -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
    return jnp.sum(jnp.where(valid, losses, 0.0))


@jax.named_scope("loss")
def pixel_cross_entropy_sum(
    logits: jax.Array, label: jax.Array, valid: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    """Sum over valid pixels; float [b, h, w, k], int [b, h, w], bool [b, h, w] -> float32 [].

    Labels at invalid pixels may be anything (255, for instance).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    # A one-hot contraction rather than a gather: its gradient is dense, where a gather's is a scatter.
    one_hot = jax.nn.one_hot(jnp.where(valid, label, 0), logits.shape[-1], dtype=jnp.float32)
    losses = -(1 - smoothing) * jnp.sum(one_hot * log_p, axis=-1)
    if smoothing:
        losses -= smoothing * jnp.mean(log_p, axis=-1)
    return jnp.sum(jnp.where(valid, losses, 0.0))
