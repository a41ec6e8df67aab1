"""Layers that are random in training."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def drop_path(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Stochastic depth: zeroes each sample's branch x [b ...] with probability `rate` and scales the kept ones by 1/(1 - rate).

    With `key=None` (evaluation) or rate 0 it returns x.
    """
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def channel_dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """torch's Dropout2d: zeroes whole channels of x [b h w c], drawn for each sample. With `key=None` it returns x."""
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0], 1, 1, x.shape[3]))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def require_key(train: bool, key: jax.Array | None, *rates: float) -> jax.Array | None:
    """The key that random layers see: None unless training.

    Raises ValueError when training with random layers and no key.
    """
    if train and key is None and any(rates):
        raise ValueError("train=True with drop path or dropout needs a random key; pass key=jax.random.key(...)")
    return key if train else None
