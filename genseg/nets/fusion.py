"""A convolution over maps of several sizes that are brought to one."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from genseg.nets import resizing
from genseg.nets.products import conv, matmul

FORMS = ("resized", "coarse")


def conv_of_resized(maps: Sequence[jax.Array], kernel: jax.Array, height: int, width: int, form: str) -> jax.Array:
    """Convolution (stride 1, zero padding) of maps [b h_i w_i c_i], each resized to height x width (`resizing.resize`) and then
    concatenated, with kernel float32 [kh kw sum(c_i) outputs] of odd sizes: [b height width outputs] in the maps' dtype.

    form: "resized" does just that. "coarse" does the same, up to rounding, with fewer operations: resizing treats channels
    alike and a tap of the kernel pixels alike, so that the products with the taps can be made at the map's own size, and the
    results be resized, shifted and added up. A map of half the side then takes a quarter of the products; an UperNet head's
    last convolution a third of them, all its maps together. Its sizes have to be known, which in an export they may not be.
    """
    coarse = [form == "coarse" and x.shape[1] * x.shape[2] < height * width for x in maps]
    starts = [sum(x.shape[3] for x in maps[:i]) for i in range(len(maps))]
    kernels = [kernel[:, :, start : start + x.shape[3]] for start, x in zip(starts, maps, strict=True)]
    whole = [resizing.resize(x, height, width) for x, apart in zip(maps, coarse, strict=True) if not apart]
    used = [k for k, apart in zip(kernels, coarse, strict=True) if not apart]
    parts = []
    if whole:
        padding = tuple((k // 2, k // 2) for k in kernel.shape[:2])
        parts.append(conv(jnp.concatenate(whole, -1), jnp.concatenate(used, 2), 1, padding))
    parts += [_coarse(x, k, height, width) for x, k, apart in zip(maps, kernels, coarse, strict=True) if apart]
    wide = jnp.promote_types(maps[0].dtype, jnp.float32)
    return sum(part.astype(wide) for part in parts).astype(maps[0].dtype)


def _coarse(x: jax.Array, kernel: jax.Array, height: int, width: int) -> jax.Array:
    """One map's part of `conv_of_resized`, float32 or wider."""
    (b, h, w, inputs), (kh, kw, _, outputs) = x.shape, kernel.shape
    taps = [matmul(x, row.transpose(1, 0, 2).reshape(inputs, kw * outputs)) for row in kernel]
    tall = _summed(jnp.stack(taps, 2).reshape(b, h, kh, w * kw * outputs), height).astype(x.dtype)
    return _summed(tall.reshape(b * height, w, kw, outputs), width).reshape(b, height, width, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _summed(x: jax.Array, size: int) -> jax.Array:
    """Lines of x [n length taps z], each resized to `size`, shifted by its tap and added up: [n size z], float32 or wider; entry i
    takes i + u - taps // 2 of tap u, and nothing beyond the ends, as a convolution's padding.

    A product with a small matrix, which accelerators are made for; on a CPU, where two terms a tap are cheaper than rows of
    zeros, sums. The gradient is a product everywhere.
    """
    return lax.platform_dependent(
        x, cpu=functools.partial(_by_sums, size=size), default=functools.partial(_by_product, size=size)
    )


def _backward(size: int, like: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    matrix = _matrix(like.shape[1], size, like.shape[2], gradient.dtype).astype(like.dtype)
    back = jnp.einsum("slu,nsz->nluz", matrix, gradient.astype(like.dtype), precision=lax.Precision.HIGHEST)
    return (back.astype(like.dtype),)


_summed.defvjp(lambda x, size: (_summed(x, size), jnp.empty((0, *x.shape[1:]), x.dtype)), _backward)


def _by_product(x: jax.Array, size: int) -> jax.Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    matrix = _matrix(x.shape[1], size, x.shape[2], wide).astype(x.dtype)
    return jnp.einsum("slu,nluz->nsz", matrix, x, precision=lax.Precision.HIGHEST, preferred_element_type=wide)


def _by_sums(x: jax.Array, size: int) -> jax.Array:
    length, taps = x.shape[1:3]
    parts = []
    for tap in range(taps):
        place, inside = _places(size, length, taps, tap, jnp.promote_types(x.dtype, jnp.float32))
        low = jnp.floor(place).astype(int)
        high = (place - low)[:, None]
        pair = (1 - high) * x[:, low, tap] + high * x[:, jnp.minimum(low + 1, length - 1), tap]
        parts.append(jnp.where(inside[:, None], pair, 0))
    return sum(parts)


def _matrix(length: int, size: int, taps: int, dtype: jnp.dtype) -> jax.Array:
    """[size length taps]: what `_summed` takes of each value."""
    shares = []
    for tap in range(taps):
        place, inside = _places(size, length, taps, tap, dtype)
        share = jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(length)))
        shares.append(jnp.where(inside[:, None], share, 0))
    return jnp.stack(shares, 2)


def _places(size: int, length: int, taps: int, tap: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Of entry i + tap - taps // 2 of a resized line, for each i: (where it lies on the line of `length` values, [size] in 0 ..
    length - 1; whether it is there at all)."""
    entry = jnp.arange(size) + tap - taps // 2
    place = jnp.clip((entry + 0.5) * (length / size) - 0.5, 0, length - 1).astype(dtype)
    return place, (entry >= 0) & (entry < size)
