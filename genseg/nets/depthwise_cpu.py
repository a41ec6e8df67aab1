"""Depthwise convolution in forms that XLA's CPU backend runs fast; all are exact, and none is a convolution to XLA.

All compute in float32, or wider where x is, with the kernel rounded to x's dtype.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The largest plane of which the Toeplitz form makes gradients, whatever the batch (see `_small`).
TOEPLITZ_PIXELS = 10 * 10

# Products that the loop of `shifted_kernel_gradient` adds up at once: fewer leave each output written too often, more
# make programs that take long to compile.
PRODUCTS = 32
COLUMNS = 64  # wider planes are split there


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise convolution of x [b h w c] with kernel [kh kw 1 c] (odd sizes), stride 1, zero padding, in x's dtype."""
    return shifted_conv(*_widened(x, kernel)).astype(x.dtype)


def gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `conv`'s x, in its dtype, and kernel, float32 or wider, from the gradient of its result [b h w c]."""
    wide_x, wide_kernel = _widened(x, kernel)
    wide = gradient.astype(wide_x.dtype)
    if _small(x):
        towards_x, towards_kernel = jax.vjp(toeplitz_conv, wide_x, wide_kernel)[1](wide)
    else:
        towards_x = shifted_conv(wide, wide_kernel[::-1, ::-1])
        towards_kernel = shifted_kernel_gradient(wide_x, wide, kernel.shape[:2])
    return towards_x.astype(x.dtype), towards_kernel.astype(kernel.dtype)


def _small(x: jax.Array) -> bool:
    """Whether the Toeplitz form has the faster gradients: its matrix is made once, so it must serve enough images. Measured
    on one core with batches of 1 to 128, planes of 1 to 144 pixels. Inside a network it is the slower one without gradients, for
    maps are laid out anew around it: ConvNeXt-T took a quarter longer for 128 images of 64 pixels."""
    batch, pixels = x.shape[0], x.shape[1] * x.shape[2]
    return pixels <= TOEPLITZ_PIXELS and (not isinstance(batch, int) or pixels <= 2 * batch)


def _widened(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return x.astype(wide), kernel.astype(x.dtype).astype(wide)


def toeplitz_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv` as one dense matrix a channel, over the whole plane: (h w)^2 c values are built."""
    rows = _band(x.shape[1], kernel.shape[0]).astype(x.dtype)
    columns = _band(x.shape[2], kernel.shape[1]).astype(x.dtype)
    matrix = jnp.einsum("uik,vjl,uvc->cijkl", rows, columns, kernel[:, :, 0])
    return jnp.einsum("bijc,cijkl->bklc", x, matrix)


def _band(length: int, size: int) -> np.ndarray:
    """[size, length in, length out]: 1 where input i lies under tap u of the kernel that stands on output k."""
    tap, i, k = np.ogrid[:size, :length, :length]
    return (i - k + size // 2 == tap).astype(np.float32)


def shifted_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv` as a sum over taps of the shifted plane times the tap, which XLA fuses into one vectorised loop. It has no
    derivative of its own: `gradients` has.

    That loop is a branch of a conditional whose other one is never taken, which XLA cannot know: a computation of its own, which
    fusions do not cross. Side by side with what reads the result (LayerNorm), XLA would make 49 shifted copies, or sum anew
    in each reader; optimization barriers are gone before it fuses. (A loop that runs once would have its result's memory
    filled before.)
    """
    (h, w), (kh, kw) = x.shape[1:3], kernel.shape[:2]

    def total(padded: jax.Array, kernel: jax.Array) -> jax.Array:
        return _sum(padded[:, u : u + h, v : v + w] * kernel[u, v, 0] for u in range(kh) for v in range(kw))

    bits = lax.bitcast_convert_type(kernel[0, 0, 0, 0], jnp.dtype(f"int{8 * kernel.dtype.itemsize}"))
    return lax.cond(bits | 1 != 0, total, lambda *_: jnp.zeros_like(x), _pad(x, kh, kw), kernel)


def shifted_kernel_gradient(x: jax.Array, gradient: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[kh kw 1 c], (kh, kw) = `size`: the gradient of `conv`'s kernel, from x and the gradient of the result [b h w c].

    Tap (u, v) sums over (b, i, j) what x, padded, holds at (i + u, j + v), times gradient (i, j). A loop over i, a few
    rows at a time, adds all products of those rows to an accumulator [b kh c] for each v: the sums over j are written
    out, for XLA fuses and vectorises them over c as it does not its own reductions.
    """
    (_, h, w, c), (kh, kw) = x.shape, size
    blocks = -(-w // COLUMNS)
    columns = -(-w // blocks)
    step = min(h, max(1, PRODUCTS // columns))
    below, right = -h % step, -w % columns
    padded = _split(_pad(x, kh, kw, below, right), columns, columns + kw - 1)
    gradient = _split(jnp.pad(gradient, ((0, 0), (0, below), (0, right), (0, 0))), columns, columns)
    padded, gradient = lax.optimization_barrier((padded, gradient))

    def add_rows(number: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        here = lax.dynamic_slice_in_dim(gradient, number * step, step, 1)
        under = lax.dynamic_slice_in_dim(padded, number * step, step + kh - 1, 1)
        return tuple(
            total
            + _sum(under[:, i : i + kh, j + v] * here[:, i : i + 1, j] for i in range(step) for j in range(columns))
            for v, total in enumerate(sums)
        )

    sums = lax.fori_loop(0, (h + below) // step, add_rows, (jnp.zeros((len(padded), kh, c), x.dtype),) * kw)
    return jnp.stack([total.sum(0) for total in sums], 1)[:, :, None]


def _pad(x: jax.Array, kh: int, kw: int, below: int = 0, right: int = 0) -> jax.Array:
    return jnp.pad(x, ((0, 0), (kh // 2, kh // 2 + below), (kw // 2, kw // 2 + right), (0, 0)))


def _split(x: jax.Array, step: int, length: int) -> jax.Array:
    """x [b h w c] in blocks of `length` columns, one every `step`, side by side in the batch: [blocks*b h length c]."""
    starts = range(0, x.shape[2] - length + 1, step)
    return x if len(starts) == 1 else jnp.concatenate([x[:, :, s : s + length] for s in starts])


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    """The sum in four chains: one would have each addition wait for the last."""
    terms = list(terms)
    return functools.reduce(
        operator.add, [functools.reduce(operator.add, terms[i::4]) for i in range(min(4, len(terms)))]
    )
