"""The config of a checkpoint that `genseg.exchange import` makes: whole, so that every command reads it."""

from __future__ import annotations

from typing import Any

from genseg.config import to_json
from genseg.recipes import pretrain, segment

SIDE = 512
"""Pixels of the crops that are assumed of a segmenter whose training is not known: those of UperNet on ADE20K."""


def imported_config(task: str, backbone: str, head_channels: int, aux_channels: int, source: str) -> dict[str, Any]:
    """As plain data. task: "classifier" or "segmenter"; "source" is kept beside the sections.

    What only training needs (rates, lengths) has the definitions' values: nothing is known of it.
    """
    known = {"model": {"backbone": backbone}, "train": {"batch_size": 8}, "optim": {"learning_rate": 1e-4}}
    if task == "segmenter":
        half = (SIDE // 2, SIDE // 2)
        made = segment.config(
            known, data={"name": "folder_segmentation"}, augment={"size": (SIDE, SIDE)},
            model={"head_channels": head_channels, "aux_channels": aux_channels},
            eval={"batch_size": 8, "crop": (SIDE, SIDE), "stride": half},
        )  # fmt: skip
    else:
        made = pretrain.config(
            known,
            data={"name": "folder_classification"},
            augment={"size": 224, "eval_size": 224},
            eval={"batch_size": 8},
        )
    return to_json(made) | {"source": source}


def readable(config: dict[str, Any], head_channels: int, aux_channels: int) -> dict[str, Any]:
    """A stored config; of a checkpoint that an earlier genseg imported, which kept only three keys, a whole one."""
    match config:
        case {"eval": _}:
            return config
        case {"task": "classifier" | "segmenter" as task, "model": {"backbone": backbone}, "source": source}:
            return imported_config(task, backbone, head_channels, aux_channels, source)
    return config
