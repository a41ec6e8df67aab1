"""Where classes meet: distances to other classes on the device, exact, by shifts of fixed shape.

A class's border is one of its pixels with a pixel of another class nearby. Invalid pixels (the ignore label, padding) are
of no class: they neither are borders nor make any, and no more does the edge of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

WORD = 32


def class_bits(label: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """int [b, h, w], bool [b, h, w] -> uint32 [ceil(classes / 32), b, h, w]: each valid pixel's class as one bit set."""
    bit = jnp.left_shift(jnp.uint32(1), (label % WORD).astype(jnp.uint32))
    words = jnp.arange(-(-classes // WORD))[:, None, None, None]
    return jnp.where(valid & (label // WORD == words), bit, jnp.uint32(0))


def has_class(bits: jax.Array, label: jax.Array) -> jax.Array:
    """Whether each pixel's class is among its bits: uint32 [words, b, h, w], int [b, h, w] -> bool [b, h, w]."""
    words = jnp.arange(bits.shape[0])[:, None, None, None]
    own = jnp.right_shift(bits, (label % WORD).astype(jnp.uint32)) & 1
    return jnp.any((label // WORD == words) & (own == 1), axis=0)


def spread(bits: jax.Array, radii: Sequence[int]) -> list[jax.Array]:
    """Union of the bits of all pixels at a Euclidean distance of at most r, for each r of `radii`: [..., h, w] likewise.

    A disc is cut into rows, so that radius 5 takes 11 + 11 shifts rather than 81.
    """
    reach, (height, width) = max(radii), bits.shape[-2:]
    sides = [(0, 0)] * (bits.ndim - 2)
    wide = jnp.pad(bits, [*sides, (reach, reach), (reach, reach)])
    rows = [wide[..., reach : reach + width]]  # unions over |dx| <= 0, 1, ..., all rows and the padding's
    for k in range(1, reach + 1):
        left, right = wide[..., reach - k : reach - k + width], wide[..., reach + k : reach + k + width]
        rows.append(rows[-1] | left | right)
    found = []
    for radius in radii:
        union = jnp.zeros_like(bits)
        for dy in range(-radius, radius + 1):
            union |= rows[math.isqrt(radius**2 - dy**2)][..., reach + dy : reach + dy + height, :]
        found.append(union)
    return found


def near_other_class(label: jax.Array, valid: jax.Array, classes: int, radii: Sequence[int]) -> list[jax.Array]:
    """For each r of `radii` bool [b, h, w]: valid pixels with a valid pixel of another class at most r away (Euclidean).

    The pixels of class c among them are the band that Boundary IoU is taken over: those within r of the class's outline.
    Radius 1 is the outline itself, one pixel wide and inside the class.
    """
    own = class_bits(label, valid, classes)
    return [valid & jnp.any((around & ~own) != 0, axis=0) for around in spread(own, radii)]


def squared_distance(targets: jax.Array) -> jax.Array:
    """bool [b, h, w] -> int32 [b, h, w]: squared Euclidean distance to the nearest target, exact; 2**30 without any.

    Columns by running minima, rows by the minimum over all shifts (Felzenszwalb and Huttenlocher's separation).
    """
    height, width = targets.shape[-2:]
    far = height + width
    places = jnp.arange(height)[:, None]
    above = jax.lax.cummax(jnp.where(targets, places, -far), axis=1)
    below = jax.lax.cummin(jnp.where(targets, places, height + far), axis=1, reverse=True)
    column = jnp.minimum(places - above, below - places)
    none = jnp.int32(2**30)
    column = jnp.where(column >= far, none, column**2).astype(jnp.int32)
    wide = jnp.pad(column, ((0, 0), (0, 0), (width, width)), constant_values=none)

    def shift(k: jax.Array, nearest: jax.Array) -> jax.Array:
        moved = jax.lax.dynamic_slice_in_dim(wide, k, width, axis=2)
        return jnp.minimum(nearest, jnp.minimum(moved + (k - width) ** 2, none))

    return jax.lax.fori_loop(1, 2 * width, shift, column)
