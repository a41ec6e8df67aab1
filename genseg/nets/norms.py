"""LayerNorm and BatchNorm."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


class LayerNorm(nnx.LayerNorm):
    """flax's parameters; see `normalized`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return normalized(x, self.scale[...], self.bias[...], self.epsilon, self.dtype)


def layer_norm(features: int, epsilon: float, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> LayerNorm:
    """LayerNorm over the last axis, in float32 whatever comes in, scale and bias too; the result is of `dtype`."""
    return LayerNorm(features, epsilon=epsilon, dtype=dtype, rngs=rngs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalized(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis of x [... c], made in float32 (or x's dtype,
    where that is wider) and rounded to `dtype`; scale, bias float32 [c].

    Two passes (not E[x^2] - E[x]^2): features whose mean is far above their spread would lose their digits. The gradient
    is the closed form (Ba et al. 2016, arXiv 1607.06450): JAX's own goes back through mean and variance one by one, with sums
    over the features that cancel.
    """
    return _normalized_forward(x, scale, bias, epsilon, dtype)[0]


def _normalized_forward(x, scale, bias, epsilon, dtype):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(-1, keepdims=True)
    inverse = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
    return ((wide - mean) * (inverse * scale) + bias).astype(dtype), (x, mean, inverse, scale)


def _normalized_backward(epsilon, dtype, residuals, gradient: jax.Array):
    x, mean, inverse, scale = residuals
    standard, gradient = (x.astype(mean.dtype) - mean) * inverse, gradient.astype(mean.dtype)
    inner, leading = gradient * scale, tuple(range(x.ndim - 1))
    inner -= inner.mean(-1, keepdims=True) + standard * (inner * standard).mean(-1, keepdims=True)
    towards_scale, towards_bias = (gradient * standard).sum(leading), gradient.sum(leading)
    return (inverse * inner).astype(x.dtype), towards_scale.astype(scale.dtype), towards_bias.astype(scale.dtype)


normalized.defvjp(_normalized_forward, _normalized_backward)


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
