"""A learned 1 x 1 convolution from n bands to the m that a backbone was pre-trained for: the baseline without a new stem.

After LC-Net (Remote Sensing 14(11) 2673, 2022): a learned linear map n -> 3 before an RGB network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class Projection(nnx.Module):
    """Image [b h w bands] -> float32 [b h w outputs].

    It starts as a sharing out: band i goes to output i mod `outputs`, each output being the mean of its bands, so that the
    first three of R, G, B and a further band start as nearly themselves. Bias 0.
    """

    def __init__(self, bands: int, outputs: int, *, rngs: nnx.Rngs):
        def shared_out(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            mine = (jnp.arange(bands)[:, None] % outputs == jnp.arange(outputs)).astype(dtype)
            return mine / jnp.maximum(mine.sum(0), 1)

        self.linear = nnx.Linear(bands, outputs, kernel_init=shared_out, dtype=jnp.float32, rngs=rngs)

    @jax.named_scope("projection")
    def __call__(self, image: jax.Array) -> jax.Array:
        return self.linear(image.astype(jnp.float32))
