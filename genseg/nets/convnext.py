"""ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545; facebookresearch/ConvNeXt models/convnext.py)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genseg.errors import UserError
from genseg.nets import depthwise, drop, initializers, layers, norms, products

EPSILON = 1e-6


class Stem(nnx.Module):
    """4x4 convolution of stride 4, then LayerNorm: [b h w c] -> [b h//4 w//4 features]."""

    def __init__(self, channels: int, features: int, *, init, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = layers.patch_conv(channels, features, 4, init=init, dtype=dtype, rngs=rngs)
        self.norm = norms.layer_norm(features, EPSILON, dtype=dtype, rngs=rngs)

    @jax.named_scope("stem")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Downsample(nnx.Module):
    """LayerNorm, then 2x2 convolution of stride 2; an odd last row or column is dropped."""

    def __init__(self, inputs: int, outputs: int, *, init, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = norms.layer_norm(inputs, EPSILON, dtype=dtype, rngs=rngs)
        self.conv = layers.patch_conv(inputs, outputs, 2, init=init, dtype=dtype, rngs=rngs)

    @jax.named_scope("downsample")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(self.norm(x))


class DepthwiseConv(nnx.Module):
    """7x7 depthwise convolution with bias; kernel [7 7 1 features]."""

    def __init__(self, features: int, *, init, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(init(rngs.params(), (7, 7, 1, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
        self.dtype = dtype

    @jax.named_scope("depthwise")
    def __call__(self, x: jax.Array) -> jax.Array:
        y = depthwise.depthwise_conv(x.astype(self.dtype), self.kernel[...])
        return y + products.over(self.bias[...], y)


class Block(nnx.Module):
    """x + drop_path(gamma * mlp(norm(depthwise(x))))."""

    def __init__(self, features: int, drop_path: float, *, init, layer_scale: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv_dw = DepthwiseConv(features, init=init, dtype=dtype, rngs=rngs)
        self.norm = norms.layer_norm(features, EPSILON, dtype=dtype, rngs=rngs)
        self.mlp = layers.Mlp(features, init=init, dtype=dtype, rngs=rngs)
        self.gamma = layers.layer_scale(features, layer_scale)
        self.drop_path = drop_path

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        y = self.conv_dw(x)
        with jax.named_scope("norm"):
            y = self.norm(y)
        y = self.mlp(y)
        return x + drop.drop_path(y * products.over(self.gamma[...], y), self.drop_path, key)


class Stage(nnx.Module):
    """Optional downsampling, then blocks."""

    def __init__(
        self,
        inputs: int,
        features: int,
        drop_paths: Sequence[float],
        *,
        init,
        layer_scale: float,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        if inputs != features:
            self.downsample = Downsample(inputs, features, init=init, dtype=dtype, rngs=rngs)
        self.has_downsample = inputs != features
        options = {"init": init, "layer_scale": layer_scale, "dtype": dtype, "rngs": rngs}
        self.blocks = nnx.List([Block(features, rate, **options) for rate in drop_paths])
        self.remat = remat

    def __call__(self, x: jax.Array, keys: Sequence[jax.Array | None]) -> jax.Array:
        if self.has_downsample:
            x = self.downsample(x)
        call = nnx.remat(Block.__call__) if self.remat else Block.__call__
        for block, key in zip(self.blocks, keys, strict=True):
            x = call(block, x, key)
        return x


class ConvNeXt(nnx.Module):
    """The backbone: image [b h w channels] -> four maps [b h//4 w//4 dims[0]] ... [b h//32 w//32 dims[3]], of `dtype`.

    h and w must be at least 32, or UserError is raised. Where they are no multiples of 32 the last rows and columns are not seen by the deeper
    maps (at most 31 pixels), as in the published code; nothing else depends on the size.

    Args:
      depths: blocks of each stage.
      dims: features of each stage.
      channels: bands of the image, >= 1.
      drop_path: drop path rate of the last block; it rises linearly from 0 at the first, over all blocks.
      dtype: of the computation; parameters, norms' statistics and layer sums in norms stay float32.
      remat: recompute each block in the backward pass instead of keeping its activations.
      init: initializer of all weights (published: normal(0.02)).
      layer_scale: initial value of each block's gamma (published: 1e-6).
    """

    epsilon = EPSILON
    norm_before_pool = False
    segmentation_options: dict[str, bool] = {}

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        channels: int,
        drop_path: float,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
        init=initializers.weight_init,
        layer_scale: float = 1e-6,
    ):
        self.dims = tuple(dims)
        self.depths = tuple(depths)
        self.drop_path = drop_path
        self.stem = Stem(channels, dims[0], init=init, dtype=dtype, rngs=rngs)
        rates = np.split(np.linspace(0.0, drop_path, sum(depths)), np.cumsum(depths)[:-1])
        stages = []
        for i, features in enumerate(dims):
            stages.append(
                Stage(
                    dims[max(i - 1, 0)],
                    features,
                    [float(rate) for rate in rates[i]],
                    init=init,
                    layer_scale=layer_scale,
                    dtype=dtype,
                    remat=remat,
                    rngs=rngs,
                )
            )
        self.stages = nnx.List(stages)

    def __call__(self, image: jax.Array, *, train: bool, key: jax.Array | None) -> list[jax.Array]:
        if any(isinstance(side, int) and side < 32 for side in image.shape[1:3]):  # in an export they may be symbolic
            raise UserError(
                f"an image of {image.shape[1]} x {image.shape[2]} pixels leaves nothing at ConvNeXt's stride of 32; give crops, "
                "windows and padded images of at least 32 x 32 (config.augment.size, eval_size, eval_multiple, "
                "config.eval.crop)"
            )
        key = drop.require_key(train, key, self.drop_path)
        keys = [None if key is None else jax.random.fold_in(key, i) for i in range(sum(self.depths))]
        x, maps = self.stem(image), []
        for number, stage in enumerate(self.stages):
            used, keys = keys[: len(stage.blocks)], keys[len(stage.blocks) :]
            with jax.named_scope(f"stage{number}"):
                x = stage(x, used)
            maps.append(x)
        return maps
