"""How weights start."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

# The published code draws from a normal distribution cut at +-2, that is at 100 standard deviations: timm's and
# facebookresearch/ConvNeXt's `trunc_normal_(std=.02)`. `jax.nn.initializers.truncated_normal` would cut at 2
# standard deviations and so shrink the spread to 0.0176.
weight_init = nnx.initializers.normal(0.02)

# Variance 1 / fan-in: for networks of our own that must learn in few steps. Published networks keep `weight_init`.
fan_in_init = nnx.initializers.lecun_normal()


def uniform_init(fan_in: int):
    """torch's own initializer of a convolution's weights and bias: uniform within +-1 / sqrt(fan-in)."""
    limit = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
