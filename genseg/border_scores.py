"""Scores that see borders: Boundary IoU, boundary F1 and trimap IoU a class, at distances of 1, 3 and 5 pixels.

Distances are Euclidean, in pixels of the label; other scales print other numbers, so that d always stands beside them.
With G and P the truth's and the prediction's pixels of a class, of valid pixels alone, band_d(M) the pixels of M within d
of a valid pixel outside M, and contour(M) = band_1(M):

  Boundary IoU   |band_d(G) and band_d(P)| / |band_d(G) or band_d(P)|. Cheng et al. 2021, arXiv 2103.16562; they measure
                 d by repeated 3 x 3 erosion and count the image's edge as border, here discs are exact and it is none.
  boundary F1    harmonic mean of the share of contour(P) within d of contour(G) and of that of contour(G) within d of
                 contour(P). Csurka et al. 2013 (BMVC), there a mean over images, here of counts added up over the split.
  trimap IoU     IoU over the pixels within d of any border of the truth. Kohli et al. 2009; Kraehenbuehl and Koltun 2011,
                 arXiv 1210.5644.

All are integer counts on the device that add up over images, scenes, devices and processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genseg import borders

DISTANCES = (1, 3, 5)
REACH = max(DISTANCES) + 1
"""How far away a pixel may be that has a say in another's counts: beside a contour that is within the largest distance."""
COUNTS = ("truth_band", "predicted_band", "both_bands", "truth_matched", "predicted_matched", "near_hit",
          "near_predicted")  # fmt: skip


def border_counts(
    prediction: jax.Array, label: jax.Array, valid: jax.Array, classes: int, own: jax.Array | None = None
) -> jax.Array:
    """int [b, h, w], int [b, h, w], bool [b, h, w] -> int32 [b, 7, 3, classes]: a row of COUNTS, a distance, a class.

    own: bool [b, h, w]; pixels outside are not counted, but seen as neighbours of those inside.
    """
    prediction = jnp.where(valid, prediction, 0)
    label = jnp.where(valid, label, 0)
    truth_band = borders.near_other_class(label, valid, classes, DISTANCES)
    predicted_band = borders.near_other_class(prediction, valid, classes, DISTANCES)
    truth_contour = borders.class_bits(label, truth_band[0], classes)
    predicted_contour = borders.class_bits(prediction, predicted_band[0], classes)
    around_truth = borders.spread(truth_contour, DISTANCES)
    around_predicted = borders.spread(predicted_contour, DISTANCES)
    hit = prediction == label
    by_truth = [
        *truth_band,
        *(hit & t & p for t, p in zip(truth_band, predicted_band, strict=True)),
        *(truth_band[0] & borders.has_class(bits, label) for bits in around_predicted),
        *(hit & t for t in truth_band),
    ]
    by_prediction = [
        *predicted_band,
        *(predicted_band[0] & borders.has_class(bits, prediction) for bits in around_truth),
        *truth_band,
    ]
    counted = valid if own is None else valid & own
    truth = _per_class(by_truth, jnp.where(counted, label, -1), classes)
    predicted = _per_class(by_prediction, jnp.where(counted, prediction, -1), classes)
    # as COUNTS
    rows = [truth[:, 0], predicted[:, 0], truth[:, 1], truth[:, 2], predicted[:, 1], truth[:, 3], predicted[:, 2]]
    return jnp.stack(rows, axis=1)


def _per_class(flags: Sequence[jax.Array], ids: jax.Array, classes: int) -> jax.Array:
    """k * 3 flags bool [b, h, w], class ids [b, h, w] (-1: none) -> int32 [b, k, 3, classes]."""
    b = ids.shape[0]
    columns = jnp.stack([flag.reshape(b, -1) for flag in flags], axis=1).astype(jnp.int8)
    one_hot = jax.nn.one_hot(ids.reshape(b, -1), classes, dtype=jnp.int8)
    counts = jax.lax.dot_general(columns, one_hot, (((2,), (1,)), ((0,), (0,))), preferred_element_type=jnp.int32)
    return counts.reshape(b, -1, len(DISTANCES), classes)


@dataclass(frozen=True)
class BorderScores:
    """Shares in [0, 1], float64 [..., distances, classes], NaN where a class has no border; and means over the scored
    classes, float64 [..., distances]."""

    iou: np.ndarray
    f1: np.ndarray
    trimap: np.ndarray
    mean_iou: np.ndarray
    mean_f1: np.ndarray
    mean_trimap: np.ndarray


def border_scores(counts: np.ndarray, scored: Sequence[int], absent: str = "skip") -> BorderScores:
    """Scores of summed `border_counts`, int64 [..., 7, 3, classes].

    scored: class ids averaged. absent: a scored class without a border in truth and prediction is left out of the
    averages ("skip") or counts as 0 ("zero"), as in `metrics.segmentation_scores`.
    """
    named = dict(zip(COUNTS, np.moveaxis(np.asarray(counts, np.float64), -3, 0), strict=True))
    truth, predicted, both = named["truth_band"], named["predicted_band"], named["both_bands"]

    def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)

    contour, predicted_contour = (np.broadcast_to(band[..., :1, :], truth.shape) for band in (truth, predicted))
    recall = np.nan_to_num(ratio(named["truth_matched"], contour))
    precision = np.nan_to_num(ratio(named["predicted_matched"], predicted_contour))
    f1 = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
    f1[(contour == 0) & (predicted_contour == 0)] = np.nan
    hit = named["near_hit"]
    each = (ratio(both, truth + predicted - both), f1, ratio(hit, truth + named["near_predicted"] - hit))

    def mean(values: np.ndarray) -> np.ndarray:
        values = values[..., list(scored)]
        values = np.nan_to_num(values) if absent == "zero" else values
        known = ~np.isnan(values)
        return ratio(np.where(known, values, 0).sum(-1), known.sum(-1).astype(np.float64))

    return BorderScores(*each, *map(mean, each))


NAMES = tuple(f"{name}_{d}px" for name in ("boundary_iou", "boundary_f1", "trimap_iou") for d in DISTANCES)
"""Of the means, in the order of `means`."""


def means(scores: BorderScores) -> np.ndarray:
    """float64 [..., 9], shares in [0, 1], in the order of NAMES."""
    return np.concatenate([scores.mean_iou, scores.mean_f1, scores.mean_trimap], axis=-1)


def named_scores(scores: BorderScores) -> dict[str, float]:
    """The means by NAMES: {"boundary_iou_1px": ...}."""
    return dict(zip(NAMES, means(scores).tolist(), strict=True))
