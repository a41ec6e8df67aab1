"""Class weights from how often classes occur in the training pixels."""

from __future__ import annotations

import numpy as np

RULES = ("none", "inverse", "sqrt_inverse", "median_frequency", "effective_number", "enet")


def class_weights(rule: str, pixels: np.ndarray, *, beta: float) -> tuple[float, ...]:
    """int64 [records, classes] pixels of each class in each record -> a weight a class.

    With n_c a class's pixels, n their sum:
      inverse            1 / n_c ("balanced" of scikit-learn)
      sqrt_inverse       1 / sqrt(n_c)
      median_frequency   median(f) / f_c, f_c = n_c over the pixels of the records that hold c (Eigen and Fergus 2015,
                         arXiv 1411.4734)
      enet               1 / ln(1.02 + n_c / n) (Paszke et al. 2016, arXiv 1606.02147), at most 50 times another
      effective_number   (1 - beta) / (1 - beta ** n_c) (Cui et al. 2019, arXiv 1901.05555)
    All are scaled so that the mean over training pixels, sum n_c w_c / n, is 1: loss and learning rate keep their scale.
    A class that never occurs weighs 0.
    """
    pixels = np.asarray(pixels, np.float64)
    count = pixels.sum(0)
    there = count > 0
    safe = np.where(there, count, 1.0)
    if rule == "inverse":
        weights = 1 / safe
    elif rule == "sqrt_inverse":
        weights = 1 / np.sqrt(safe)
    elif rule == "median_frequency":
        frequency = safe / np.maximum(((pixels > 0) * pixels.sum(1, keepdims=True)).sum(0), 1)
        weights = np.median(frequency[there]) / frequency
    elif rule == "enet":
        weights = 1 / np.log(1.02 + count / count.sum())
    elif rule == "effective_number":
        weights = 1 / -np.expm1(safe * np.log(beta))
    else:
        raise ValueError(f"'{rule}' is not one of {RULES}")
    weights = np.where(there, weights, 0.0)
    return tuple(float(w) for w in weights * count.sum() / (weights * count).sum())
