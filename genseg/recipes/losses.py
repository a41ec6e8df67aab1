"""The terms of segmentation's loss: each a weight, 0 for none, and fields of its own. docs/losses.md says what each does."""

from __future__ import annotations

from dataclasses import dataclass

from genseg.keys import Rule, above, at_least, key, within

ODD = Rule("of at least 1 and odd", lambda value: value >= 1 and value % 2 == 1)


def _weight(name: str, default: float = 0.0) -> float:
    return key(default, f"weight of {name} in the sum", at_least(0), before=default)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """config.loss.cross_entropy: smoothing and class weights are config.loss's own."""

    weight: float = _weight("cross-entropy", 1.0)


@dataclass(frozen=True, kw_only=True)
class Focal:
    """config.loss.focal: with config.loss's class weights."""

    weight: float = _weight("the focal loss")
    gamma: float = key(2.0, "power of 1 - p", at_least(0), before=2.0)


@dataclass(frozen=True, kw_only=True)
class HardPixels:
    """config.loss.hard_pixels: online hard example mining, of each image."""

    weight: float = _weight("the hard pixels' mean cross-entropy")
    threshold: float = key(
        0.7,
        "probability of the true class below which a pixel is hard",
        within(0, 1, above=True, below=True),
        before=0.7,
    )
    kept: float = key(0.0625, "share of an image's pixels that is kept at least", within(0, 1), before=0.0625)


@dataclass(frozen=True, kw_only=True)
class BorderCrossEntropy:
    """config.loss.border_cross_entropy."""

    weight: float = _weight("cross-entropy with borders weighted")
    distance: int = key(3, "how far from another class a pixel is at the border, pixels", at_least(1), before=3)
    factor: float = key(4.0, "what a pixel at the border weighs beside the 1 of all", at_least(0), before=4.0)


@dataclass(frozen=True, kw_only=True)
class Dice:
    """config.loss.dice."""

    weight: float = _weight("the Dice loss")
    smooth: float = key(1.0, "added to both sides of the ratio", above(0), before=1.0)
    exponent: float = key(2.0, "of the probabilities in the denominator", at_least(1), before=2.0)


@dataclass(frozen=True, kw_only=True)
class Lovasz:
    """config.loss.lovasz."""

    weight: float = _weight("Lovasz-softmax")


@dataclass(frozen=True, kw_only=True)
class BoundaryF1:
    """config.loss.boundary_f1."""

    weight: float = _weight("the boundary F1 loss")
    width: int = key(3, "window of the max-pool that finds outlines, pixels", ODD, before=3)
    tolerance: int = key(5, "window within which outlines match, pixels", ODD, before=5)


@dataclass(frozen=True, kw_only=True)
class ActiveBoundary:
    """config.loss.active_boundary."""

    weight: float = _weight("the active boundary loss")
    share: float = key(
        0.01, "of an image's pixels that count as predicted outline", within(0, 1, above=True), before=0.01
    )
    smoothing: float = key(0.2, "label smoothing over the eight directions", within(0, 1, below=True), before=0.2)
    reach: float = key(20.0, "distance to the true outline from which on the weight is full", above(0), before=20.0)


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """config.loss.aux: weights of the same terms, with the same fields, in the auxiliary head's loss, which counts
    config.loss.aux_weight times."""

    cross_entropy: float = _weight("cross-entropy", 1.0)
    focal: float = _weight("the focal loss")
    hard_pixels: float = _weight("the hard pixels' mean cross-entropy")
    border_cross_entropy: float = _weight("cross-entropy with borders weighted")
    dice: float = _weight("the Dice loss")
    lovasz: float = _weight("Lovasz-softmax")
    boundary_f1: float = _weight("the boundary F1 loss")
    active_boundary: float = _weight("the active boundary loss")
