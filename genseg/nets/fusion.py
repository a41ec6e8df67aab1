"""A convolution over maps of several sizes that are brought to one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from genseg.nets import resizing
from genseg.nets.products import conv, matmul

FORMS = ("resized", "coarse")


def form(wanted: str) -> str:
    """The form that config.model.fusion means: "auto" is "coarse"."""
    return "coarse" if wanted == "auto" else wanted


def conv_of_resized(maps: Sequence[jax.Array], kernel: jax.Array, height: int, width: int, form: str) -> jax.Array:
    """Convolution (stride 1, zero padding) of maps [b h_i w_i c_i], each resized to height x width (`resizing.resize`) and then
    concatenated, with kernel float32 [kh kw sum(c_i) outputs] of odd sizes: [b height width outputs] in the maps' dtype.

    form: "resized" does just that. "coarse" does the same, up to rounding, with fewer operations: resizing treats channels
    alike and a tap of the kernel pixels alike, so that the products with the taps can be made at the map's own size, and the
    results be resized, shifted and added up. A map of half the side then takes a quarter of the products; an UperNet head's
    last convolution a third of them, all its maps together. Where sizes are symbolic, in an export, "coarse" is "resized".
    """
    known = all(isinstance(side, int) for x in maps for side in (*x.shape[1:3], height, width))
    coarse = [form == "coarse" and known and x.shape[1] * x.shape[2] < height * width for x in maps]
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
    wide = jnp.promote_types(x.dtype, jnp.float32)
    taps = [matmul(x, row.transpose(1, 0, 2).reshape(inputs, kw * outputs)) for row in kernel]
    tall = jnp.stack(taps, 1).reshape(b, kh * h, w * kw * outputs)
    rows = _shifted(h, height, kh, wide).reshape(height, kh * h).astype(x.dtype)
    columns = _shifted(w, width, kw, wide).swapaxes(1, 2).reshape(width, w * kw).astype(x.dtype)
    y = jnp.einsum("Hk,bkz->bHz", rows, tall, precision=lax.Precision.HIGHEST).reshape(b, height, w * kw, outputs)
    return jnp.einsum("Wk,bHkc->bHWc", columns, y, precision=lax.Precision.HIGHEST, preferred_element_type=wide)


def _shifted(length: int, size: int, taps: int, dtype: jnp.dtype) -> jax.Array:
    """[size taps length]: what position i + u - taps // 2 of a line of `length` values, resized to `size`, takes of each;
    beyond its ends nothing, as a convolution's padding."""
    place = jnp.arange(size)[:, None] + jnp.arange(taps) - taps // 2
    centre = jnp.clip((place + 0.5) * (length / size) - 0.5, 0, length - 1).astype(dtype)
    share = jnp.maximum(0, 1 - jnp.abs(centre[..., None] - jnp.arange(length)))
    return jnp.where(((place >= 0) & (place < size))[..., None], share, 0)
