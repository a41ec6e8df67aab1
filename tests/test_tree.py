"""Paths and tables of nested dicts."""

import numpy as np

from genseg import tree

TREE = {"b": {"y": np.ones((2, 3), np.float32), "x": np.ones(4, np.float16)}, "a": np.ones((), np.int32)}


def test_items_and_back():
    pairs = dict(tree.items(TREE))
    assert list(pairs) == ["a", "b/x", "b/y"]
    assert tree.from_items(pairs).keys() == TREE.keys()
    assert tree.from_items(pairs)["b"]["y"] is TREE["b"]["y"]


def test_counts():
    assert tree.count(TREE) == 11
    assert tree.size_table(TREE, depth=1).splitlines()[-1].split() == ["total", "11"]
