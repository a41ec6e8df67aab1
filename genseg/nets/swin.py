"""Swin Transformer (Liu et al. 2021, arXiv 2103.14030), for images of any size.

Sources: microsoft/Swin-Transformer models/swin_transformer.py; timm/models/swin_transformer.py, whose order of the
patch merging (rows before columns) and place of the downsampling (start of the next stage) are used here; padding to
the window as in SwinTransformer/Swin-Transformer-Semantic-Segmentation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genseg.nets import attention, drop, initializers, layers, norms, products
from genseg.nets.resizing import pad

EPSILON = 1e-5
WINDOW = 7
FORMS = ("rows", "columns")  # of `Attention`
MASKED = -100.0  # added to the attention logits of pixels that the cyclic shift brought together


def relative_position_index(rows: int, columns: int) -> np.ndarray:
    """[n, n] int, n = rows * columns of a window: row (dy + 6) 13 + dx + 6 of the bias table for each pair of positions."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1


@functools.cache
def shift_mask(sides: tuple[int, int], window: tuple[int, int], shifts: tuple[int, int]) -> np.ndarray:
    """[windows, n, n] float32, n pixels a window: 0 where two pixels of a shifted window were neighbours in the map, MASKED elsewhere.

    `sides` are those of the padded map, multiples of the window's; windows run row by row.
    """

    def regions(length: int, window: int, shift: int) -> np.ndarray:
        position = np.arange(length)
        if shift == 0:
            return np.zeros(length, int)
        return (position >= length - window).astype(int) + (position >= length - shift)

    rows, columns = (regions(*axis) for axis in zip(sides, window, shifts, strict=True))
    region = (3 * rows[:, None] + columns[None, :]).reshape(
        sides[0] // window[0], window[0], sides[1] // window[1], window[1]
    )
    region = region.transpose(0, 2, 1, 3).reshape(-1, window[0] * window[1])
    return np.where(region[:, :, None] == region[:, None, :], 0.0, MASKED).astype(np.float32)


class Stem(nnx.Module):
    """4x4 convolution of stride 4, then LayerNorm; the image is padded with zeros at its end to multiples of 4.

    The published `_init_weights` passes convolutions by, so this one, unlike all other layers, starts as torch made it.
    """

    def __init__(self, channels: int, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        init = initializers.uniform_init(4 * 4 * channels)
        self.conv = layers.patch_conv(channels, features, 4, init=init, bias_init=init, dtype=dtype, rngs=rngs)
        self.norm = norms.layer_norm(features, EPSILON, dtype=dtype, rngs=rngs)

    @jax.named_scope("stem")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(pad(x, 4, 4)))


class Downsample(nnx.Module):
    """Patch merging: the four pixels of each 2x2 patch side by side, LayerNorm, linear to twice the width without bias.

    Order of the four: (0, 0), (1, 0), (0, 1), (1, 1) as (row, column). Odd sizes are padded with zeros at the end.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = norms.layer_norm(4 * features, EPSILON, dtype=dtype, rngs=rngs)
        self.reduction = layers.linear(4 * features, 2 * features, bias=False, dtype=dtype, rngs=rngs)

    @jax.named_scope("downsample")
    def __call__(self, x: jax.Array) -> jax.Array:
        x = pad(x, 2, 2)
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5).reshape(b, h // 2, w // 2, 4 * c)
        return self.reduction(self.norm(x))


class Attention(nnx.Module):
    """Multi-head attention inside windows with a learned bias for each relative position; softmax in float32.

    form: of FORMS; the same up to rounding. "rows": one product for queries, keys and values, a row of scores for each
    query. "columns": three products and `genseg.nets.attention.columns`.
    """

    def __init__(self, features: int, heads: int, *, form: str, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.qkv = layers.linear(features, 3 * features, dtype=dtype, rngs=rngs)
        self.proj = layers.linear(features, features, dtype=dtype, rngs=rngs)
        table = initializers.weight_init(rngs.params(), ((2 * WINDOW - 1) ** 2, heads), jnp.float32)
        self.relative_position_bias_table = nnx.Param(table)
        self.heads = heads
        self.form = form

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array, window: tuple[int, int], mask: np.ndarray | None) -> jax.Array:
        """x [b windows n features], n pixels a window; mask [windows n n] is added to the logits."""
        if self.form == "columns":
            return self.columns(x, window, mask)
        b, windows, n, c = x.shape
        head = c // self.heads
        q, k, v = (y.reshape(b, windows, n, self.heads, head) for y in jnp.split(self.qkv(x), 3, -1))
        logits = jnp.einsum("bwnhd,bwmhd->bwhnm", q * head**-0.5, k, preferred_element_type=jnp.float32)
        bias = self.relative_position_bias_table[...][relative_position_index(*window)]
        logits = logits + bias.transpose(2, 0, 1)
        if mask is not None:
            logits = logits + mask[:, None]
        weights = jax.nn.softmax(logits, -1).astype(v.dtype)
        return self.proj(jnp.einsum("bwhnm,bwmhd->bwnhd", weights, v).reshape(b, windows, n, c))

    def columns(self, x: jax.Array, window: tuple[int, int], mask: np.ndarray | None) -> jax.Array:
        b, windows, n, c = x.shape
        x, kernel, bias = x.astype(self.qkv.dtype), self.qkv.kernel[...], self.qkv.bias[...]

        def part(number: int) -> jax.Array:
            y = products.matmul(x, kernel[:, number * c : (number + 1) * c])
            y = y + products.over(bias[number * c : (number + 1) * c], y)
            return jnp.swapaxes(y, 2, 3).reshape(b, windows, self.heads, c // self.heads, n)

        table = self.relative_position_bias_table[...][relative_position_index(*window).T].transpose(2, 0, 1)
        masked = None if mask is None else jnp.asarray(mask)  # symmetric
        y = attention.columns(part(0) * (c // self.heads) ** -0.5, part(1), part(2), table, masked)
        return self.proj(jnp.swapaxes(y.reshape(b, windows, c, n), 2, 3))


class Block(nnx.Module):
    """Windowed attention and an MLP, each normalised first, with drop path and a residual.

    The map is padded with zeros at its end, after the norm, to multiples of the 7x7 window; a `shifted` block rolls it
    by 3. Along a side of at most 7 pixels the classifier takes the whole side as the window and does not roll
    (models/swin_transformer.py); the segmentation backbone (`always_partition`) pads and rolls every map.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        drop_path: float,
        *,
        shifted: bool,
        always_partition: bool,
        attention: str = "rows",
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = norms.layer_norm(features, EPSILON, dtype=dtype, rngs=rngs)
        self.attn = Attention(features, heads, form=attention, dtype=dtype, rngs=rngs)
        self.norm2 = norms.layer_norm(features, EPSILON, dtype=dtype, rngs=rngs)
        self.mlp = layers.Mlp(features, dtype=dtype, rngs=rngs)
        self.shifted = shifted
        self.always_partition = always_partition
        self.drop_path = drop_path

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        keys = (None, None) if key is None else jax.random.split(key)
        x = x + drop.drop_path(self.attend(self.norm1(x)), self.drop_path, keys[0])
        return x + drop.drop_path(self.mlp(self.norm2(x)), self.drop_path, keys[1])

    def attend(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        partition = [self.always_partition or side > WINDOW for side in (h, w)]
        wh, ww = (WINDOW if split else side for split, side in zip(partition, (h, w), strict=True))
        shifts = tuple(WINDOW // 2 if self.shifted and split else 0 for split in partition)
        x = pad(x, wh, ww)
        height, width = x.shape[1:3]
        mask = shift_mask((height, width), (wh, ww), shifts) if any(shifts) else None
        x = self.roll(x, -shifts[0], -shifts[1]) if any(shifts) else x
        rows, columns = height // wh, width // ww
        x = x.reshape(b, rows, wh, columns, ww, c).transpose(0, 1, 3, 2, 4, 5)
        x = self.attn(x.reshape(b, rows * columns, wh * ww, c), (wh, ww), mask)
        x = x.reshape(b, rows, columns, wh, ww, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, height, width, c)
        x = self.roll(x, *shifts) if any(shifts) else x
        return x[:, :h, :w]

    def roll(self, x: jax.Array, rows: int, columns: int) -> jax.Array:
        if self.attn.form == "columns":
            return attention.roll(x, rows, columns)
        return jnp.roll(x, (rows, columns), (1, 2))


class Stage(nnx.Module):
    """Optional patch merging, then blocks, every second one shifted."""

    def __init__(
        self,
        inputs: int,
        features: int,
        heads: int,
        drop_paths: Sequence[float],
        *,
        always_partition: bool,
        attention: str,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        if inputs != features:
            self.downsample = Downsample(inputs, dtype=dtype, rngs=rngs)
        self.has_downsample = inputs != features
        self.blocks = nnx.List(
            [
                Block(
                    features,
                    heads,
                    rate,
                    shifted=j % 2 == 1,
                    always_partition=always_partition,
                    attention=attention,
                    dtype=dtype,
                    rngs=rngs,
                )
                for j, rate in enumerate(drop_paths)
            ]
        )
        self.remat = remat

    def __call__(self, x: jax.Array, keys: Sequence[jax.Array | None]) -> jax.Array:
        if self.has_downsample:
            x = self.downsample(x)
        call = nnx.remat(Block.__call__) if self.remat else Block.__call__
        for block, key in zip(self.blocks, keys, strict=True):
            x = call(block, x, key)
        return x


class Swin(nnx.Module):
    """The backbone: image [b h w channels] -> four maps of strides 4, 8, 16, 32 (sizes rounded up), of `dtype`.

    Any size of at least one pixel works; sizes are padded where the windows need it.

    Args:
      embed: features of the first stage; each stage doubles them.
      depths, heads: blocks and attention heads of each stage.
      channels, drop_path, dtype, remat: as for ConvNeXt; attention's softmax is float32.
      always_partition: pad and shift maps that fit into one window too, as the published segmentation backbone does.
      attention: the form that it is computed in, of FORMS.
    """

    epsilon = EPSILON
    norm_before_pool = True
    segmentation_options = {"always_partition": True}

    def __init__(
        self,
        *,
        embed: int,
        depths: Sequence[int],
        heads: Sequence[int],
        channels: int,
        drop_path: float,
        dtype: jnp.dtype,
        remat: bool,
        always_partition: bool = False,
        attention: str = "rows",
        rngs: nnx.Rngs,
    ):
        self.dims = tuple(embed * 2**i for i in range(len(depths)))
        self.depths = tuple(depths)
        self.drop_path = drop_path
        self.stem = Stem(channels, embed, dtype=dtype, rngs=rngs)
        rates = np.split(np.linspace(0.0, drop_path, sum(depths)), np.cumsum(depths)[:-1])
        self.stages = nnx.List(
            [
                Stage(
                    self.dims[max(i - 1, 0)],
                    self.dims[i],
                    heads[i],
                    [float(rate) for rate in rates[i]],
                    always_partition=always_partition,
                    attention=attention,
                    dtype=dtype,
                    remat=remat,
                    rngs=rngs,
                )
                for i in range(len(depths))
            ]
        )

    def __call__(self, image: jax.Array, *, train: bool, key: jax.Array | None) -> list[jax.Array]:
        key = drop.require_key(train, key, self.drop_path)
        keys = [None if key is None else jax.random.fold_in(key, i) for i in range(sum(self.depths))]
        x, maps = self.stem(image), []
        for number, stage in enumerate(self.stages):
            used, keys = keys[: len(stage.blocks)], keys[len(stage.blocks) :]
            with jax.named_scope(f"stage{number}"):
                x = stage(x, used)
            maps.append(x)
        return maps
