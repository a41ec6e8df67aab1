"""Binds an NNX module to two pure functions over plain nested dicts.

Only the stable part of NNX is used (modules, variables, split, merge, state, eval_shape). Parameters and statistics
leave this file as nested dicts with string keys, which every JAX transform, checkpoint and tool understands.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

Tree = dict[str, Any]
"""Nested dicts with string keys at every level; leaves are float32 arrays."""


@dataclasses.dataclass(frozen=True)
class Net:
    """A network as two pure functions.

    Attributes:
      init: `init(key) -> (params, stats)`. Parameters and BatchNorm running statistics ({} where there are none).
        Works under `jax.jit` and `jax.eval_shape`.
      apply: `apply(params, stats, image, *, train, key=None) -> (out, new_stats)`. `image` is float [b h w c]. `key`
        is needed with `train=True` where the network has drop path or dropout. With `train=False` the statistics come
        back unchanged. Works inside `jax.jit`, `jax.value_and_grad`, `jax.checkpoint` and `jax.vmap`.
    """

    init: Callable[[jax.Array], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]


def bind(build: Callable[[nnx.Rngs], nnx.Module]) -> Net:
    """The `Net` of the module that `build` makes; the module's call is `module(image, *, train, key)`.

    The module's structure is traced once, at the first `apply`; later calls only put arrays into it.
    """

    @functools.cache
    def structure() -> nnx.GraphDef:
        abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        graphdef, _, _ = nnx.split(abstract, nnx.Param, nnx.BatchStat)
        return graphdef

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        _, params, stats = nnx.split(build(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return _string_keys(nnx.to_pure_dict(params)), _string_keys(nnx.to_pure_dict(stats))

    def apply(
        params: Tree, stats: Tree, image: jax.Array, *, train: bool, key: jax.Array | None = None
    ) -> tuple[Any, Tree]:
        module = nnx.merge(structure(), _list_keys(params), _list_keys(stats))
        out = module(image, train=train, key=key)
        return out, _string_keys(nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))

    return Net(init, apply)


def _string_keys(tree: Any) -> Any:
    """NNX numbers the members of a list; checkpoints, JSON and safetensors want strings."""
    return {str(k): _string_keys(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def _list_keys(tree: Any) -> Any:
    """The inverse of `_string_keys`: a name made of digits can only be the member of a list."""
    if not isinstance(tree, Mapping):
        return tree
    return {int(k) if k.isdigit() else k: _list_keys(v) for k, v in tree.items()}
