"""UperNet fine-tuning as published for each backbone, on ADE20K with crops of 512, batch 16 and 160k steps."""

from typing import Any

from genseg.errors import UserError

# facebookresearch/ConvNeXt semantic_segmentation/configs/convnext and mmcv_custom/layer_decay_optimizer_constructor.py.
CONVNEXT = {
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "no_decay": (r".*/(bias|scale|gamma)",),
    "layer_decay": 0.9,
}
# SwinTransformer/Swin-Transformer-Semantic-Segmentation configs/swin: biases of linear layers and the heads' BatchNorm
# are decayed.
SWIN = {
    "learning_rate": 6e-5,
    "weight_decay": 0.01,
    "no_decay": (r"backbone/.*norm\d?/(bias|scale)", r"norms/.*", r".*/relative_position_bias_table"),
    "layer_decay": 1.0,
}
# drop path and, for the layer-wise decay, the number of layers
BACKBONES: dict[str, tuple[dict[str, Any], float, int]] = {
    "convnext_tiny": (CONVNEXT, 0.4, 6),
    "convnext_small": (CONVNEXT, 0.3, 12),
    "convnext_base": (CONVNEXT, 0.4, 12),
    "convnext_large": (CONVNEXT, 0.4, 12),
    "swin_tiny": (SWIN, 0.3, 12),
    "swin_small": (SWIN, 0.3, 12),
    "swin_base": (SWIN, 0.3, 12),
}


def published(backbone: str) -> dict[str, dict[str, Any]]:
    """Values of config.model and config.optim. Raises UserError for a backbone that nobody published UperNet with.

    Published: ConvNeXt in mixed precision, Swin in float32; here both compute in bfloat16. Warm-up starts at 1e-6 of the
    peak, as mmsegmentation's configs say.
    """
    if backbone not in BACKBONES:
        raise UserError(f"'{backbone}' after the config's colon; known are {', '.join(BACKBONES)}")
    optim, drop_path, layers = BACKBONES[backbone]
    start = 1e-6 * optim["learning_rate"]
    return {
        "model": {"backbone": backbone, "drop_path": drop_path, "dtype": "bfloat16"},
        "optim": optim | {"layer_decay_layers": layers, "schedule": "poly", "warmup_learning_rate": start},
    }
