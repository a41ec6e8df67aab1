"""Maps brought to other sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """torch's AdaptiveAvgPool2d(size) of x [b h w c], exactly, for any h and w: [b size size c].

    Cell i averages rows floor(i h / size) to ceil((i + 1) h / size) - 1, likewise columns; cells overlap where size
    does not divide h. Written as two small matrix products, which accelerators and the partitioner handle well.
    """
    rows = _averaging_matrix(x.shape[1], size).astype(x.dtype)
    columns = _averaging_matrix(x.shape[2], size).astype(x.dtype)
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=lax.Precision.HIGHEST)


def _averaging_matrix(length: int, size: int) -> jax.Array:
    """[size, length] float32, each row the mean over one cell. In jnp, since `length` may be symbolic in an export."""
    cell, position = jnp.arange(size)[:, None], jnp.arange(length)[None, :]
    inside = (position >= cell * length // size) & (position < -(-(cell + 1) * length // size))
    return inside / inside.sum(1, keepdims=True, dtype=jnp.float32)


def resize(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resize of x [b h w c], equal to torch's `interpolate(mode="bilinear", align_corners=False)`: pixel centres
    at half positions, borders repeated, and no antialiasing when it shrinks."""
    return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "bilinear", antialias=False)


def pad(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """x [b h w c] with zero rows below and zero columns to the right, up to multiples of `rows` and `columns`."""
    below, right = -x.shape[1] % rows, -x.shape[2] % columns
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else x


STRIDE = 32  # of the deepest maps


def whole_strides(x: jax.Array) -> jax.Array:
    """An image [b h w c] padded with zeros at its end to multiples of STRIDE, where both sides reach it.

    ConvNeXt drops rows and columns that fill no stride. Logits are resized to the image's size: unpadded they would be stretched
    over what they have not seen, and class borders would be moved by up to a stride.
    """
    return pad(x, STRIDE, STRIDE) if min(x.shape[1:3]) >= STRIDE else x


def cut_to(x: jax.Array, padded: tuple[int, ...], size: tuple[int, ...]) -> jax.Array:
    """Logits [b h w c] of an image that was `padded` (height, width): resized to that, and cut to its own `size`."""
    return resize(x, *padded)[:, : size[0], : size[1]]
