"""What a network sees of an image's bands, beyond their order: band_k = curve_k(sum_c W[k, c] source_c), drawn per image.

CSP (`genseg.csp`) has rows W[k] with a single 1, and no curves. Its copies of R, G and B are strongly correlated; thermal,
near infrared and height are not, change gain by material and may be reversed in contrast. Each switch breaks one of these
habits, on source values in [0, 1]:

  mix     w_c ~ Beta(b, b) over their sum, a row a band: mostly near one channel, sometimes a blend. Tan et al. 2024
          (NeurIPS, arXiv 2411.01225), "MRLE", b = 0.3.
  local   in a rectangle each band times its own factor a_max Beta(0.4, 0.4), a_max the largest that does not clip; again
          with another rectangle until some band's cumulative factor is below 0.1. Same paper, "RRLE".
  curve   x^g, g = 2^U(-c, c), of each band. With `invert`: 1 - x. After MLST (arXiv 2212.12824) and XoFTR (2404.09692).
  drop    k ~ uniform {1 .. n} bands are kept, the others 0, times n / k. ChannelViT's hierarchical channel sampling
          (Bao et al. 2024, arXiv 2309.16108).

All of it runs on the accelerator, and is elementwise in the batch: no host time and no collective.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.recipes.shared import Bands

OFF = Bands()

LOCAL_AREA = (0.02, 0.4)  # of a rectangle, as a share of the image
LOCAL_ASPECT = 0.3  # smallest height over width; the largest is its inverse
LOCAL_BETA = 0.4
LOCAL_DARK = 0.1  # a cumulative factor below this ends the repetition
LOCAL_ROUNDS = 8
"""Most rectangles of an image: a loop that runs until all images are done would have to ask all devices."""


def of(config: ConfigDict) -> Bands:
    """From config.csp, which has further keys in each task."""
    return Bands(**{field.name: config[field.name] for field in dataclasses.fields(Bands)})


def check(wanted: Bands, card: DatasetCard, mix: float = 0.0) -> None:
    """Raises UserError where the values have no known range."""
    if (wanted.on or mix) and card.dtype != "uint8":
        raise UserError(
            f"config.csp.mix, local, curve and invert are for values of 0 to 255 and {card.name} has {card.dtype}; "
            "switch them off, or store it as 8 bits"
        )


def per_image(key: jax.Array, batch: int) -> jax.Array:
    """Keys [batch], folded from an image's place: each device makes only those of its own images."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))


def beta(key: jax.Array, spread: float, shape: tuple[int, ...]) -> jax.Array:
    """Beta(spread, spread), float32 `shape`: the inverse of its distribution function, linear between 4097 places of it.

    `jax.random.beta` draws until it accepts, which under a sharded batch asks all devices whether they are done.
    """
    from scipy.stats import beta as distribution

    places = np.linspace(0, 1, 4097)
    table = jnp.asarray(distribution.ppf(places, spread, spread), jnp.float32)
    along = jax.random.uniform(key, shape) * (len(places) - 1)
    below = jnp.minimum(along.astype(jnp.int32), len(places) - 2)
    return table[below] + (along - below) * (table[below + 1] - table[below])


def draw_weights(key: jax.Array, order: jax.Array, source: int, spread: float) -> jax.Array:
    """Rows of `mix` for the places of `order` int32 [b, n] that are used (not -1): float32 [b, source, n], sums 1 or 0.

    spread: b of Beta(b, b), above 0.
    """
    batch, channels = order.shape
    draw = jax.vmap(lambda k: beta(k, spread, (source, channels)))
    weights = draw(per_image(key, batch))
    weights /= jnp.maximum(weights.sum(1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    return jnp.where((order >= 0)[:, None], weights, 0.0)


@jax.named_scope("bands")
def see(
    source: jax.Array, key: jax.Array, settings: Bands, *, mean: jax.Array, std: jax.Array,
    weights: jax.Array | None = None, chosen: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """Normalised bands after blend, rectangles and curves: float [b, h, w, m] in [0, 1] -> float32 [b, h, w, n].

    Each band is normalised by the statistics of what it is a blend of, its centre taken through its curve. For one-hot
    weights, and without curves, that is the source channels' own normalisation.

    Args:
      mean, std: of the source channels, in the same units [m].
      weights: float32 [b, m, n], or None: the bands are the source channels.
      chosen: bool [n], which bands rectangles and curves are for; None: all.
    """
    if weights is None:
        image, centre, scale = source, jnp.broadcast_to(mean, (len(source), len(mean))), jnp.asarray(std)
        scale = jnp.broadcast_to(scale, centre.shape)
    else:
        highest = jax.lax.Precision.HIGHEST  # a one-hot product must copy float32 pixels
        image = jnp.einsum("bhwm,bmn->bhwn", source, weights, precision=highest)
        centre, scale = (jnp.einsum("m,bmn->bn", x, weights, precision=highest) for x in (mean, std))
    chosen = jnp.ones(image.shape[-1], bool) if chosen is None else jnp.asarray(chosen)
    local_key, curve_key = jax.random.split(key)
    if settings.local > 0:
        draw = jax.vmap(lambda x, k: dim_rectangles(x, k, settings.local, chosen))
        image = draw(image, per_image(local_key, len(image)))
    if settings.curve > 0 or settings.invert > 0:
        gamma, negative = jax.vmap(lambda k: draw_curves(k, settings, image.shape[-1]))(
            per_image(curve_key, len(image))
        )
        gamma, negative = jnp.where(chosen, gamma, 1.0), negative & chosen
        image = bend(image, gamma[:, None, None], negative[:, None, None])
        centre = bend(centre, gamma, negative)
    return (image - centre[:, None, None]) / jnp.where(scale > 0, scale, 1.0)[:, None, None]


def draw_curves(key: jax.Array, settings: Bands, channels: int) -> tuple[jax.Array, jax.Array]:
    """Exponents float32 [channels] and whether each band is reversed, bool [channels]."""
    gamma_key, invert_key = jax.random.split(key)
    gamma = 2 ** jax.random.uniform(gamma_key, (channels,), minval=-settings.curve, maxval=settings.curve)
    return gamma, jax.random.uniform(invert_key, (channels,)) < settings.invert


def bend(x: jax.Array, gamma: jax.Array, negative: jax.Array) -> jax.Array:
    """x^gamma, or 1 - x^gamma, of values in [0, 1]."""
    bent = jnp.where(gamma == 1, x, jnp.clip(x, 0, 1) ** gamma)
    return jnp.where(negative, 1 - bent, bent)


def dim_rectangles(image: jax.Array, key: jax.Array, prob: float, chosen: jax.Array) -> jax.Array:
    """`local` of one image, with probability `prob`: float [h, w, n] in [0, 1] -> the same."""
    on_key, round_key = jax.random.split(key)
    height, width, channels = image.shape

    def once(carry, k):
        pixels, product, active = carry
        area_key, aspect_key, y_key, x_key, factor_key = jax.random.split(k, 5)
        area = jax.random.uniform(area_key, (), minval=LOCAL_AREA[0], maxval=LOCAL_AREA[1]) * height * width
        limit = jnp.log(1 / LOCAL_ASPECT)
        aspect = jnp.exp(jax.random.uniform(aspect_key, (), minval=-limit, maxval=limit))
        # A side that does not fit is the image's: with areas up to 40 % that is rare.
        box_h = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, height).astype(jnp.int32)
        box_w = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, width).astype(jnp.int32)
        top = jax.random.randint(y_key, (), 0, height - box_h + 1)
        left = jax.random.randint(x_key, (), 0, width - box_w + 1)
        rows, cols = jnp.arange(height), jnp.arange(width)
        box = ((rows >= top) & (rows < top + box_h))[:, None] & ((cols >= left) & (cols < left + box_w))[None, :]
        brightest = jnp.max(jnp.where(box[..., None], pixels, 0.0), axis=(0, 1))
        most = jnp.where(brightest > 0, 1 / jnp.maximum(brightest, 1e-6), 1.0)  # a black band has no largest factor
        factor = most * beta(factor_key, LOCAL_BETA, (channels,))
        factor = jnp.where(active & chosen, factor, 1.0)
        pixels = jnp.where(box[..., None], jnp.minimum(pixels * factor, 1.0), pixels)
        product = product * factor
        return (pixels, product, active & (jnp.min(product) >= LOCAL_DARK)), None

    start = (image, jnp.ones(channels), jax.random.uniform(on_key) < prob)
    (image, _, _), _ = jax.lax.scan(once, start, jax.random.split(round_key, LOCAL_ROUNDS))
    return image


@jax.named_scope("drop_bands")
def drop(image: jax.Array, key: jax.Array, used: jax.Array, chosen: jax.Array | None = None) -> jax.Array:
    """Keeps k of an image's n used bands, the others 0, times n / k: float [b, h, w, c] normalised -> the same.

    k is uniform over {1 .. n}. Where `chosen` leaves bands out, these stay, and k of them and all chosen ones are kept,
    uniform from none of the chosen ones to all.

    Args:
      used: bool [b, c]: bands that are there at all (`csp.draw_mixed_orders`).
      chosen: bool [c]: the bands that may be dropped; None: all.
    """
    batch, channels = used.shape
    chosen = jnp.ones(channels, bool) if chosen is None else jnp.asarray(chosen)

    def keep(key, used):
        count_key, rank_key = jax.random.split(key)
        may_go, stays = used & chosen, used & ~chosen
        least = jnp.where(stays.any(), 0, 1)
        k = jax.random.randint(count_key, (), least, may_go.sum() + 1)
        lot = jnp.where(may_go, jax.random.uniform(rank_key, (channels,)), 2.0)
        kept = (stays | (may_go & (jnp.argsort(jnp.argsort(lot)) < k))).astype(image.dtype)
        return kept * used.sum() / kept.sum()

    return image * jax.vmap(keep)(per_image(key, batch), used)[:, None, None]
