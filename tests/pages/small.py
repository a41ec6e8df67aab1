"""The small mode: what a page's command is given besides what it says, so that it ends in seconds. It stands here alone."""

from __future__ import annotations

from ml_collections import ConfigDict

from genseg.config import load_file

SIDE = 64  # of a drawn tile of Potsdam
BOTH = {"train.batch_size": 4, "train.epochs": 0.0, "train.steps": 2, "train.warmup_steps": 1, "train.warmup_epochs": 0.0,
        "eval.batch_size": 4, "eval.every": 0}  # fmt: skip
PRETRAIN = {"augment.size": 32, "augment.eval_size": 32}
SEGMENT = {"augment.size": (32, 32), "eval.crop": (32, 32), "eval.stride": (24, 24), "model.head_channels": 8,
           "model.aux_channels": 8, "report.panels": 0}  # fmt: skip
DATA = {  # drawn data sets have few files
    "imagenet2012": {"data.partial": True},
    "demo_classification": {"data.train_images": 32, "data.val_images": 8},
    "demo_segmentation": {"data.train_images": 16, "data.val_images": 8},
    "mfnet": {"data.allow_incomplete": True}, "isaid": {"data.allow_incomplete": True}, "pst900": {"data.allow_incomplete": True},
    "vaihingen": {"data.allow_incomplete": True}, "dfc2020": {"data.allow_incomplete": True},
    "potsdam": {"data.allow_incomplete": True, "data.patch": 32, "data.stride": 24},
}  # fmt: skip


def changes(config: ConfigDict) -> dict[str, object]:
    """Keys and values by which a page's config is cut down."""
    return (
        BOTH
        | (PRETRAIN if "csp" in config and "head_channels" not in config.model else SEGMENT)
        | DATA.get(config.data.name, {})
    )


def trained(words: list[str]) -> list[str]:
    """Arguments of genseg.main with the small mode's behind them. A chip that is not there is not compiled for."""
    config = next(word.partition("=")[2] for word in words if word.startswith("--config="))
    kept = [word for word in words if not word.startswith("--topology=")]
    return [*kept, *(f"--config.{key}={value}" for key, value in changes(load_file(config)).items())]


def prepared(words: list[str]) -> list[str]:
    """Arguments of genseg.data.prepare and show."""
    given = DATA.get(words[0], {})
    more: list[str] = []
    for key, value in given.items():
        name = f"--{key.removeprefix('data.')}"
        more += [name] if value is True else [name, str(value)]
    return [*words, *more]
