"""Scores' counts of class maps: confusion matrices beside torchmetrics, counts of borders beside SciPy's distance transform."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator

import jax
import measure
import numpy as np
from scipy import ndimage

from genseg import border_scores, metrics

CLASSES, IGNORE = 16, 255
IMAGES, SIDE, BORDER_SIDE = 8, 512, 256
NOTES: list[str] = []


def maps(images: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with smooth regions and a tenth ignored, and a prediction that is the truth moved by three pixels: int32."""
    rng = np.random.default_rng(0)
    label = np.stack([
        np.stack([ndimage.zoom(rng.normal(size=(side // 16, side // 16)), 16, order=1) for _ in range(CLASSES)]).argmax(0)
        for _ in range(images)
    ]).astype(np.int32)  # fmt: skip
    prediction = np.roll(label, 3, axis=2)
    label[:, : side // 10] = IGNORE
    return prediction, label


def confusion() -> measure.Case:
    prediction, label = maps(IMAGES, SIDE)
    on_device = jax.jit(metrics.confusion, static_argnums=3)
    arrays = jax.device_put((prediction, label, label != IGNORE))
    sides = {
        "genseg, on the device": lambda: np.asarray(on_device(*arrays, CLASSES)),
        "genseg, on the host": lambda: metrics.count(prediction, label, label != IGNORE, CLASSES),
    }
    if importlib.util.find_spec("torchmetrics"):
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        tensors = torch.from_numpy(prediction), torch.from_numpy(label)
        sides["torchmetrics"] = lambda: multiclass_confusion_matrix(*tensors, CLASSES, ignore_index=IGNORE).numpy()
    else:
        NOTES.append("torchmetrics is not installed, so not timed.")

    def same() -> str:
        first, *others = (side() for side in sides.values())
        assert all(np.array_equal(first, other) for other in others)
        return "all counts are equal"

    what = f"confusion, {IMAGES} x {SIDE} x {SIDE}, {CLASSES} classes"
    return measure.Case(what, sides, "Mpx/s", "wall", same, amount=IMAGES * SIDE**2 / 1e6, reach="5")


def scipy_borders(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """`border_scores.border_counts` of one image by exact distance transforms, class by class."""

    def within(targets: np.ndarray) -> np.ndarray:
        """Distance to the nearest target."""
        return ndimage.distance_transform_edt(~targets) if targets.any() else np.full(targets.shape, np.inf)

    valid, distances = label != IGNORE, border_scores.DISTANCES
    out = np.zeros((len(border_scores.COUNTS), len(distances), CLASSES), np.int64)
    inner = {c: (valid & (label == c), valid & (prediction == c)) for c in range(CLASSES)}
    away = {c: tuple(within(valid & ~mask) for mask in masks) for c, masks in inner.items()}
    near_any = [np.any([inner[c][0] & (away[c][0] <= d) for c in inner], 0) for d in distances]
    for c, ((g, p), (from_g, from_p)) in enumerate(zip(inner.values(), away.values(), strict=True)):
        outline_g, outline_p = g & (from_g <= 1), p & (from_p <= 1)
        to_g, to_p = within(outline_g), within(outline_p)
        for k, d in enumerate(distances):
            band_g, band_p = g & (from_g <= d), p & (from_p <= d)
            flags = (band_g, band_p, band_g & band_p, outline_g & (to_p <= d), outline_p & (to_g <= d),
                     g & p & near_any[k], p & near_any[k])  # fmt: skip
            out[:, k, c] = [np.count_nonzero(flag) for flag in flags]
    return out


def borders() -> measure.Case:
    prediction, label = maps(1, BORDER_SIDE)
    counted = jax.jit(functools.partial(border_scores.border_counts, classes=CLASSES))
    arrays = jax.device_put((prediction, label, label != IGNORE))
    sides = {
        "genseg": lambda: np.asarray(counted(*arrays)[0]),
        "SciPy": lambda: scipy_borders(prediction[0], label[0]),
    }

    def same() -> str:
        ours, theirs = (side() for side in sides.values())
        assert np.array_equal(ours, theirs)
        return "all counts are equal"

    what = f"borders, {BORDER_SIDE} x {BORDER_SIDE}, {CLASSES} classes"
    return measure.Case(what, sides, "Mpx/s", "wall", same, amount=BORDER_SIDE**2 / 1e6, reach="5")


def cases() -> Iterator[measure.Case]:
    yield confusion()
    yield borders()
