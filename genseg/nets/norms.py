"""LayerNorm and BatchNorm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def layer_norm(features: int, epsilon: float, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis, in float32 whatever comes in, scale and bias too; the result is of `dtype`.

    Two passes (not E[x^2] - E[x]^2): features whose mean is far above their spread would lose their digits.
    """
    return nnx.LayerNorm(
        features,
        epsilon=epsilon,
        dtype=dtype,
        promote_dtype=lambda arrays, dtype: arrays,  # flax would round scale and bias to `dtype`, and their gradients
        use_fast_variance=False,
        rngs=rngs,
    )


class BatchNorm(nnx.Module):
    """Batch normalisation of [b h w c] over b, h and w, as torch's BatchNorm2d.

    Running statistics: new = 0.9 old + 0.1 batch (flax's momentum 0.9 is torch's 0.1), with torch's unbiased variance.
    Under `jit` the batch is one global array, so the statistics are those of the whole batch over all devices: what
    other frameworks call synchronised BatchNorm. `nnx.BatchNorm` keeps the biased variance, hence this class.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones((features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros((features,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((features,), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x.astype(jnp.float32)
        if train:
            # Two passes: the pooled maps of pyramid pooling vary little over the batch, where one pass cancels.
            mean = x.mean((0, 1, 2))
            var = jnp.square(x - mean).mean((0, 1, 2))
            n = x.shape[0] * x.shape[1] * x.shape[2]
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * lax.stop_gradient(mean)
            self.var[...] = 0.9 * self.var[...] + 0.1 * lax.stop_gradient(var) * (n / max(n - 1, 1))
        else:
            mean, var = self.mean[...], self.var[...]
        y = (x - mean) * (lax.rsqrt(var + 1e-5) * self.scale[...]) + self.bias[...]
        return y.astype(self.dtype)
