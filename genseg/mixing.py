"""Mixup, CutMix and random erasing on the accelerator.

Source: timm `data/mixup.py` (mode "batch") and `data/random_erasing.py` (mode "pixel"), as ConvNeXt and Swin use them.
timm mixes image i with image b-1-i of one GPU's batch. Here neighbours (0 with 1, 2 with 3, ...) are mixed: batches are
shuffled, so the distribution is the same, but neighbours always lie in one device's shard. Images therefore never
cross devices, and the result does not depend on how many devices there are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genseg.recipes.pretrain import Erasing, Mixing


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
