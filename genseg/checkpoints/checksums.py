"""Checksums of a state's arrays, on devices and on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def checksum(leaf: jax.Array) -> jax.Array:
    """uint32 []: sum of the bit patterns of the elements, each times an odd number that depends on its place.

    Modulo 2^32 an odd factor is invertible, so that no change of a single element goes unseen; of other changes one in
    2^32 does. Integers: the same on any number of devices. Elements of 1, 2 or 4 bytes.
    """
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")).astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for dim in reversed(range(leaf.ndim)):  # no reshape: it would gather a sharded leaf
        place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, dim) * jnp.uint32(stride % 2**32)
        stride *= leaf.shape[dim]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


def checksum_on_host(leaf: np.ndarray) -> int:
    """`checksum` in NumPy."""
    bits = np.ascontiguousarray(leaf).reshape(-1).view(f"uint{8 * leaf.dtype.itemsize}").astype(np.uint32)
    return int(np.sum(bits * (2 * np.arange(bits.size, dtype=np.uint32) + 1), dtype=np.uint32))


@jax.jit
def checksums_of(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Of all leaves in one program: many small ones that each wait for other devices lock each other on a CPU mesh."""
    return {path: checksum(leaf) for path, leaf in leaves.items()}


def leaves(values: Any) -> Iterator[tuple[str, Any]]:
    """("params/head/kernel", leaf), ("opt/0/count", leaf), ...: the same names for a state and for its plain form."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        yield "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path), leaf
