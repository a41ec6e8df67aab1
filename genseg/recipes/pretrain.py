"""Every key of pre-training: classification of n-channel images made from a data set's own channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from genseg.data.augment.randaugment import RandAugment
from genseg.errors import UserError
from genseg.keys import DIFFERENT, EVEN, RISING, Rule, above, at_least, each, enforce, key, one_of, within
from genseg.recipes import shared
from genseg.recipes.resolve import resolve


@dataclass(frozen=True, kw_only=True)
class Augment:
    """config.augment: on the host, before the batch."""

    size: int = key(..., "side of training images, pixels", at_least(1))
    eval_size: int = key(..., "side of evaluation images, pixels", at_least(1))
    scale: tuple[float, float] = key(
        (0.08, 1.0), "range of a random crop's share of the image", each(within(0, 1, above=True)), RISING
    )
    ratio: tuple[float, float] = key(
        (3 / 4, 4 / 3), "range of a random crop's width over height", each(above(0)), RISING
    )
    interpolation: str = key(
        "bicubic", "of both resizes; bicubic: Pillow's, as published; area: OpenCV's",
        one_of("area", "bilinear", "bicubic"),
    )  # fmt: skip
    horizontal_flip: float = key(0.5, "probability", within(0, 1))
    vertical_flip: float = key(0.0, "probability", within(0, 1))
    rand_augment: RandAugment
    eval_crop_share: float = key(
        0.875, "side of evaluation's central crop over the resized image's shorter side", within(0, 1, above=True)
    )


@dataclass(frozen=True, kw_only=True)
class Csp(shared.Bands):
    """config.csp: see genseg/csp.py and, for what goes beyond the order of channels, genseg/bands.py."""

    objective: str = key(
        "csp", "csp: Channel Shuffling Pre-training; rgb: the source channels as they are (the paper's IM-RGB)",
        one_of("csp", "rgb"),
    )  # fmt: skip
    channels: int | tuple[int, ...] = key(
        4,
        "n, the network's input channels; several: one network for all of them",
        Rule("at least one", lambda counts: counts != ()),
        each(at_least(1)),
        DIFFERENT,
    )
    fill: str = key(
        "random", "where the n mod m further channels come from: drawn for each image, or the first ones",
        one_of("random", "cyclic"),
    )  # fmt: skip
    per: str = key("image", "an order for every image, or one for the whole batch", one_of("image", "batch"))
    mix: float = key(
        0.0, "b of Beta(b, b), the weights of R, G and B in each band; 0 = one of them alone; published: 0.3", at_least(0),
        before=0.0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Model(shared.Model):
    """config.model: backbone and classifier."""

    head_init_scale: float = key(1.0, "factor on the linear layer's initial weights", above(0))


@dataclass(frozen=True)
class Mixing:
    """config.mixing: mixup and CutMix as published with ConvNeXt and Swin for ImageNet-1K, which are the defaults."""

    mixup: float = key(0.8, "alpha of mixup's Beta distribution; 0 = off", at_least(0))
    cutmix: float = key(1.0, "alpha of CutMix's Beta distribution; 0 = off", at_least(0))
    prob: float = key(1.0, "share of groups that are mixed at all", within(0, 1))
    switch_prob: float = key(0.5, "share of CutMix where both are on", within(0, 1))
    group: int = key(128, "images that share a draw: the batch of one of the published runs' GPUs", at_least(2), EVEN)

    def __post_init__(self):
        enforce(self, "mixing")

    @property
    def on(self) -> bool:
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


@dataclass(frozen=True)
class Erasing:
    """config.erasing: random erasing (timm's defaults)."""

    prob: float = key(0.25, "of each image", within(0, 1))
    min_area: float = key(0.02, "smallest box as a share of the image", within(0, 1, above=True))
    max_area: float = key(1 / 3, "largest box as a share of the image", within(0, 1, above=True))
    min_aspect: float = key(
        0.3, "smallest height over width of a box; the largest is its inverse", within(0, 1, above=True)
    )
    tries: int = key(10, "boxes drawn until one fits into the image", at_least(1))

    def __post_init__(self):
        enforce(self, "erasing")
        if self.min_area > self.max_area:
            raise UserError(
                f"config.erasing.min_area is {self.min_area} and max_area {self.max_area}: give the smaller first"
            )


@dataclass(frozen=True, kw_only=True)
class Loss:
    """config.loss: cross-entropy with soft targets."""

    smoothing: float = key(
        0.1, "label smoothing: share of the target spread over all classes", within(0, 1, below=True)
    )


@dataclass(frozen=True, kw_only=True)
class Eval(shared.Eval):
    """config.eval: top-1 and top-5 in several channel orders."""

    orders: tuple[str, ...] = key(
        ("fixed", "permuted", "reversed"), "channel orders; fixed is the score",
        each(one_of("fixed", "permuted", "reversed")), Rule("with fixed among them", lambda orders: "fixed" in orders),
    )  # fmt: skip
    permutations: int = key(1, "random orders of each image that permuted is averaged over", at_least(1))


@dataclass(frozen=True, kw_only=True)
class Config(shared.Config):
    """A pre-training config."""

    task: str = key("pretrain", "which of the two tasks", one_of("pretrain"))
    augment: Augment
    csp: Csp
    model: Model
    mixing: Mixing
    erasing: Erasing
    loss: Loss
    eval: Eval


def config(*parts: Mapping[str, Any], **sections: Any) -> ConfigDict:
    """The whole config of a pre-training job: the sections' keys that it sets, and the definitions' values for all else.

    parts: {section: {key: value}} of values that several jobs share; `sections` stand above them.
    Raises UserError naming a key that is unknown, misses its value, or has one of another type or out of range.
    """
    return resolve(Config, *parts, sections)
