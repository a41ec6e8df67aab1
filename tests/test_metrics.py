"""Scores against scikit-learn and brute force."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from genseg import metrics


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), ignored=st.floats(0, 0.9))
def test_confusion_equals_scikit_learn(seed, classes, ignored):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, classes, (2, 3, 7, 5))
    valid = rng.random(truth.shape) >= ignored
    truth = np.where(valid, truth, 255)
    counts = metrics.confusion(jnp.array(prediction), jnp.array(truth), jnp.array(valid), classes)
    expected = sk.confusion_matrix(truth[valid], prediction[valid], labels=range(classes)) if valid.any() else 0
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, 4000)
    prediction = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, 6, 4000))
    scored = [0, 1, 3, 5]
    scores = metrics.segmentation_scores(sk.confusion_matrix(truth, prediction), scored)
    kwargs = {"labels": scored, "average": "macro"}
    assert scores.miou == pytest.approx(sk.jaccard_score(truth, prediction, **kwargs))
    assert scores.mf1 == pytest.approx(sk.f1_score(truth, prediction, **kwargs))
    assert scores.macc == pytest.approx(sk.recall_score(truth, prediction, **kwargs))
    assert scores.oa == pytest.approx(sk.accuracy_score(truth, prediction))
    np.testing.assert_allclose(scores.precision, sk.precision_score(truth, prediction, average=None))


def test_absent_class_is_left_out_or_zero():
    counts = np.diag([5, 5, 0])
    assert metrics.segmentation_scores(counts, [0, 1, 2], "skip").miou == 1.0
    assert metrics.segmentation_scores(counts, [0, 1, 2], "zero").miou == pytest.approx(2 / 3)


def test_predicted_but_untrue_class_counts_as_zero():
    counts = np.array([[8, 2], [0, 0]])
    assert metrics.segmentation_scores(counts, [0, 1]).miou == pytest.approx(0.4)


def test_counts_beyond_int32_stay_exact():
    counts = np.array([[2**40, 1], [0, 2**40]])
    scores = metrics.segmentation_scores(counts, [0, 1])
    assert 0 < 1 - scores.oa < 1e-11


def test_top_k_counts_with_ties_and_padding():
    logits = jnp.array([[3.0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [9, 0, 0, 0], [jnp.nan] * 4])
    label = jnp.array([1, 0, 3, 0, 0])
    valid = jnp.array([True, True, True, False, True])
    assert metrics.top_k_counts(logits, label, valid, (1, 2, 4)).tolist() == [1, 2, 3]
