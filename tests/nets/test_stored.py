"""The networks against outputs of transformers on torch that tests/parity/store.py has stored (versions are in the file).

Every norm, layer scale and statistic has a random value in these networks; the live comparison of the published sizes is
tests/parity/live.py.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parents[1]
specification = importlib.util.spec_from_file_location("tiny", TESTS / "parity" / "tiny.py")
tiny = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tiny)
REFERENCE = np.load(TESTS / "data" / "reference.npz")


@pytest.mark.parametrize("name", tiny.CASES)
def test_equal_to_the_stored_reference(name):
    expected = {key.split(":")[1]: REFERENCE[key] for key in REFERENCE.files if key.startswith(f"{name}:")}
    found = tiny.results(name)
    assert found.keys() == expected.keys()
    largest = max(np.abs(value).max() for key, value in expected.items() if key.startswith("grad/"))
    for key, value in expected.items():
        assert found[key].shape == value.shape, key
        scale = np.abs(value).max()
        if key.startswith("grad/"):  # a gradient that should vanish is rounding: not scaled by its own size
            scale = max(scale, 1e-3 * largest)
        assert np.abs(found[key] - value).max() < 1e-4 * scale, key
