"""ImageNet-1K training at 224 as published for each backbone: 300 epochs, 20 of them warm-up."""

from typing import Any

from genseg.errors import UserError

# facebookresearch/ConvNeXt main.py and TRAINING.md (Liu et al. 2022, arXiv 2201.03545, table 5). Steps of 4096 images.
CONVNEXT: dict[str, dict[str, Any]] = {
    "train": {"batch_size": 4096},
    "optim": {"scaling_batch": 4096, "learning_rate": 4e-3, "min_learning_rate": 1e-6},
    "ema": {"decay": 0.9999},
    "eval": {"every": 3128, "ema": True},  # steps: 10 epochs
    "checkpoint": {"every": 313},  # steps: one epoch
}
# microsoft/Swin-Transformer config.py and configs/swin/*.yaml (Liu et al. 2021, arXiv 2103.14030, A2.1). Rates are published
# for 512 images and multiplied by batch / 512.
SWIN: dict[str, dict[str, Any]] = {
    "train": {"batch_size": 1024},
    "optim": {
        "scaling": "linear", "scaling_batch": 512, "learning_rate": 5e-4, "min_learning_rate": 5e-6,
        "warmup_learning_rate": 5e-7, "no_decay": (r".*/(bias|scale|relative_position_bias_table)",), "clip_norm": 5.0,
    },
    "eval": {"every": 12511},
    "checkpoint": {"every": 1251},
}  # fmt: skip
# Drop path of the last block: ConvNeXt TRAINING.md, Swin configs/swin/swin_*_patch4_window7_224.yaml.
BACKBONES: dict[str, tuple[dict[str, dict[str, Any]], float]] = {
    "convnext_tiny": (CONVNEXT, 0.1),
    "convnext_small": (CONVNEXT, 0.4),
    "convnext_base": (CONVNEXT, 0.5),
    "convnext_large": (CONVNEXT, 0.5),
    "swin_tiny": (SWIN, 0.2),
    "swin_small": (SWIN, 0.3),
    "swin_base": (SWIN, 0.5),
}


def published(backbone: str) -> dict[str, dict[str, Any]]:
    """{section: {key: value}} of what the backbones' recipes differ in, and of what both have. Raises UserError for a backbone
    whose training on ImageNet-1K nobody published.

    Published: ConvNeXt in float32, Swin in fp16 AMP; here both compute in bfloat16.
    """
    if backbone not in BACKBONES:
        raise UserError(f"no published recipe for '{backbone}'; there is one for {', '.join(BACKBONES)}")
    recipe, drop_path = BACKBONES[backbone]
    return {
        "data": {"name": "imagenet2012", "eval_split": "validation"},
        "augment": {"size": 224, "eval_size": 224},  # for evaluation the shorter side becomes 256
        "model": {"backbone": backbone, "drop_path": drop_path, "dtype": "bfloat16"},
        **recipe,
        "train": recipe["train"] | {"epochs": 300.0, "warmup_epochs": 20.0},
        "eval": recipe["eval"] | {"batch_size": 1024},
        "checkpoint": recipe["checkpoint"] | {"keep": 2},
    }
