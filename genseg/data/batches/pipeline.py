"""Prepared records to batches of arrays, through grain.

Order and augmentation are functions of (seed, number of the global batch, row): they depend neither on how many
processes share the work nor on threads or workers, and any position is taken up without replaying what came before.

    folder = prepare.ensure_prepared(config.data, data_dir)
    split = open_split(folder, "train")
    batches = train_batches(split, transform=classification_train(64), batch_size=256, seed=0, start=1000)
    batch = next(batches)               # global batch 1000: image [b h w c], label int32, valid bool [b], index int64 [b]
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from genseg.data.augment.transforms import Transform
from genseg.data.batches.sampling import EVERY_RECORD, Sampling, Shared
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, tiles
from genseg.data.files.validity import absent
from genseg.data.records import storage
from genseg.errors import UserError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split of a prepared data set.

    source: random access to serialised records. places: of each record, for segmentation. corrupt: index -> message of
    undecodable records met so far. picked: the bands of the records, and which of them are the card's; None: all are.
    """

    card: DatasetCard
    name: str
    source: Sequence[bytes] = dataclasses.field(repr=False)
    places: Sequence[storage.Place] = dataclasses.field(default=(), repr=False)
    corrupt: dict[int, str] = dataclasses.field(default_factory=dict, repr=False)
    picked: tuple[tuple[Band, ...], tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def with_card(self, card: DatasetCard) -> "Split":
        return dataclasses.replace(self, card=card)

    def only(self, names: Sequence[str]) -> "Split":
        """The split with these bands alone, by name and in this order; as it is for (). Raises: UserError."""
        if not names or [band.name for band in self.card.bands] == list(names):
            return self
        stored, places = self.picked or (self.card.bands, tuple(range(self.card.channels)))
        chosen = tuple(places[i] for i in self.card.places_of(names))
        return dataclasses.replace(self, card=self.card.only(names), picked=(stored, chosen))

    def shared(self, share: float) -> "Split":
        """`share` of the records, without their places: for training; see `sampling.Shared`."""
        return dataclasses.replace(self, source=Shared(self.source, share), places=())

    def record(self, index: int) -> storage.Record:
        """The stored bytes and where they come from."""
        try:
            return storage.parse(self.source[index])
        except Exception as error:  # as in `open_split`, of a record that was damaged or taken away since
            raise codec.CorruptFile(
                f"Record {index} of {self.name} in the prepared {self.card.name} cannot be read ({type(error).__name__}): "
                "prepare the data again, or set skip_corrupt."
            ) from None

    def decode(self, index: int, *, whole: bool = True) -> dict:
        """image [h w c] in the card's dtype, label (int, or mask uint8 [h w]), name, index.

        whole: else the image of a segmentation record may be one that decodes what is asked of it (`resizing.Parts`).
        Raises: CorruptFile naming the file; UserError if the band count is not the card's.
        """
        record = self.record(index)
        stored = len(self.picked[0]) if self.picked else self.card.channels
        if self.card.task == "classification":
            image, label = codec.decode_rgb(record.image, record.file_name), record.label
        else:
            label = codec.decode_mask(record.label, f"mask of {record.file_name}")
            image = None if whole else tiles.opened(record.image, record.file_name)
            if image is None:
                image = codec.decode_image(record.image, record.file_name)
                image = codec.grey_as_colour(record.image, image, stored)
        if image.shape[2] != stored:
            raise UserError(
                f"{record.file_name} has {image.shape[2]} bands, the card of {self.card.name} {stored}: prepare the data "
                "again."
            )
        image = _Parts(image, self) if isinstance(image, tiles.Tiled) else self._as_card(image)
        return {"image": image, "label": label, "name": record.file_name, "index": index}

    def _as_card(self, image: np.ndarray) -> np.ndarray:
        """Stored pixels [h w bands] as the card has them: its bands, and means where nothing was measured."""
        stored, places = self.picked or (self.card.bands, ())
        if self.card.task == "segmentation":
            return filled(image, self.card, stored, places)
        return picked_bands(image, places)


class _Parts:
    """A record's image, as `Split.decode` gives it, in parts."""

    def __init__(self, tiled: tiles.Tiled, split: Split):
        self._tiled, self._split = tiled, split
        self.shape, self.dtype = (*tiled.shape[:2], split.card.channels), tiled.dtype

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._split._as_card(self._tiled.read(top, left, height, width))


def picked_bands(image: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """The bands at `places` of an image [h w bands], in that order; the image itself for ()."""
    return np.ascontiguousarray(image[..., list(places)]) if places else image


def filled(image: np.ndarray, card: DatasetCard, stored: Sequence[Band] = (), places: Sequence[int] = ()) -> np.ndarray:
    """The card's bands of an image [h w s]; values without a measurement take the band's mean, which normalisation turns
    into 0. `image` stays as it is.

    stored: the image's bands, s of them; () = the card's. places: which of them are the card's, () = all. What a band lacks
    may depend on those that are not (`validity`)."""
    picked, lacking = picked_bands(image, places), absent(image, stored or card.bands, places)
    return picked if lacking is None else np.where(lacking, card.fill.astype(image.dtype), picked)


def open_split(folder: Path | str, split: str) -> Split:
    """Opens a split of a data set that `prepare` has made.

    Args:
      folder: what `prepare.ensure_prepared` returned.
    Raises: UserError if nothing is prepared there or there is no such split.
    """
    card = DatasetCard.read(Path(folder))
    if split not in card.splits:
        raise UserError(f"{card.name} has no split {split!r}: it has {', '.join(card.splits)}.")
    try:
        builder = tfds.builder_from_directory(Path(folder) / "records")
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        count = len(source)
        if count:
            storage.parse(source[0])
    except Exception as error:  # damaged files of ours make TFDS, protobuf and ArrayRecord raise anything
        raise UserError(
            f"The prepared data in {folder} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:150]}): "
            "remove that folder and prepare the data again."
        ) from None
    if count != card.splits[split]:
        raise UserError(
            f"{folder} holds {count} {split} records, its card says {card.splits[split]}: prepare it again."
        )
    return Split(card, split, source, storage.read_places(Path(folder), split) if card.task == "segmentation" else ())


def train_batches(
    split: Split,
    *,
    transform: Transform,
    batch_size: int,
    seed: int,
    blocks: Sequence[int] = (0,),
    block_count: int = 1,
    threads: int = 0,
    workers: int = 0,
    skip_corrupt: int = 0,
    start: int = 0,
    sampling: Sampling = EVERY_RECORD,
) -> Iterator[dict]:
    """Endless batches of this process's rows of each global batch of b rows: those of `blocks`, of B equal blocks.

    All records are shuffled globally each epoch; a global batch may straddle two epochs, and no record is dropped.

    Args:
      transform: from `genseg.data.augment`; must return images of one size.
      batch_size: rows of a global batch, b.
      seed: of order and augmentation.
      threads: decoding threads of each worker; 0 = one a core without workers, one with them.
      workers: decoding processes; 0 decodes in this one. Threads share Python's lock, so that from about four cores on
        workers are faster; each takes a few seconds to start and holds a copy of the data source.
      skip_corrupt: how many undecodable records are put up with, in each process and worker: the next readable one takes
        their place, they are noted in split.corrupt and logged; one more raises.
      blocks: numbers of this process's blocks, one after the other in its batches (see `partition.blocks`).
      block_count: blocks of a global batch, B.
      start: number of global batches already consumed.
      sampling: which records; by default each once an epoch.
    Returns: an iterator of dicts: image [n h w c] uint8 or float32, label int32 [n] or [n h w], valid bool [n],
      index int64 [n] (place of the record in the split), with n = len(blocks) * b / B.
    Raises: UserError if batch_size is not a positive multiple of block_count, or if decoding fails.
    """
    batches = _train_batches(split, transform, batch_size, seed, blocks, block_count, skip_corrupt, sampling)
    return _read(batches[start:], threads, workers)


def train_batch(
    split: Split,
    number: int,
    *,
    transform: Transform,
    batch_size: int,
    seed: int,
    blocks: Sequence[int] = (0,),
    block_count: int = 1,
    skip_corrupt: int = 0,
    sampling: Sampling = EVERY_RECORD,
) -> dict:
    """Global batch `number` of `train_batches`, alone: nothing else is read."""
    return _train_batches(split, transform, batch_size, seed, blocks, block_count, skip_corrupt, sampling)[number]


def _train_batches(
    split: Split,
    transform: Transform,
    batch_size: int,
    seed: int,
    blocks: Sequence[int],
    block_count: int,
    skip_corrupt: int,
    sampling: Sampling,
) -> grain.MapDataset:
    _rows(batch_size, block_count, "blocks")
    first, count = blocks[0], len(blocks)
    if list(blocks) == list(range(first, first + count)) and first % count == 0 and block_count % count == 0:
        blocks, block_count = (first // count,), block_count // count  # side by side: one block, and nothing to join
    rows = batch_size // block_count

    def load(index: int, rng: np.random.Generator) -> dict:
        state = rng.bit_generator.state

        def example(place: int) -> dict:
            record = split.decode(place, whole=False)
            # A record that is skipped, maybe for a tile of its crop, moves no other's draws.
            rng.bit_generator.state = state
            return _example(record, transform(record, rng))

        return _readable(split, index, skip_corrupt, example)

    stream = sampling.stream(len(split), seed).random_map(load).batch(rows, batch_fn=_stack)
    whole = len(stream) // block_count * block_count
    own = [stream[block:whole:block_count] for block in blocks]
    return own[0] if len(own) == 1 else grain.experimental.ZipMapDataset(own).map(_join)


def eval_batches(
    split: Split,
    *,
    transform: Transform,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 0,
    workers: int = 0,
    skip_corrupt: int = 0,
) -> Iterator[dict]:
    """One pass over the split in stored order: every record once, the same number of batches in every process.

    The last global batch is filled up with copies of the last record with valid=False and index -1. With skip_corrupt
    an undecodable record also becomes such a row. Arguments and returned form as in `train_batches`.
    """
    rows = _rows(batch_size, process_count)

    def load(batch: int) -> dict:
        first = batch * batch_size + process_index * rows
        examples = []
        for index in range(first, first + rows):
            record = _readable(split, min(index, len(split) - 1), skip_corrupt, split.decode)
            example = _example(record, transform(record, None))
            if record["index"] != index:
                example["valid"], example["index"] = np.bool_(False), np.int64(-1)
            examples.append(example)
        return _stack(examples)

    batches = grain.MapDataset.range(-(-len(split) // batch_size)).map(load)
    return _read(batches, threads, workers)


def eval_records(
    split: Split, *, process_index: int = 0, process_count: int = 1, threads: int = 0, skip_corrupt: int = 0
) -> Iterator[dict]:
    """This process's records i, i + P, ... of one pass, one by one and of any size, as `Split.decode` gives them.

    With skip_corrupt an undecodable record is left out.
    """

    def load(place: int) -> dict:
        return _readable(split, process_index + place * process_count, skip_corrupt, split.decode)

    mine = len(range(process_index, len(split), process_count))
    for place, record in enumerate(_read(grain.MapDataset.range(mine).map(load), threads, workers=0)):
        if record["index"] == process_index + place * process_count:
            yield record


def _rows(batch_size: int, parts: int, name: str = "processes") -> int:
    if batch_size < 1 or batch_size % parts:
        raise UserError(f"A batch of {batch_size} cannot be shared by {parts} {name}: use a multiple.")
    return batch_size // parts


def _join(batches: Sequence[dict]) -> dict:
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _read(dataset: grain.MapDataset, threads: int, workers: int) -> Iterator[dict]:
    """In order, ahead of use. Whole batches are the unit of work, hence short buffers: one a thread and two waiting."""
    threads = threads or (1 if workers else os.cpu_count() or 1)
    batches = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2))
    if workers:
        if not flags.FLAGS.is_parsed():  # grain asks them; a notebook never parses any
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    iterator = iter(batches)
    try:
        yield from iterator
    finally:  # workers and what they share go when the reader goes, not when Python ends
        iterator.close()


def _readable(split: Split, index: int, skip_corrupt: int, make: Callable[[int], dict]) -> dict:
    """make(index), or of the next record for which it raises no CorruptFile."""
    for step in range(len(split)):
        place = (int(index) + step) % len(split)
        try:
            return make(place)
        except codec.CorruptFile as error:
            # Tried again each time: whether a crop meets the damage must not depend on what was met before.
            put_up_with(split, place, error, skip_corrupt)
    raise UserError(f"No record of the split {split.name!r} of {split.card.name} can be decoded: prepare it again.")


def put_up_with(split: Split, index: int, error: codec.CorruptFile, skip_corrupt: int) -> None:
    """Notes an undecodable record in `split.corrupt` and logs it the first time. Raises: the error if none is allowed;
    UserError if more than `skip_corrupt` have been met."""
    if not skip_corrupt:
        raise error
    new = index not in split.corrupt
    split.corrupt[index] = str(error)
    if len(split.corrupt) > skip_corrupt:
        raise UserError(
            f"{len(split.corrupt)} records of the split {split.name!r} of {split.card.name} cannot be decoded, "
            f"more than the {skip_corrupt} of config.data.skip_corrupt; the last: {error}"
        ) from None
    if new:
        logger.warning("Skipped (%d so far): %s", len(split.corrupt), error)


def _example(record: dict, out: dict) -> dict:
    return {
        "image": out["image"],
        "label": np.asarray(out["label"], np.int32),
        "valid": np.bool_(True),
        "index": np.int64(record["index"]),
    }


def _stack(examples: list[dict]) -> dict:
    sizes = {e["image"].shape for e in examples}
    if len(sizes) > 1:
        small, large = sorted(sizes)[0], sorted(sizes)[-1]
        raise UserError(f"Images of {small} and {large} cannot share a batch: crop or pad them, or use batches of one.")
    batch = {key: np.stack([e[key] for e in examples]) for key in ("image", "label", "valid", "index")}
    if batch["image"].dtype not in (np.uint8, np.float32):
        batch["image"] = batch["image"].astype(np.float32)
    return batch
