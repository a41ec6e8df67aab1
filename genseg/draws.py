"""The random keys of a training step: a function of (seed, step), and each draw of the step has its own.

`jax.random.split(key, n)[i]` is `fold_in(key, i)`: whoever splits a key and folds small numbers into it too draws twice with one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax


def key_of_step(seed: int, step: jax.Array | int) -> jax.Array:
    """Of the step that follows `step` steps, before microbatches fold in their number."""
    return jax.random.fold_in(jax.random.key(seed), step)


class PretrainKeys(NamedTuple):
    """order: of channels. net: drop path. bands, drop: `genseg.bands`."""

    order: jax.Array
    erasing: jax.Array
    mixing: jax.Array
    net: jax.Array
    bands: jax.Array
    drop: jax.Array

    @classmethod
    def of(cls, key: jax.Array) -> PretrainKeys:
        return cls(*jax.random.split(key, len(cls._fields)))


def bands_key(key: jax.Array) -> jax.Array:
    """For band augmentation in segmentation, whose network splits `key` itself."""
    return jax.random.fold_in(key, 1 << 16)
