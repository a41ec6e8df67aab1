"""Stem rules against loops over bands."""

import jax
import numpy as np
import pytest

from genseg.errors import UserError
from genseg.nets.stem import RULES, inflate_stem
from genseg.recipes import shared

KERNEL = np.random.default_rng(0).normal(size=(4, 4, 3, 5)).astype("f4")


def expected(rule, channels):
    out = np.zeros((4, 4, channels, 5), "f4")
    for i in range(channels):
        if rule == "repeat":
            out[:, :, i] = KERNEL[:, :, i % 3] * 3 / channels
        elif rule == "mean":
            out[:, :, i] = (KERNEL[:, :, 0] + KERNEL[:, :, 1] + KERNEL[:, :, 2]) / channels
        elif i < 3:
            out[:, :, i] = KERNEL[:, :, i]
    return out


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 13])
def test_rules_against_loops(rule, channels):
    np.testing.assert_allclose(inflate_stem(KERNEL, channels, rule), expected(rule, channels), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("rule", "channels"), [("repeat", 6), ("repeat", 9), ("mean", 4), ("mean", 5), ("mean", 1)])
def test_response_to_equal_bands_is_unchanged(rule, channels):
    np.testing.assert_allclose(inflate_stem(KERNEL, channels, rule).sum(2), KERNEL.sum(2), rtol=1e-4, atol=1e-5)


def test_random_keeps_the_source_and_draws_the_rest():
    wide = np.tile(KERNEL, (1, 1, 1, 200))
    out = np.asarray(inflate_stem(wide, 5, "random", jax.random.key(3)))
    np.testing.assert_array_equal(out[:, :, :3], wide)
    assert abs(out[:, :, 3:].std() - 0.02) < 0.001 and abs(out[:, :, 3:].mean()) < 0.001
    np.testing.assert_array_equal(inflate_stem(KERNEL, 2, "random"), KERNEL[:, :, :2])
    with pytest.raises(ValueError, match="random key"):
        inflate_stem(KERNEL, 4, "random")


def test_exact_and_unknown_rules():
    np.testing.assert_array_equal(inflate_stem(KERNEL, 3, "exact"), KERNEL)
    with pytest.raises(UserError, match="3 input channels and 4 are wanted"):
        inflate_stem(KERNEL, 4, "exact")
    with pytest.raises(UserError, match="'avarage' is not known; choose one of exact, universal, repeat"):
        inflate_stem(KERNEL, 4, "avarage")
    assert RULES == shared.STEM_RULES


def test_universal_slices_and_scales_as_training_did_and_repeats_beyond():
    wide = np.random.default_rng(1).normal(size=(4, 4, 5, 7)).astype("f4")
    for n in (1, 3, 4):
        want = np.stack([wide[:, :, i] * np.sqrt(5 / n) for i in range(n)], 2)
        np.testing.assert_allclose(inflate_stem(wide, n, "universal"), want, rtol=1e-6)
    np.testing.assert_array_equal(inflate_stem(wide, 5, "universal"), wide)
    np.testing.assert_array_equal(inflate_stem(wide, 7, "universal"), inflate_stem(wide, 7, "repeat"))
