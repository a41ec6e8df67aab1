"""The networks against numbers of transformers on torch in float64, which tests/parity/store.py has stored (versions are in the file).

Every norm, layer scale and statistic has a random value in these networks; the live comparison of the published sizes is
tests/parity/live.py.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from genseg import tree
from tests.parity import common

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "reference.npz")


def stored(name: str, kind: str) -> dict[str, np.ndarray]:
    prefix = f"{name}:{kind}/"
    return {key.removeprefix(prefix): REFERENCE[key] for key in REFERENCE.files if key.startswith(prefix)}


@pytest.mark.parametrize("name", common.CASES)
def test_the_same_function_in_float64(name):
    """Outputs, BatchNorm statistics and gradients of every parameter and of the image; of segmenters in training."""
    with common.in_float64():
        net, params, stats, image = common.network(name, "float64")
        found = common.results(net, params, stats, image, train=common.CASES[name][1] == "segmenter")
    assert {leaf.dtype for leaf in (*found.outputs.values(), *found.gradients.values())} == {np.dtype("float64")}
    found = common.Results(found.outputs, common.sampled(found.gradients))
    expected = common.Results(stored(name, "outputs"), stored(name, "gradients"))
    assert max(found.differences(expected)) < 1e-9


@pytest.mark.parametrize("name", common.CASES)
def test_outputs_in_float32(name):
    net, params, stats, image = common.network(name)

    @jax.jit  # both modes in one program: XLA merges the backbones, which drop nothing
    def run(params, stats, image):
        (evaluated, _), (trained, new) = (net.apply(params, stats, image, train=train) for train in (False, True))
        if common.CASES[name][1] == "classifier":
            return {"logits": evaluated}, {"logits": trained}
        return evaluated, trained | dict(tree.items({"stats": new}))

    (evaluated, found), expected = run(params, stats, image), stored(name, "outputs")
    assert found.keys() == expected.keys()
    pairs = [(found[key], expected[key]) for key in expected]
    for a, b in [*pairs, (evaluated["logits"], REFERENCE[f"{name}:evaluation"])]:
        assert a.dtype == np.float32 and common.relative(np.asarray(a), b) < 1e-5
