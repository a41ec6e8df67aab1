"""Statistics of studies against closed cases, SciPy and brute force."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genseg import border_scores, metrics
from genseg.study import design, statistics


@settings(max_examples=40, deadline=None)
@given(data=st.data(), absent=st.sampled_from(["skip", "zero"]))
def test_scores_of_stacked_counts_are_those_of_the_metrics(data, absent):
    values = data.draw(st.lists(st.integers(0, 5), min_size=32, max_size=32))
    counts = np.array(values).reshape(2, 4, 4)
    scored = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
    for name in design.CONFUSION_SCORES:
        ours = statistics.score(name, scored, absent)(counts)
        for one, confusion in zip(ours, counts, strict=True):
            theirs = getattr(metrics.segmentation_scores(confusion, scored, absent), name)
            np.testing.assert_allclose(one, theirs, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), empty=st.booleans(), absent=st.sampled_from(["skip", "zero"]))
def test_border_scores_of_stacked_counts_are_those_of_each(seed, empty, absent):
    random = np.random.default_rng(seed)
    no_part_above_its_whole = [5, 6, 0, 2, 3, 1, 4]
    counts = np.sort(random.integers(0, 50, (2, 3, 7, 3, 4)), axis=2)[:, :, no_part_above_its_whole]
    counts[..., 0] *= not empty
    ours = statistics.border_means([0, 2, 3], absent)(counts)
    assert ours.shape == (2, 3, 9)
    for place in np.ndindex(2, 3):
        theirs = border_scores.border_scores(counts[place], [0, 2, 3], absent)
        np.testing.assert_array_equal(ours[place][3:6], theirs.mean_f1)
        assert dict(zip(border_scores.NAMES, ours[place], strict=True)) == border_scores.named_scores(theirs)


def counts_of(hits: np.ndarray, of: int = 1000) -> np.ndarray:
    """[pairs, scenes] right pixels of `of` -> counts whose "oa" is the share of right pixels."""
    wrong = of - hits
    return np.stack([np.stack([hits, wrong], -1), np.zeros((*hits.shape, 2), int)], -2)


OA = statistics.score("oa", [0], "skip")


def test_equal_differences_have_an_interval_of_no_width():
    b = np.full((6, 5), 500)
    d = statistics.paired(counts_of(b + 20), counts_of(b), [0, 0, 1, 1, 2, 2], OA)
    assert d.mean == pytest.approx(0.02) and d.low == pytest.approx(0.02) and d.high == pytest.approx(0.02)
    assert float(d.p) == pytest.approx(2**-5)


def test_over_scenes_alone_the_interval_is_scipys_bootstrap():
    random = np.random.default_rng(0)
    a, b = random.integers(400, 700, 40), random.integers(350, 650, 40)
    pairs = np.stack([np.broadcast_to(x, (2, 40)) for x in (a, b)])  # both pairs alike: only scenes vary
    d = statistics.paired(counts_of(pairs[0]), counts_of(pairs[1]), [0, 1], OA, draws=8000)
    found = stats.bootstrap((a / 1000, b / 1000), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True,
                            method="percentile", n_resamples=8000, rng=np.random.default_rng(1))  # fmt: skip
    low, high = found.confidence_interval
    assert (float(d.low), float(d.high)) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_over_runs_alone_the_spread_is_that_of_two_levels():
    """All scenes alike. The variance of a resampled mean is known: between origins, and within them."""
    effects = np.array([0, 60, 120])[:, None] + np.array([[-10, 10], [-30, 30], [0, 0]])
    hits = np.broadcast_to(500 + effects.reshape(6, 1), (6, 3))
    random = np.random.default_rng(0)
    taken = statistics.draw_pairs(random, np.array([0, 0, 1, 1, 2, 2]), 40_000)
    assert taken.shape == (40_000, 6)
    means = effects.reshape(6)[taken].mean(1)
    between, within = effects.mean(1).var() / 3, np.mean(effects.var(1)) / 6
    assert means.var() == pytest.approx(between + within, rel=0.05)
    d = statistics.paired(counts_of(hits), counts_of(np.full((6, 3), 500)), [0, 0, 1, 1, 2, 2], OA)
    assert d.low == pytest.approx(np.percentile(means, 2.5) / 1000, abs=0.004)


def test_resamples_of_unequal_numbers_of_pairs_keep_pairs_with_their_network():
    taken = statistics.draw_pairs(np.random.default_rng(0), np.array([0, 0, 1]), 30_000)
    shares = np.bincount(taken.ravel(), minlength=3) / taken.size
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.01)


def test_more_scenes_narrow_the_interval_and_coverage_is_near_95_per_cent():
    covered, random = 0, np.random.default_rng(3)
    for _ in range(150):
        runs = random.normal(20, 15, (8, 1))
        scenes = random.normal(0, 30, (1, 30))
        a = np.rint(500 + runs + scenes + random.normal(0, 5, (8, 30))).astype(int)
        b = np.full((8, 30), 500)
        d = statistics.paired(counts_of(a), counts_of(b), range(8), OA, draws=400, seed=int(random.integers(1 << 30)))
        covered += d.low <= 0.020 <= d.high
    assert 0.86 <= covered / 150 <= 0.99  # percentile intervals of 8 runs are a little short


def test_sign_flip_is_exact():
    assert float(statistics.sign_flip(np.array([1.0, 2, 3, 4, 5, 6]))) == pytest.approx(2 / 64)
    assert float(statistics.sign_flip(np.array([1.0, 2, 3]))) == pytest.approx(0.25)
    # By hand: |mean| of +-1 +-2 +-4 is at least |1 + 2 - 4| in all 8 ways.
    assert float(statistics.sign_flip(np.array([1.0, 2, -4]))) == pytest.approx(1.0)
    columns = np.array([[1.0, np.nan], [2, np.nan], [3, 1.0]])
    np.testing.assert_allclose(statistics.sign_flip(columns), [0.25, np.nan])


def test_sign_flip_of_many_pairs_draws_signs_within_bounded_memory():
    columns = np.random.default_rng(0).normal(0.4, 1, (40, 2))
    statistics.sign_flip(columns[:3])  # imports SciPy
    tracemalloc.start()
    try:
        (drawn,) = statistics.sign_flip(columns[:18, :1])
        assert tracemalloc.get_traced_memory()[1] < 32e6  # all 2^18 at once take 75 MB of signed values alone
    finally:
        tracemalloc.stop()
    signs = np.random.default_rng(1).choice([-1, 1], (200_000, 18))
    beyond = np.abs(signs @ columns[:18, 0]) >= np.abs(columns[:18, 0].sum())
    assert drawn == pytest.approx(beyond.mean(), abs=0.01) and 0.02 < drawn < 0.98
    many = statistics.sign_flip(columns)
    np.testing.assert_array_equal(many, statistics.sign_flip(columns))
    assert statistics.sign_flip(np.ones(40)) == statistics.smallest_p(40) == 2 / (2**16 + 1)
    assert statistics.sign_flip(np.ones(6)) == statistics.smallest_p(6) == 2 / 64


def test_holm_by_hand():
    adjusted = statistics.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06, 0.02])
