"""Mixup, CutMix and random erasing on the accelerator.

Source: timm `data/mixup.py` (mode "batch") and `data/random_erasing.py` (mode "pixel"), as ConvNeXt and Swin use them.
timm mixes image i with image b-1-i of one GPU's batch. Here neighbours (0 with 1, 2 with 3, ...) are mixed: batches are
shuffled, so the distribution is the same, but neighbours always lie in one device's shard. Images therefore never
cross devices, and the result does not depend on how many devices there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from genseg.errors import UserError


@dataclass(frozen=True)
class Mixing:
    """Mixup/CutMix settings; the published values are the defaults (ConvNeXt and Swin, ImageNet-1K).

    mixup, cutmix: alpha of the Beta distribution, 0 switches it off; prob: share of groups that are mixed at all;
    switch_prob: share of CutMix where both are on; group: images that share one draw (timm: the batch of one GPU).
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    group: int = 128

    def __post_init__(self):
        if min(self.mixup, self.cutmix) < 0 or not all(0 <= p <= 1 for p in (self.prob, self.switch_prob)):
            raise UserError(f"config.mixing: {self}; mixup and cutmix are at least 0, prob and switch_prob 0 to 1")
        if self.group < 2 or self.group % 2:
            raise UserError(f"config.mixing.group is {self.group}; pairs of images share a draw: give an even number")

    @property
    def on(self) -> bool:
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


@dataclass(frozen=True)
class Erasing:
    """Random erasing: probability, area range (share of the image), aspect range, tries (timm's defaults)."""

    prob: float = 0.25
    min_area: float = 0.02
    max_area: float = 1 / 3
    min_aspect: float = 0.3
    tries: int = 10

    def __post_init__(self):
        if not (
            0 <= self.prob <= 1 and 0 < self.min_area <= self.max_area <= 1 and 0 < self.min_aspect <= 1 <= self.tries
        ):
            raise UserError(
                f"config.erasing: {self}; prob is 0 to 1, 0 < min_area <= max_area <= 1, min_aspect above 0 and up to 1, "
                "tries at least 1"
            )


@jax.named_scope("mixing")
def mix(image: jax.Array, target: jax.Array, key: jax.Array, settings: Mixing) -> tuple[jax.Array, jax.Array]:
    """Mixes neighbouring images and their soft targets: float [b, h, w, c], float [b, k] -> the same shapes.

    Raises ValueError for an odd batch.
    """
    batch, height, width, _ = image.shape
    if batch % 2:
        raise ValueError(f"mixing pairs neighbouring images: the batch of {batch} is odd")
    groups = -(-batch // settings.group)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(groups))
    masks, shares = jax.vmap(lambda k: _draw(k, height, width, settings))(keys)
    # Taken by index: jnp.repeat would gather its bookkeeping from all devices.
    group = jnp.arange(batch) // settings.group
    masks, shares = masks[group][..., None].astype(image.dtype), shares[group][:, None].astype(target.dtype)
    return masks * image + (1 - masks) * _neighbour(image), shares * target + (1 - shares) * _neighbour(target)


def _neighbour(x: jax.Array) -> jax.Array:
    """Row i -> row i XOR 1."""
    return jnp.flip(x.reshape(x.shape[0] // 2, 2, *x.shape[1:]), axis=1).reshape(x.shape)


def _draw(key: jax.Array, height: int, width: int, settings: Mixing) -> tuple[jax.Array, jax.Array]:
    """One draw: weight of the image itself per pixel, float32 [h, w], and its share of the target, float32 []."""
    on_key, switch_key, mixup_key, cutmix_key, y_key, x_key = jax.random.split(key, 6)
    both = settings.mixup > 0 and settings.cutmix > 0
    cutmix_prob = settings.switch_prob if both else float(settings.cutmix > 0)
    is_cutmix = jax.random.uniform(switch_key) < cutmix_prob
    mixup_share = jax.random.beta(mixup_key, settings.mixup, settings.mixup) if settings.mixup > 0 else jnp.float32(1)
    cutmix_share = jax.random.beta(cutmix_key, settings.cutmix, settings.cutmix) if settings.cutmix > 0 else 1.0

    # CutMix: a box of relative area 1 - share around a uniform centre, clipped to the image; share corrected to it. Sides
    # are even, as in the timm that the recipes were trained with (0.3.2, 0.4.12); timm 1.0.31 keeps odd ones.
    side = jnp.sqrt(1 - cutmix_share)
    box_h, box_w = (height * side).astype(jnp.int32), (width * side).astype(jnp.int32)
    y, x = jax.random.randint(y_key, (), 0, height), jax.random.randint(x_key, (), 0, width)
    rows, cols = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= y - box_h // 2) & (rows < y + box_h // 2)
    in_cols = (cols >= x - box_w // 2) & (cols < x + box_w // 2)
    outside = 1.0 - (in_rows[:, None] & in_cols[None, :])

    on = jax.random.uniform(on_key) < settings.prob
    mask = jnp.where(on, jnp.where(is_cutmix, outside, mixup_share), 1.0)
    share = jnp.where(on, jnp.where(is_cutmix, outside.mean(), mixup_share), 1.0)
    return mask, share


@jax.named_scope("erasing")
def erase(image: jax.Array, key: jax.Array, settings: Erasing) -> jax.Array:
    """Replaces a random box of some images by N(0, 1) noise per pixel and channel; float [b, h, w, c], normalised.

    A box that does not fit is drawn again, at most `tries` times, as in timm; then the image stays as it is.
    """
    batch, height, width, channels = image.shape
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))

    def one(pixels, k):
        on_key, area_key, aspect_key, y_key, x_key, noise_key = jax.random.split(k, 6)
        tries = (settings.tries,)
        area = jax.random.uniform(area_key, tries, minval=settings.min_area, maxval=settings.max_area) * height * width
        limit = jnp.log(1 / settings.min_aspect)
        aspect = jnp.exp(jax.random.uniform(aspect_key, tries, minval=-limit, maxval=limit))
        box_h = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
        box_w = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
        fits = (box_h < height) & (box_w < width)
        first = jnp.argmax(fits)
        box_h, box_w = box_h[first], box_w[first]
        top = jax.random.randint(y_key, (), 0, jnp.maximum(height - box_h, 0) + 1)
        left = jax.random.randint(x_key, (), 0, jnp.maximum(width - box_w, 0) + 1)
        rows, cols = jnp.arange(height), jnp.arange(width)
        box = ((rows >= top) & (rows < top + box_h))[:, None] & ((cols >= left) & (cols < left + box_w))[None, :]
        box &= fits.any() & (jax.random.uniform(on_key) < settings.prob)
        noise = jax.random.normal(noise_key, (height, width, channels), pixels.dtype)
        return jnp.where(box[..., None], noise, pixels)

    return jax.vmap(one)(image, keys)
