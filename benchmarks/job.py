"""A network at work, as both sides of a comparison see it: the same images, labels, weights and learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES, SMOOTHING, RATE, DECAY = 1000, 0.1, 1e-4, 0.05
MEAN, STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of values / 255: ImageNet's, timm IMAGENET_DEFAULT_MEAN and _STD


@dataclass(frozen=True)
class Job:
    """train: forward, label-smoothed cross-entropy, backward and AdamW, else forward alone; without anything random."""

    backbone: str
    size: int
    batch: int
    dtype: str
    train: bool

    @property
    def name(self) -> str:
        what = "training step" if self.train else "inference"
        return f"{self.backbone} {what}, {self.batch} x {self.size} px, {self.dtype}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [b size size 3], int32 [b]."""
        rng = np.random.default_rng(0)
        shape = (self.batch, self.size, self.size, 3)
        return rng.integers(0, 256, shape, np.uint8), rng.integers(0, CLASSES, self.batch).astype(np.int32)


def same(ours: np.ndarray, theirs: np.ndarray, dtype: str) -> str:
    """How far apart the first answers are, relative to the largest value. Raises: AssertionError beyond the bound."""
    apart = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max())
    assert apart < {"float32": 1e-3, "bfloat16": 5e-2}[dtype], f"the answers differ by {apart:.1e}"
    return f"{apart:.0e} apart, relative"
