"""The data of a run: from `config.data`, `config.augment` and `config.eval` to batches."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from genseg import outputs, partition, processes
from genseg.config import section
from genseg.data import DATASETS, prepare
from genseg.data.augment import randaugment, transforms
from genseg.data.batches import joined, pipeline
from genseg.data.batches.class_pixels import class_pixels
from genseg.data.batches.sampling import EVERY_RECORD, Sampling, class_balanced
from genseg.data.card import DatasetCard
from genseg.data.compare_cards import bands_for_network, card_for_network
from genseg.data.records import copies
from genseg.errors import UserError
from genseg.recipes import pretrain, segment

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Card, splits and transforms. Batches are this process's rows of global batches (see `genseg.data.batches.pipeline`).

    contents: of each data set by name, what its files hold (`copies.contents`), where that is known.
    """

    card: DatasetCard
    train_split: pipeline.Split | joined.JoinedSplit
    eval_split: pipeline.Split | joined.JoinedSplit
    train_transform: transforms.Transform
    eval_transform: transforms.Transform
    config: ConfigDict
    sampling: Sampling = EVERY_RECORD
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def train_batches(self, *, start: int, mesh: Mesh) -> Iterator[dict[str, Any]]:
        """Endless training batches after the first `start` global ones: the rows that lie on this process's devices."""
        return pipeline.train_batches(
            self.train_split, transform=self.train_transform, batch_size=self.config.train.batch_size,
            seed=self.config.seed, start=start, threads=self.config.data.threads,
            workers=self.config.data.workers, skip_corrupt=self.config.data.skip_corrupt,
            blocks=partition.blocks(mesh), block_count=mesh.size, sampling=self.sampling,
        )  # fmt: skip

    def first_batch(self, mesh: Mesh) -> dict[str, Any]:
        """The first training batch, this process's rows, and nothing read ahead of what follows it."""
        return pipeline.train_batch(
            self.train_split, 0, transform=self.train_transform, batch_size=self.config.train.batch_size,
            seed=self.config.seed, skip_corrupt=self.config.data.skip_corrupt,
            blocks=partition.blocks(mesh), block_count=mesh.size, sampling=self.sampling,
        )  # fmt: skip

    def eval_batches(self) -> Iterator[dict[str, Any]]:
        """One pass over the evaluation split; the last batch is filled up with rows that are not valid."""
        return pipeline.eval_batches(
            self.eval_split, transform=self.eval_transform, batch_size=self.config.eval.batch_size,
            threads=self.config.data.threads, workers=self.config.data.workers,
            skip_corrupt=self.config.data.skip_corrupt,
            process_index=partition.process_index(), process_count=partition.process_count(),
        )  # fmt: skip

    def eval_records(self) -> Iterator[dict[str, Any]]:
        """This process's share of the evaluation split, record by record, each at its own size."""
        return pipeline.eval_records(
            self.eval_split, threads=self.config.data.threads, skip_corrupt=self.config.data.skip_corrupt,
            process_index=partition.process_index(), process_count=partition.process_count(),
        )  # fmt: skip


def card_without_data(config: ConfigDict) -> DatasetCard:
    """The card of what `config.data` names, for planning: the published one where the data set has one, so that nothing
    needs to be prepared; else that of the prepared data."""
    kind = DATASETS.get(config.data.name)
    if hasattr(kind, "published_card"):
        return kind.published_card().only(_only(config))
    return _card_of_all(config, _prepared(config))


def _also(config: ConfigDict) -> Mapping[str, Any]:
    return config.data.also if config.task == "segment" else {}


def _prepared(config: ConfigDict) -> dict[str, Path]:
    """Folder of each prepared data set, by its name within the run, the first that of config.data itself."""
    for name in _also(config):
        joined.refuse_name(name)
    data_dir = config.data.data_dir or outputs.cache_dir()
    found = {config.data.name: prepare.ensure_prepared(config.data, data_dir, threads=config.data.threads)}
    for name, own in _also(config).items():
        where = f"config.data.also['{name}']"
        if name in found:
            raise UserError(f"{where} has the name of the first data set; give it another")
        data = prepare.completed(own, where) | {"skip_corrupt": config.data.skip_corrupt}
        folder = prepare.ensure_prepared(data, data_dir, threads=config.data.threads)
        if folder in found.values():
            raise UserError(f"{where} is the same data as another of this run; name it once")
        found[name] = folder
    return found


def _only(config: ConfigDict) -> tuple[str, ...]:
    return tuple(config.data.only_bands) if config.task == "segment" else ()


def _card_of_all(config: ConfigDict, folders: Mapping[str, Path]) -> DatasetCard:
    cards = {name: DatasetCard.read(folder).only(_only(config)) for name, folder in folders.items()}
    weights = config.data.also_weights if config.task == "segment" else {}
    shares = joined.shares_of(cards, config.data.train_split, weights) if weights or len(cards) > 1 else {}
    return joined.joined_card(cards, shares) if len(cards) > 1 else next(iter(cards.values()))


def _split_of_all(folders: Mapping[str, Path], split: str, card: DatasetCard) -> pipeline.Split | joined.JoinedSplit:
    """The split of every data set that has it, with the bands of `card`. Raises: UserError if the first has not."""
    names, (first, *others) = [band.name for band in card.bands], folders
    if not others:
        return pipeline.open_split(folders[first], split).only(names)
    having = [first, *(name for name in others if split in DatasetCard.read(folders[name]).splits)]
    if lacking := [name for name in others if name not in having]:
        logger.info("%s: %s has no such split", split, ", ".join(lacking))
    return joined.JoinedSplit(card, split, {n: pipeline.open_split(folders[n], split).only(names) for n in having})


def batch_shapes(config: ConfigDict, card: DatasetCard) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global training batch as it lies on the devices."""
    size = config.augment.size
    plane = (size, size) if isinstance(size, int) else tuple(size)
    b = config.train.batch_size
    dtype = "uint8" if card.dtype == "uint8" else "float32"
    label = (b,) if card.task == "classification" else (b, *plane)
    return {
        "image": jax.ShapeDtypeStruct((b, *plane, card.channels), dtype),
        "label": jax.ShapeDtypeStruct(label, "int32"),
        "valid": jax.ShapeDtypeStruct((b,), "bool"),
        "index": jax.ShapeDtypeStruct((b,), "int32"),  # int64 on the host; devices count in 32 bits
    }


def open_inputs(config: ConfigDict, network: DatasetCard | None = None) -> Inputs:
    """Opens what `config.data` names, preparing it first where that has not been done.

    network: the card that a trained network comes with; its statistics then stand in for those of the data.

    Raises UserError for anything wrong with the files or the config.
    """
    folders = processes.main_first(lambda: _prepared(config))
    card = _card_of_all(config, folders)
    if network is not None:
        card = card.only(bands_for_network(network, card))
    train_split = _split_of_all(folders, config.data.train_split, card)
    eval_split = _split_of_all(folders, config.data.eval_split, card)
    if config.data.train_share < 1:
        whole, train_split = train_split, train_split.shared(config.data.train_share)
        logger.info("train: %d of %d records (config.data.train_share)", len(train_split), len(whole))
    if network is not None:
        card = card_for_network(network, card)
        train_split, eval_split = train_split.with_card(card), eval_split.with_card(card)
    if card.task == "classification":
        a = section(pretrain.Augment, config.augment, "augment")
        randomly = section(randaugment.RandAugment, a.rand_augment, "augment.rand_augment")
        if randomly.layers and (card.channels != 3 or a.interpolation not in randaugment.RESAMPLING):
            raise UserError(
                f"RandAugment is defined on red, green and blue with bicubic or bilinear resampling; {card.name} has "
                f"{card.channels} bands and config.augment.interpolation is '{a.interpolation}': set "
                "config.augment.rand_augment.layers to 0 or config.augment.interpolation to 'bicubic'"
            )
        train_transform = randaugment.with_rand_augment(
            transforms.classification_train(
                a.size, scale=a.scale, ratio=a.ratio, horizontal_flip=a.horizontal_flip,
                vertical_flip=a.vertical_flip, interpolation=a.interpolation,
            ),
            randomly, fill=tuple(card.fill.tolist()), interpolation=a.interpolation,
        )  # fmt: skip
        eval_transform = transforms.classification_eval(
            a.eval_size, crop_share=a.eval_crop_share, interpolation=a.interpolation
        )
    else:
        a = section(segment.Augment, config.augment, "augment")
        train_transform = transforms.segmentation_train(
            card, tuple(a.size), scale=a.scale, cat_max_ratio=a.cat_max_ratio, horizontal_flip=a.horizontal_flip,
            vertical_flip=a.vertical_flip, turns=a.turns, photometric=a.photometric, class_crops=a.class_crop,
        )  # fmt: skip
        eval_transform = transforms.segmentation_eval(card, multiple=a.eval_multiple)
    contents = {name: found for name, folder in folders.items() if (found := copies.contents(folder))}
    return Inputs(
        card, train_split, eval_split, train_transform, eval_transform, config, _sampling(config, train_split), contents
    )


def _sampling(config: ConfigDict, split: pipeline.Split) -> Sampling:
    weights = config.data.also_weights if config.task == "segment" else {}
    if config.task != "segment" or config.augment.sampling == "even":
        return split.sampling(weights) if weights and isinstance(split, joined.JoinedSplit) else EVERY_RECORD
    if weights:
        raise UserError(
            f"config.data.also_weights and config.augment.sampling '{config.augment.sampling}' both say how often a record "
            "is drawn; set also_weights to {} or sampling to 'even'"
        )
    pixels = class_pixels(split, config.data.threads, config.data.skip_corrupt)
    if not pixels.any():
        raise UserError(f"no pixel of the split '{split.name}' has a class: config.augment.sampling must be 'even'")
    sampling = class_balanced(pixels)
    logger.info("sampling %s: %s", config.augment.sampling, sampling.describe(pixels, split.card.classes))
    return sampling
