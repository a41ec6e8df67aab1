"""Every key of semantic segmentation with UperNet; its input channels are the bands of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from genseg.keys import DIFFERENT, FILLED, POSITIVE_EACH, RISING, above, at_least, each, key, one_of, within
from genseg.recipes import losses, shared
from genseg.recipes.resolve import merged, resolve


@dataclass(frozen=True, kw_only=True)
class Data(shared.Data):
    """config.data: one data set, or several together."""

    only_bands: tuple[str, ...] = key(
        (), "the bands that are used, by name and in this order, of those that were prepared; () = all", DIFFERENT, before=(),
    )  # fmt: skip
    also: dict[str, dict[str, Any]] = key(
        {}, "further data sets of the same bands and classes, by a name of yours, each with its own 'name' and keys as here, "
        "trained on and scored together with the first; {} = none", before={},
    )  # fmt: skip
    also_weights: dict[str, float] = key(
        {}, "how often a training row is from each, by name (of the first: config.data.name), in any unit; {} = every record "
        "once an epoch", POSITIVE_EACH, before={},
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Augment:
    """config.augment: on the host, before the batch."""

    size: tuple[int, int] = key(..., "height and width of training crops, pixels", each(at_least(1)))
    scale: tuple[float, float] = key((0.5, 2.0), "range of random scaling", each(above(0)), RISING)
    cat_max_ratio: float = key(1.0, "largest share of one class in a crop; 1 = any", within(0, 1, above=True))
    horizontal_flip: float = key(0.5, "probability", within(0, 1))
    vertical_flip: float = key(0.0, "probability", within(0, 1))
    turns: bool = key(False, "quarter turns, for images taken from straight above: they have no up")
    class_crop: float = key(
        0.0,
        "probability of a crop around a pixel of a class drawn evenly from those in the image",
        within(0, 1),
        before=0.0,
    )
    sampling: str = key(
        "even", "every record once an epoch, or class_balanced: a class drawn evenly, then a record that holds it",
        one_of("even", "class_balanced"), before="even",
    )  # fmt: skip
    photometric: bool = key(False, "mmsegmentation's photometric distortion of the bands named red, green and blue")
    eval_multiple: int = key(32, "whole images are padded to a multiple of this at evaluation, pixels", at_least(1))


@dataclass(frozen=True, kw_only=True)
class Csp(shared.Bands):
    """config.csp: what pre-training may do to bands, as augmentation on the accelerator (genseg/bands.py)."""

    names: tuple[str, ...] = key((), "the bands, by name, that these switches are for; () = all", DIFFERENT, before=())


@dataclass(frozen=True, kw_only=True)
class Model(shared.Model):
    """config.model: backbone and heads."""

    head: str = key(
        "upernet", "or linear, one 1 x 1 convolution over the four maps, for probes; it has no auxiliary head",
        one_of("upernet", "linear"), before="upernet",
    )  # fmt: skip
    freeze: str = key(
        "none", "keep the backbone's weights from its stem up to this part; the whole backbone then runs without drop path",
        one_of("none", "stem", "stage_1", "stage_2", "stage_3", "backbone"), before="none",
    )  # fmt: skip
    thaw_every: int = key(
        0, "steps after which the last part that is still frozen is trained too, and so on to the stem; 0 = never",
        at_least(0), before=0,
    )  # fmt: skip
    project: int = key(
        0, "a learned 1 x 1 convolution of the bands to this many channels before the backbone, such as 3; 0 = none",
        at_least(0), before=0,
    )  # fmt: skip
    fusion: str = key(
        "coarse", "how UperNet's convolutions over maps of several sizes are made, equal up to rounding (docs/performance.md): coarse, "
        "each map's share at its own size; resized, as published", one_of("coarse", "resized"), before="coarse",
    )  # fmt: skip
    head_channels: int = key(
        512, "width of the UperNet head (published: 512, most of the time of a small backbone)", at_least(1)
    )
    aux_channels: int = key(256, "width of the auxiliary head (published: 256)", at_least(1))
    dropout: float = key(0.1, "rate of the channel dropout before the logits", within(0, 1, below=True))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """config.loss: a weighted sum of terms, each over valid pixels; docs/losses.md compares them."""

    smoothing: float = key(
        0.0, "label smoothing: share of the target spread over all classes", within(0, 1, below=True)
    )
    aux_weight: float = key(0.4, "weight of the auxiliary head's loss; 0 = no such head", at_least(0))
    class_rule: str = key(
        "none", "class weights of cross_entropy and focal from the training pixels (genseg/losses/class_weights.py)",
        one_of("none", "inverse", "sqrt_inverse", "median_frequency", "effective_number", "enet"), before="none",
    )  # fmt: skip
    class_beta: float = key(
        0.9999, "beta of the rule effective_number", within(0, 1, above=True, below=True), before=0.9999
    )
    class_weights: tuple[float, ...] = key(
        (), "one a class, or () for none; filled in where a class_rule is named", each(at_least(0)), before=()
    )
    cross_entropy: losses.CrossEntropy
    focal: losses.Focal
    hard_pixels: losses.HardPixels
    border_cross_entropy: losses.BorderCrossEntropy
    dice: losses.Dice
    lovasz: losses.Lovasz
    boundary_f1: losses.BoundaryF1
    active_boundary: losses.ActiveBoundary
    aux: losses.Auxiliary


@dataclass(frozen=True, kw_only=True)
class Eval(shared.Eval):
    """config.eval: how images are seen when they are scored."""

    mode: str = key("whole", "whole images, or windows of `crop` every `stride` pixels", one_of("whole", "slide"))
    crop: tuple[int, int] = key(..., "for mode slide: height and width of windows, pixels", each(at_least(1)))
    stride: tuple[int, int] = key(..., "for mode slide: from window to window, pixels", each(at_least(1)))
    blend: str = key("uniform", "for mode slide: weight of scores; hann: less near a border", one_of("uniform", "hann"))
    flip: bool = key(False, "see each image mirrored too, and take the mean")
    scales: tuple[float, ...] = key(
        (1.0,), "see each image at each scale, and take the mean", FILLED, each(within(0, 32, above=True))
    )


@dataclass(frozen=True, kw_only=True)
class Config(shared.Config):
    """A segmentation config."""

    task: str = key("segment", "which of the two tasks", one_of("segment"))
    data: Data
    augment: Augment
    csp: Csp
    model: Model
    loss: Loss
    eval: Eval


DERIVED = {"eval.crop": "`augment.size`", "eval.stride": "half of `eval.crop`"}
"""Keys that a job may leave out though they have no default of their own, and what they then are."""


def config(*parts: Mapping[str, Any], **sections: Any) -> ConfigDict:
    """The whole config of a segmentation job: the sections' keys that it sets, and the definitions' values for all else;
    for windows that are not named those of maps, see `DERIVED`.

    parts: {section: {key: value}} of values that several jobs share; `sections` stand above them.
    Raises UserError naming a key that is unknown, misses its value, or has one of another type or out of range.
    """
    given: dict[str, Any] = {}
    for part in (*parts, sections):
        given = merged(given, part)
    return resolve(Config, _windows(given), given)


def _windows(given: Mapping[str, Any]) -> dict[str, Any]:
    """{"eval": {"crop", "stride"}} of `DERIVED`; {} where what they come from is missing or no pair, which is refused by its
    own name."""
    evaluation, augment = (part if isinstance(part := given.get(k), Mapping) else {} for k in ("eval", "augment"))
    crop = evaluation.get("crop", augment.get("size"))
    if not isinstance(crop, list | tuple) or not all(isinstance(side, int) for side in crop):
        return {}
    return {"eval": {"crop": tuple(crop), "stride": tuple(max(1, side // 2) for side in crop)}}
