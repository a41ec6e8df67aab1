"""Losses. Each returns a SUM over valid elements; the caller divides by their count over the *global* batch.

Dividing by a per-device or per-microbatch count would weight pixels by where they happened to lie. A loss that is a ratio
over an image (Dice, Lovasz, boundary F1, ...) is taken of each image alone and stands for all its valid pixels: it is
multiplied by their number. So a global batch has the same loss however many devices or microbatches share it.

Segmentation's losses take logits float [b, h, w, k], label int [b, h, w] (anything at invalid pixels, 255 for instance)
and valid bool [b, h, w], compute in float32 and give float32 []. docs/losses.md compares them.
"""

from genseg.losses.cross_entropy import pixel_cross_entropy_sum, soft_cross_entropy_sum, soft_targets

__all__ = ["pixel_cross_entropy_sum", "soft_cross_entropy_sum", "soft_targets"]
