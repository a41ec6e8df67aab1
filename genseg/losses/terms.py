"""From config.loss to one function: a weighted sum of terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from genseg.errors import UserError
from genseg.losses import cross_entropy, outlines, regions

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(logits [b, h, w, k], label [b, h, w], valid [b, h, w]) -> float32 []: a sum over valid pixels."""

FUNCTIONS: dict[str, Loss] = {
    "cross_entropy": cross_entropy.pixel_cross_entropy_sum,
    "focal": cross_entropy.focal_sum,
    "hard_pixels": cross_entropy.hard_pixels_sum,
    "border_cross_entropy": cross_entropy.border_cross_entropy_sum,
    "dice": regions.dice_sum,
    "lovasz": regions.lovasz_sum,
    "boundary_f1": outlines.boundary_f1_sum,
    "active_boundary": outlines.active_boundary_sum,
}


def terms(loss: Mapping[str, Any], classes: int) -> dict[str, Loss]:
    """Every term with its fields from config.loss. Raises UserError for class weights that are not one a class."""
    weights = tuple(loss["class_weights"])
    if weights and len(weights) != classes:
        raise UserError(f"config.loss.class_weights has {len(weights)} numbers for {classes} classes; give one a class")
    shared = {"cross_entropy": {"smoothing": loss["smoothing"], "weights": weights}, "focal": {"weights": weights}}
    return {
        name: partial(function, **{k: v for k, v in loss[name].items() if k != "weight"}, **shared.get(name, {}))
        for name, function in FUNCTIONS.items()
    }


def weighted(parts: Mapping[str, Loss], weights: Mapping[str, float], section: str) -> Loss:
    """The sum of the terms whose weight is not 0. Raises UserError if there is none."""
    used = [(parts[name], weight) for name, weight in weights.items() if weight]
    if not used:
        raise UserError(f"every weight of {section} is 0; give one of {', '.join(FUNCTIONS)} a weight above 0")

    def total(logits: jax.Array, label: jax.Array, valid: jax.Array) -> jax.Array:
        values = [term(logits, label, valid) * weight for term, weight in used]
        return sum(values[1:], values[0])

    return total


def main_weights(loss: Mapping[str, Any]) -> dict[str, float]:
    return {name: loss[name]["weight"] for name in FUNCTIONS}


def describe(weights: Mapping[str, float]) -> str:
    """ "cross_entropy + 0.5 dice"."""
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items() if weight)
