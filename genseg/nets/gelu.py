"""The exact GELU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(x * np.asarray(0.5**0.5, x.dtype)))


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU x Phi(x), in float32 or wider inside whatever comes in, as torch's.

    `jax.nn.gelu` goes through erfc, which costs more than erf: in time on a CPU, in the TPU compiler's cycles. Of the
    forward pass only x is kept, in its own dtype.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    x = lax.optimization_barrier(x)  # else XLA keeps the forward pass's erf, as large as x, for this one
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    density = jnp.exp(-0.5 * jnp.square(wide)) * np.asarray((2 * np.pi) ** -0.5, wide.dtype)
    return ((gradient * (_normal_cdf(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)
