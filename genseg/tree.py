"""Nested dicts of arrays: paths of leaves and size tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Tree = Any
"""Nested dicts with string keys; leaves are arrays (or `jax.ShapeDtypeStruct`s)."""


def items(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("a/b/c", leaf) for every leaf, in sorted key order at each level (the order of `jax.tree.leaves`)."""
    if isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from items(tree[key], f"{prefix}/{key}" if prefix else str(key))
    else:
        yield prefix, tree


def from_items(pairs: Mapping[str, Any]) -> Tree:
    """The nested dict of {"a/b/c": leaf}; the inverse of `items`."""
    tree: dict = {}
    for path, leaf in pairs.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def map_paths(function: Callable[[str, Any], Any], tree: Tree, prefix: str = "") -> Tree:
    """The tree with each leaf replaced by `function(path, leaf)`."""
    if isinstance(tree, Mapping):
        return {k: map_paths(function, v, f"{prefix}/{k}" if prefix else str(k)) for k, v in tree.items()}
    return function(prefix, tree)


def count(tree: Tree) -> int:
    """Number of scalars in all leaves."""
    return sum(int(np.prod(leaf.shape)) for _, leaf in items(tree))


def size_table(tree: Tree, depth: int = 2) -> str:
    """Parameters summed by the first `depth` path components, as text."""
    sums: dict[str, int] = {}
    for path, leaf in items(tree):
        group = "/".join(path.split("/")[:depth])
        sums[group] = sums.get(group, 0) + int(np.prod(leaf.shape))
    width = max((len(g) for g in sums), default=5)
    lines = [f"{group:<{width}}  {n:>13,}" for group, n in sums.items()]
    return "\n".join([*lines, f"{'total':<{width}}  {sum(sums.values()):>13,}"])
