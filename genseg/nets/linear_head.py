"""A head without hidden layers, to ask what a backbone's maps hold: a linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from genseg.nets import drop, resizing


class LinearHead(nnx.Module):
    """Maps of strides 4, 8, 16, 32 -> logits at stride 4: a 1x1 convolution over all of them, resized to the first.

    Each map goes through its own share of the convolution before it is resized, which is the same and cheaper. float32,
    weights normal(0.01) as in the other heads; dropout of whole channels.
    """

    def __init__(self, dims: Sequence[int], classes: int, dropout: float, *, rngs: nnx.Rngs):
        self.linears = nnx.List(
            [
                nnx.Linear(
                    features, classes, use_bias=not number, kernel_init=nnx.initializers.normal(0.01), dtype=jnp.float32,
                    rngs=rngs,
                )
                for number, features in enumerate(dims)
            ]
        )  # fmt: skip
        self.dropout = dropout

    @jax.named_scope("head")
    def __call__(self, maps: Sequence[jax.Array], *, train: bool, key: jax.Array | None) -> jax.Array:
        height, width = maps[0].shape[1:3]
        keys = [None] * len(maps) if key is None else jax.random.split(key, len(maps))
        parts = [
            linear(drop.channel_dropout(x, self.dropout, k).astype(jnp.float32))
            for linear, x, k in zip(self.linears, maps, keys, strict=True)
        ]
        return sum((resizing.resize(part, height, width) for part in parts[1:]), parts[0])
