"""Image classifier: a backbone, global average pooling, one norm and one linear layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from genseg.nets import norms


class Head(nnx.Module):
    """The deepest map [b h w features] -> logits [b classes], all in float32.

    ConvNeXt pools and then normalises (models/convnext.py `forward_features`); Swin normalises every position and then
    pools (models/swin_transformer.py): `norm_before_pool`. Weights are normal(0.02) times `init_scale`, bias 0.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        epsilon: float,
        norm_before_pool: bool,
        init_scale: float,
        rngs: nnx.Rngs,
    ):
        self.norm = norms.layer_norm(features, epsilon, dtype=jnp.float32, rngs=rngs)
        self.linear = nnx.Linear(
            features, classes, kernel_init=nnx.initializers.normal(0.02 * init_scale), dtype=jnp.float32, rngs=rngs
        )
        self.norm_before_pool = norm_before_pool

    @jax.named_scope("head")
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        x = self.norm(x).mean((1, 2)) if self.norm_before_pool else self.norm(x.mean((1, 2)))
        return self.linear(x)


class Classifier(nnx.Module):
    """Image [b h w channels] -> logits float32 [b classes]."""

    def __init__(self, backbone: nnx.Module, classes: int, *, head_init_scale: float, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = Head(
            backbone.dims[-1],
            classes,
            epsilon=backbone.epsilon,
            norm_before_pool=backbone.norm_before_pool,
            init_scale=head_init_scale,
            rngs=rngs,
        )

    def __call__(self, image: jax.Array, *, train: bool, key: jax.Array | None) -> jax.Array:
        return self.head(self.backbone(image, train=train, key=key)[-1])
