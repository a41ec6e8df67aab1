"""The first layer's kernel for another number of bands."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genseg.errors import UserError
from genseg.nets.initializers import weight_init

RULES = ("exact", "universal", "repeat", "mean", "zero", "random")


def inflate_stem(kernel: jax.Array, channels: int, rule: str, key: jax.Array | None = None) -> jax.Array:
    """A stem kernel [kh kw m out] rewritten for images of n = `channels` bands: [kh kw n out], same dtype.

    With n = m every rule returns the kernel unchanged, but `mean`, which still averages. Else:
      exact: refused.
      universal: for a stem trained for several channel counts up to m (`csp.draw_mixed_orders`): n < m takes the first n
        bands times sqrt(m/n), which is what training did with n channels; n > m is `repeat`.
      repeat: band i takes source band i mod m, times m/n (timm/models/_manipulate.py `adapt_input_conv`). The response to
        equal bands is unchanged where m divides n; elsewhere the bands that occur once more weigh a little more.
      mean: every band takes the mean over the source bands, times m/n. The response to equal bands is unchanged.
      zero: the first min(m, n) bands stay as they are, further ones are zero.
      random: the first min(m, n) bands stay as they are, further ones are drawn from normal(0.02), with `key`.

    Raises:
      UserError: an unknown rule, or `exact` with n != m.
      ValueError: `random` without a key where bands must be drawn.
    """
    height, width, source, outputs = kernel.shape
    kept = kernel[:, :, : min(source, channels)]
    missing = (height, width, max(channels - source, 0), outputs)
    if rule == "exact":
        if channels != source:
            raise UserError(
                f"the stem has {source} input channels and {channels} are wanted; choose a rule other than 'exact' "
                f"({', '.join(RULES[1:])})"
            )
        return kernel
    if rule == "universal" and channels < source:
        return kept * jnp.asarray((source / channels) ** 0.5, kernel.dtype)
    if rule in ("repeat", "universal"):
        return kernel[:, :, jnp.arange(channels) % source] * (source / channels)
    if rule == "mean":
        return jnp.repeat(kernel.mean(2, keepdims=True), channels, 2) * (source / channels)
    if rule == "zero":
        return jnp.concatenate([kept, jnp.zeros(missing, kernel.dtype)], 2)
    if rule == "random":
        if missing[2] == 0:
            return kept
        if key is None:
            raise ValueError("rule 'random' needs a random key to draw the further bands")
        return jnp.concatenate([kept, weight_init(key, missing, kernel.dtype)], 2)
    raise UserError(f"stem rule '{rule}' is not known; choose one of {', '.join(RULES)}")
