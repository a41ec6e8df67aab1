"""Channel Shuffling Pre-training (CSP): repeat the source channels up to n, then put them in random order, per image.

Source: Fang et al. 2026, arXiv 2604.27704. For m source channels (RGB: m = 3) and n target channels an image's channel
indices are floor(n/m) whole copies of (0 .. m-1) plus n mod m further ones, in a uniformly random order. What the paper
leaves open is an argument:

* `fill`: where the n mod m further channels come from. "random": distinct channels drawn per image; "cyclic": the
  first ones (R, then G), as a plain tiling does.
* `per`: "image" draws an order for every image, "batch" one for the whole batch.

One backbone for several channel counts (not in the paper) has a stem for the largest, n_max. Each image draws its n;
the places from n on are unused (index -1, zeros), and the others are scaled by sqrt(n_max / n): weights that are
independent over channels then give the stem's response the same variance for every n.

Indices become a one-hot [b, m, n] contraction, which runs on the accelerator, costs no host time and, being elementwise
in the batch, needs no collective when the batch is sharded.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def draw_mixed_orders(
    key: jax.Array, batch: int, source: int, counts: Sequence[int], *, fill: str, per: str
) -> jax.Array:
    """Random orders of one of several lengths: int32 [batch, max(counts)], -1 in the places that are not used.

    With per="image" each pair of neighbours (0 and 1, 2 and 3, ...) draws its n uniformly from `counts`, since these are
    the images that mixup and CutMix blend, and each image its own order of that length. per="batch": one for all.
    """
    widest = max(counts)
    count_key, order_key = jax.random.split(key)
    orders = jnp.stack(
        [
            pad_order(draw_orders(jax.random.fold_in(order_key, n), batch, source, n, fill=fill, per=per), widest)
            for n in counts
        ]
    )
    pairs = jnp.zeros(batch, jnp.int32) if per == "batch" else jnp.arange(batch) // 2
    drawn = jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(count_key, i), (), 0, len(counts)))(pairs)
    chosen = jax.nn.one_hot(drawn, len(counts), axis=0, dtype=jnp.int32)
    return jnp.einsum("kb,kbn->bn", chosen, orders)


def pad_order(order: jax.Array, width: int) -> jax.Array:
    """int32 [..., n] -> [..., width], the further places unused (-1)."""
    pad = jnp.full((*order.shape[:-1], width - order.shape[-1]), -1, jnp.int32)
    return jnp.concatenate([order, pad], axis=-1)


def channel_weight(order: jax.Array) -> jax.Array:
    """What each channel is multiplied by: int32 [..., n_max] -> float32; 0 if unused, else sqrt(n_max / n)."""
    used = order >= 0
    n = used.sum(-1, keepdims=True)
    return jnp.where(used, jnp.sqrt(order.shape[-1] / n), 0.0)


def apply_order(image: jax.Array, order: jax.Array) -> jax.Array:
    """Takes source channels by index: float [b, h, w, m] and int32 [n] or [b, n] -> float [b, h, w, n], bit-exactly.

    Index -1 gives a channel of zeros.
    """
    order = jnp.broadcast_to(order, (image.shape[0], order.shape[-1]))
    one_hot = jax.nn.one_hot(order, image.shape[-1], axis=1, dtype=image.dtype)  # [b, m, n]
    # HIGHEST: a one-hot product must copy float32 pixels, not round them to bfloat16 as TPU matmuls do by default.
    return jnp.einsum("bhwm,bmn->bhwn", image, one_hot, precision=jax.lax.Precision.HIGHEST)


@jax.named_scope("csp")
def shuffle(image: jax.Array, key: jax.Array, channels: int, *, fill: str = "random", per: str = "image") -> jax.Array:
    """The method: float [b, h, w, m] -> float [b, h, w, channels], a fresh order per image (or per batch)."""
    order = draw_orders(key, image.shape[0], image.shape[-1], channels, fill=fill, per=per)
    return apply_order(image, order)
