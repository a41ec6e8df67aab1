"""Channel Shuffling Pre-training (CSP): repeat the source channels up to n, then put them in random order, per image.

Source: Fang et al. 2026, arXiv 2604.27704. For m source channels (RGB: m = 3) and n target channels an image's channel
indices are floor(n/m) whole copies of (0 .. m-1) plus n mod m further ones, in a uniformly random order. What the paper
leaves open is an argument:

* `fill`: where the n mod m further channels come from. "random": distinct channels drawn per image; "cyclic": the
  first ones (R, then G), as a plain tiling does.
* `per`: "image" draws an order for every image, "batch" one for the whole batch.

Indices become a one-hot [b, m, n] contraction, which runs on the accelerator, costs no host time and, being elementwise
in the batch, needs no collective when the batch is sharded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

FILLS = ("random", "cyclic")
PERS = ("image", "batch")


def fixed_order(source: int, channels: int) -> jax.Array:
    """The order used for evaluation: the source channels tiled cyclically (R G B R G ...). int32 [channels]."""
    return jnp.arange(channels, dtype=jnp.int32) % source


def reversed_order(source: int, channels: int) -> jax.Array:
    """The fixed order with the source channels reversed (B G R B G ...): the paper's robustness test. int32 [channels]."""
    return source - 1 - fixed_order(source, channels)


def draw_order(key: jax.Array, source: int, channels: int, fill: str) -> jax.Array:
    """One random order: int32 [channels] of source indices in [0, source).

    Each index appears floor(channels/source) or ceil(channels/source) times, and given the multiset of indices all
    their arrangements are equally likely.
    """
    if fill not in FILLS:
        raise ValueError(f"fill is '{fill}'; it must be one of {FILLS}")
    fill_key, order_key = jax.random.split(key)
    whole = jnp.tile(jnp.arange(source, dtype=jnp.int32), channels // source)
    first = jax.random.permutation(fill_key, source) if fill == "random" else jnp.arange(source)
    rest = first[: channels % source].astype(jnp.int32)
    return jax.random.permutation(order_key, jnp.concatenate([whole, rest]))


def draw_orders(key: jax.Array, batch: int, source: int, channels: int, *, fill: str, per: str) -> jax.Array:
    """Random orders for a batch: int32 [batch, channels]; see the module docstring for `fill` and `per`."""
    if per not in PERS:
        raise ValueError(f"per is '{per}'; it must be one of {PERS}")
    if per == "batch":
        return jnp.broadcast_to(draw_order(key, source, channels, fill), (batch, channels))
    # Keys folded from the image's position, not split from one key: each device makes only the keys of its own images.
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))
    return jax.vmap(lambda k: draw_order(k, source, channels, fill))(keys)


def apply_order(image: jax.Array, order: jax.Array) -> jax.Array:
    """Takes source channels by index: float [b, h, w, m] and int32 [n] or [b, n] -> float [b, h, w, n], bit-exactly."""
    order = jnp.broadcast_to(order, (image.shape[0], order.shape[-1]))
    one_hot = jax.nn.one_hot(order, image.shape[-1], axis=1, dtype=image.dtype)  # [b, m, n]
    # HIGHEST: a one-hot product must copy float32 pixels, not round them to bfloat16 as TPU matmuls do by default.
    return jnp.einsum("bhwm,bmn->bhwn", image, one_hot, precision=jax.lax.Precision.HIGHEST)


@jax.named_scope("csp")
def shuffle(image: jax.Array, key: jax.Array, channels: int, *, fill: str = "random", per: str = "image") -> jax.Array:
    """The method: float [b, h, w, m] -> float [b, h, w, channels], a fresh order per image (or per batch)."""
    order = draw_orders(key, image.shape[0], image.shape[-1], channels, fill=fill, per=per)
    return apply_order(image, order)
