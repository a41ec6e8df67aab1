"""Counts on the device, scores on the host.

A confusion matrix outgrows int32 over a split (iSAID's patches hold 9.4e9 pixels), so one step's counts are int32 and
their sum over the split is int64 NumPy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def confusion(prediction: jax.Array, label: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """int [...], int [...], bool [...] -> int32 [classes, classes]; row: truth, column: prediction.

    Invalid elements do not count. On a TPU or GPU an integer one-hot product: exact, and a matmul rather than a serial
    scatter, which in turn is the faster one on a CPU.
    """
    arguments = (prediction.reshape(-1), jnp.where(valid, label, -1).reshape(-1))
    forms = dict(cpu=_scattered, default=_one_hot_product)
    return lax.platform_dependent(*arguments, **{k: functools.partial(f, classes=classes) for k, f in forms.items()})


def _one_hot_product(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
    rows, columns = (jax.nn.one_hot(ids, classes, dtype=jnp.int8) for ids in (label, prediction))
    return lax.dot_general(rows, columns, (((0,), (0,)), ((), ())), preferred_element_type=jnp.int32)


def _scattered(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
    known = (label >= 0) & (label < classes) & (prediction >= 0) & (prediction < classes)
    places = jnp.where(known, label.astype(jnp.int32) * classes + prediction, classes**2)
    return jnp.zeros(classes**2, jnp.int32).at[places].add(1, mode="drop").reshape(classes, classes)


def count(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray, classes: int) -> np.ndarray:
    """`confusion` on the host: int64 [classes, classes]."""
    pairs = label[valid].astype(np.int64) * classes + prediction[valid]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def top_k_counts(logits: jax.Array, label: jax.Array, valid: jax.Array, ks: Sequence[int] = (1, 5)) -> jax.Array:
    """Correct-in-top-k counts: float [b, c], int [b], bool [b] -> int32 [len(ks)].

    The rank of the true class is the number of classes with a larger logit; ties count for the lower class index, as
    in argmax.
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=-1)
    earlier = jnp.arange(logits.shape[-1]) < label[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & earlier), axis=-1)
    # NaN logits compare False everywhere, which would rank them first.
    rank = jnp.where(jnp.isnan(logits).any(-1), logits.shape[-1], rank)
    return jnp.stack([jnp.sum(valid & (rank < k)) for k in ks]).astype(jnp.int32)


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of a confusion matrix, or of several [...]; shares in [0, 1]. Per-class arrays are float64 [..., classes], means
    float64 [...] (a float of one matrix), NaN where undefined."""

    iou: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    miou: Any
    mf1: Any
    macc: Any
    oa: Any


def segmentation_scores(counts: np.ndarray, scored: Sequence[int], absent: str = "skip") -> SegmentationScores:
    """Scores from confusion counts [..., classes, classes] (row: truth, column: prediction).

    scored: class ids averaged in mIoU, mF1 and mAcc. absent: a scored class with neither truth nor prediction is left
    out of the averages ("skip", RTFNet and mmsegmentation) or counts as 0 ("zero", CRM). mAcc is the mean recall over
    scored classes that occur in the truth. OA covers all classes. IoU = TP / (TP + FP + FN),
    F1 = 2 TP / (2 TP + FP + FN).
    """
    if absent not in ("skip", "zero"):
        raise ValueError(f"absent is '{absent}'; it must be 'skip' or 'zero'")
    counts = np.asarray(counts, np.float64)  # exact below 2^53, where sums of narrow integers would wrap
    hit, truth, predicted = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    iou, f1 = per_class_iou(counts), _ratio(2 * hit, truth + predicted)
    precision, recall = _ratio(hit, predicted), _ratio(hit, truth)

    def mean(values: np.ndarray) -> Any:
        values = values[..., list(scored)]
        seen = np.ones(values.shape, bool) if absent == "zero" else ~np.isnan(values)
        return _ratio(np.nan_to_num(values).sum(-1), seen.sum(-1))

    oa = _ratio(hit.sum(-1), counts.sum((-1, -2)))
    return SegmentationScores(iou, f1, precision, recall, mean(iou), mean(f1), mean(recall), oa)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Any:
    """float64, NaN where the denominator is 0; a float of scalars."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)[()]


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """[..., c, c] counts -> float [..., c] in [0, 1]; NaN where a class is in neither truth nor prediction."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(hit, confusion.sum(-1) + confusion.sum(-2) - hit)


def scene_means(counts: np.ndarray, scored: Sequence[int]) -> np.ndarray:
    """int [s, c, c] -> float [s]: each scene's mean IoU over the scored classes that it has, in truth or prediction; NaN
    where it has none."""
    each = per_class_iou(counts)[:, list(scored)]
    seen = (~np.isnan(each)).sum(1)
    return np.where(seen > 0, np.nansum(each, axis=1) / np.maximum(seen, 1), np.nan)
