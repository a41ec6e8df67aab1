"""Attention inside windows with the queries in the last axis: the form that the TPU compiler gives the fewest cycles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@jax.custom_vjp
def columns(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over m of (k[:, m] . q[:, n] + bias[m, n] + mask[m, n]), times v[:, m]: [b w h d n], in v's dtype.

    q, k, v [b w h d n]: images, windows, heads, features of a head, pixels of a window; bias float32 [h m n]; mask
    float32 [w m n] or None, a constant. Scores, sums and softmax are float32, or wider where q is.

    Features and keys lie in the second axis from the end, queries in the last, which a TPU puts in its lanes: heads are
    split and joined without moving anything. A row of ones below v makes the matrix unit add up the softmax's
    denominator, by which the result is divided instead of the scores. The gradient takes sum_m p dp from the result and
    its gradient (Dao et al. 2022, arXiv 2205.14135, section B.2), so that no pass over the scores is for a sum alone.
    """
    return _forward(q, k, v, bias, mask)[0]


def _product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=_wide(a))


def _wide(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _forward(q, k, v, bias, mask):
    scores = _product("bwhdm,bwhdn->bwhmn", k, q) + bias
    scores = scores if mask is None else scores + mask[:, None]
    powers = jnp.exp(scores - scores.max(-2, keepdims=True)).astype(v.dtype)
    sums = _product("bwhdm,bwhmn->bwhdn", jnp.concatenate([v, jnp.ones_like(v[..., :1, :])], -2), powers)
    sums, total = sums[..., :-1, :], sums[..., -1:, :]
    y = (sums / total).astype(v.dtype)
    return y, (q, k, v, mask, powers, total, y)


def _backward(residuals, gradient: jax.Array):
    q, k, v, mask, powers, total, y = residuals
    gradient = (gradient / total).astype(v.dtype)
    towards_v = _product("bwhdn,bwhmn->bwhdm", gradient, powers)
    mean = (gradient.astype(_wide(y)) * y).sum(-2, keepdims=True)
    wide = powers * (_product("bwhdm,bwhdn->bwhmn", v, gradient) - mean)
    towards_scores = wide.astype(v.dtype)
    towards_q = _product("bwhdm,bwhmn->bwhdn", k, towards_scores)
    towards_k = _product("bwhdn,bwhmn->bwhdm", q, towards_scores)
    no_mask = None if mask is None else jnp.zeros_like(mask)
    return *(x.astype(v.dtype) for x in (towards_q, towards_k, towards_v)), wide.sum((0, 1)), no_mask


columns.defvjp(_forward, _backward)


def roll(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """jnp.roll of x [b h w c] by `rows` and `columns`, as the sum of its four pieces padded with zeros, which the TPU
    compiler fuses into one operation each way, where it copies the slices that are put together one by one."""

    def pieces(shift: int, length: int) -> list[tuple[int, int, int]]:
        shift %= length
        return [(shift, -shift, 0), (shift - length, length - shift, 0)] if shift else [(0, 0, 0)]

    zero, whole = np.zeros((), x.dtype), (0, 0, 0)
    total = None
    for vertical in pieces(rows, x.shape[1]):
        for horizontal in pieces(columns, x.shape[2]):
            piece = lax.pad(x, zero, (whole, vertical, horizontal, whole))
            total = piece if total is None else total + piece
    return total
