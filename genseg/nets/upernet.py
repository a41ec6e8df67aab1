"""UperNet (Xiao et al. 2018, arXiv 1807.10221) with an auxiliary FCN head, as in mmsegmentation and the ConvNeXt and Swin papers.

Sources: mmsegmentation mmseg/models/decode_heads/{uper_head,psp_head,fcn_head,decode_head}.py;
facebookresearch/ConvNeXt semantic_segmentation/configs/_base_/models/upernet_convnext.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from genseg.nets import drop, fusion, layers, norms, resizing
from genseg.nets.linear_head import LinearHead
from genseg.nets.projection import Projection

POOL_SCALES = (1, 2, 3, 6)
AUX_STAGE = 2  # the auxiliary head reads the map of stride 16


class LogitHead(nnx.Module):
    """Dropout of whole channels, then a 1x1 convolution in float32 (weights normal(0.01), mmseg decode_head.py)."""

    def __init__(self, features: int, classes: int, dropout: float, *, rngs: nnx.Rngs):
        # A 1x1 convolution is a linear layer over the channels.
        self.linear = nnx.Linear(
            features, classes, kernel_init=nnx.initializers.normal(0.01), dtype=jnp.float32, rngs=rngs
        )
        self.dropout = dropout

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        return self.linear(drop.channel_dropout(x, self.dropout, key).astype(jnp.float32))


def fused(layer: layers.ConvNormRelu, maps: Sequence[jax.Array], form: str, *, train: bool) -> jax.Array:
    """`layer` of maps that are resized to the first's size and concatenated, in a form of `genseg.nets.fusion`."""
    height, width = maps[0].shape[1:3]
    maps = [x.astype(layer.conv.dtype) for x in maps]
    summed = fusion.conv_of_resized(maps, layer.conv.kernel[...], height, width, form)
    return jax.nn.relu(layer.norm(summed, train=train))


class UperHead(nnx.Module):
    """Four maps of strides 4, 8, 16, 32 -> logits at stride 4.

    Pyramid pooling (scales 1, 2, 3, 6) on the deepest map, a top-down path with 1x1 laterals and 3x3 outputs, and
    one 3x3 convolution over all levels resized to stride 4.
    """

    def __init__(
        self, dims: Sequence[int], classes: int, channels: int, dropout: float, *, form: str, dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        def conv(inputs: int, size: int) -> layers.ConvNormRelu:
            return layers.ConvNormRelu(inputs, channels, size, dtype=dtype, rngs=rngs)

        self.pools = nnx.List([conv(dims[-1], 1) for _ in POOL_SCALES])
        self.bottleneck = conv(dims[-1] + len(POOL_SCALES) * channels, 3)
        self.laterals = nnx.List([conv(features, 1) for features in dims[:-1]])
        self.fpn_convs = nnx.List([conv(channels, 3) for _ in dims[:-1]])
        self.fpn_bottleneck = conv(len(dims) * channels, 3)
        self.logits = LogitHead(channels, classes, dropout, rngs=rngs)
        self.form = form

    @jax.named_scope("head")
    def __call__(self, maps: Sequence[jax.Array], *, train: bool, key: jax.Array | None) -> jax.Array:
        deepest = maps[-1]
        pooled = [
            pool(resizing.adaptive_average_pool(deepest, scale), train=train)
            for pool, scale in zip(self.pools, POOL_SCALES, strict=True)
        ]
        path = fused(self.bottleneck, [deepest, *pooled], self.form, train=train)
        levels = [path]
        for lateral, fine in zip(reversed(list(self.laterals)), reversed(maps[:-1]), strict=True):
            fine = lateral(fine, train=train)
            path = fine + resizing.resize(path, *fine.shape[1:3])
            levels.insert(0, path)
        levels = [conv(x, train=train) for conv, x in zip(self.fpn_convs, levels[:-1], strict=True)] + levels[-1:]
        return self.logits(fused(self.fpn_bottleneck, levels, self.form, train=train), key)


class FcnHead(nnx.Module):
    """Auxiliary head: one 3x3 convolution and the logits, at the stride of its input."""

    def __init__(self, features: int, classes: int, channels: int, dropout: float, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = layers.ConvNormRelu(features, channels, 3, dtype=dtype, rngs=rngs)
        self.logits = LogitHead(channels, classes, dropout, rngs=rngs)

    @jax.named_scope("aux_head")
    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None) -> jax.Array:
        return self.logits(self.conv(x, train=train), key)


class Segmenter(nnx.Module):
    """Image [b h w channels] -> {"logits": float32 [b h/4 w/4 classes]}, and in training with an auxiliary head also
    {"aux": float32 [b h/16 w/16 classes]}. A LayerNorm stands between each of the backbone's outputs and the heads."""

    def __init__(
        self,
        backbone: nnx.Module,
        classes: int,
        *,
        head_channels: int,
        aux_channels: int,
        aux: bool,
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        head: str = "upernet",
        fusion: str = "coarse",
        projection: Projection | None = None,
    ):
        if projection is not None:
            self.projection = projection
        self.projects = projection is not None
        self.backbone = backbone
        self.norms = nnx.List(
            [norms.layer_norm(features, backbone.epsilon, dtype=dtype, rngs=rngs) for features in backbone.dims]
        )
        if head == "linear":
            self.head = LinearHead(backbone.dims, classes, dropout, rngs=rngs)
        else:
            self.head = UperHead(backbone.dims, classes, head_channels, dropout, form=fusion, dtype=dtype, rngs=rngs)
        if aux:
            self.aux_head = FcnHead(backbone.dims[AUX_STAGE], classes, aux_channels, dropout, dtype=dtype, rngs=rngs)
        self.has_aux = aux
        self.dropout = dropout

    def __call__(self, image: jax.Array, *, train: bool, key: jax.Array | None) -> dict[str, jax.Array]:
        key = drop.require_key(train, key, self.dropout, self.backbone.drop_path)
        backbone_key, head_key, aux_key = (None, None, None) if key is None else jax.random.split(key, 3)
        if self.projects:
            image = self.projection(image)
        maps = self.backbone(image, train=train, key=backbone_key)
        maps = [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
        out = {"logits": self.head(maps, train=train, key=head_key)}
        if self.has_aux and train:
            out["aux"] = self.aux_head(maps[AUX_STAGE], train=train, key=aux_key)
        return out
