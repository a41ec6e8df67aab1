"""The networks: backbones by name, and the two `Net`s that the tasks train."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import nnx

from genseg.errors import UserError
from genseg.nets.classifier import Classifier
from genseg.nets.convnext import ConvNeXt
from genseg.nets.functional import Net, bind
from genseg.nets.initializers import fan_in_init
from genseg.nets.projection import Projection
from genseg.nets.swin import Swin
from genseg.nets.upernet import Segmenter

HEADS = ("upernet", "linear")

BACKBONES: dict[str, partial] = {
    # genseg's own: smaller than atto, for small images on a CPU, initialised to learn within a few thousand steps. No
    # published weights exist.
    "convnext_micro": partial(
        ConvNeXt, depths=(2, 2, 4, 2), dims=(32, 64, 128, 256), init=fan_in_init, layer_scale=1.0
    ),
    # timm's definitions (timm/models/convnext.py); their 1x1 convolutions in the MLP are the same linear layers.
    "convnext_atto": partial(ConvNeXt, depths=(2, 2, 6, 2), dims=(40, 80, 160, 320)),
    "convnext_femto": partial(ConvNeXt, depths=(2, 2, 6, 2), dims=(48, 96, 192, 384)),
    "convnext_pico": partial(ConvNeXt, depths=(2, 2, 6, 2), dims=(64, 128, 256, 512)),
    "convnext_nano": partial(ConvNeXt, depths=(2, 2, 8, 2), dims=(80, 160, 320, 640)),
    # The paper's (facebookresearch/ConvNeXt models/convnext.py).
    "convnext_tiny": partial(ConvNeXt, depths=(3, 3, 9, 3), dims=(96, 192, 384, 768)),
    "convnext_small": partial(ConvNeXt, depths=(3, 3, 27, 3), dims=(96, 192, 384, 768)),
    "convnext_base": partial(ConvNeXt, depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024)),
    "convnext_large": partial(ConvNeXt, depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536)),
    "convnext_xlarge": partial(ConvNeXt, depths=(3, 3, 27, 3), dims=(256, 512, 1024, 2048)),
    # microsoft/Swin-Transformer configs/swin, window 7.
    "swin_tiny": partial(Swin, embed=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "swin_small": partial(Swin, embed=96, depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "swin_base": partial(Swin, embed=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "swin_large": partial(Swin, embed=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48)),
}


def _backbone(name: str) -> partial:
    if name not in BACKBONES:
        raise UserError(f"backbone '{name}' is not known; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def attention_form(wanted: str, platform: str) -> str:
    """The form that config.model.attention means on a platform; docs/pods.md has what the TPU compiler says of them."""
    return ("columns" if platform == "tpu" else "rows") if wanted == "auto" else wanted


def _forms(backbone: str, attention: str) -> dict[str, str]:
    return {"attention": attention} if BACKBONES[backbone].func is Swin else {}


def classifier(
    backbone: str,
    *,
    channels: int,
    classes: int,
    drop_path: float,
    dtype: str = "float32",
    remat: bool = False,
    attention: str = "rows",
    head_init_scale: float = 1.0,
) -> Net:
    """Image [b h w channels] -> logits float32 [b classes].

    Parameters: {"backbone": {"stem", "stages"}, "head": {"norm", "linear"}}, float32 whatever `dtype` is.

    Args:
      backbone: a key of `BACKBONES`.
      channels: bands of the image, >= 1.
      classes: number of classes.
      drop_path: drop path rate of the last block, in [0, 1); it rises linearly from 0 over all blocks.
      dtype: "float32" or "bfloat16"; norms, softmax and logits are float32 either way.
      remat: recompute each block's activations in the backward pass.
      attention: form of a Swin's attention, of `genseg.nets.swin.FORMS`; nothing to other backbones.
      head_init_scale: factor on the initial weights of the linear layer.

    Raises:
      UserError: the backbone is not known.
    """
    build_backbone, compute = _backbone(backbone), jnp.dtype(dtype)

    def build(rngs: nnx.Rngs) -> Classifier:
        module = build_backbone(
            channels=channels, drop_path=drop_path, dtype=compute, remat=remat, rngs=rngs, **_forms(backbone, attention)
        )
        return Classifier(module, classes, head_init_scale=head_init_scale, rngs=rngs)

    return bind(build)


def segmenter(
    backbone: str,
    *,
    channels: int,
    classes: int,
    drop_path: float,
    dtype: str = "float32",
    remat: bool = False,
    attention: str = "rows",
    head: str = "upernet",
    fusion: str = "coarse",
    head_channels: int = 512,
    aux_channels: int = 256,
    aux: bool = True,
    dropout: float = 0.1,
    project: int = 0,
) -> Net:
    """Image [b h w channels] -> {"logits": float32 [b h/4 w/4 classes]}; in training with `aux` also
    {"aux": float32 [b h/16 w/16 classes]}.

    Parameters: {"backbone": as in `classifier`, "norms": one LayerNorm an output, "head": as named, "aux_head": FCN};
    with
    `project` also "projection"; statistics: those of the heads' BatchNorms.

    Args:
      backbone, channels, classes, drop_path, dtype, remat, attention: as in `classifier`.
      head: "upernet", or "linear": one 1x1 convolution over the four maps.
      fusion: form of the UperHead's convolutions over several maps, of `genseg.nets.fusion.FORMS`.
      head_channels: width of the UperHead (published: 512).
      aux_channels: width of the auxiliary head (published: 256).
      aux: build the auxiliary head.
      dropout: rate of the channel dropout before the logits, in [0, 1).
      project: input channels of the backbone, behind a learned 1 x 1 convolution of the bands; 0 = none: `channels`.

    Raises:
      UserError: the backbone is not known.
    """
    build_backbone, compute = _backbone(backbone), jnp.dtype(dtype)

    def build(rngs: nnx.Rngs) -> Segmenter:
        module = build_backbone(
            channels=project or channels,
            drop_path=drop_path,
            dtype=compute,
            remat=remat,
            rngs=rngs,
            **build_backbone.func.segmentation_options,
            **_forms(backbone, attention),
        )
        return Segmenter(
            module,
            classes,
            projection=Projection(channels, project, rngs=rngs) if project else None,
            head=head,
            fusion=fusion,
            head_channels=head_channels,
            aux_channels=aux_channels,
            aux=aux,
            dropout=dropout,
            dtype=compute,
            rngs=rngs,
        )

    return bind(build)
