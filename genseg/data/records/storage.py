"""The stored form of every data set: ArrayRecord files that TFDS reads, and the card beside them.

A prepared data set is one folder:

    <data_dir>/<name>-<fingerprint>/card.json       the DatasetCard, with statistics
                                    source.json     what it was made from
                                    files.json      times and digests of the source files (`copies`)
                                    places.json     segmentation: names, scenes and places of all records
                                    records/        a TFDS data set (`tfds.builder_from_directory` opens it)

A record is a tf.Example with encoded bytes, never pixels:

    classification  image (JPEG or PNG), label (int), file_name: the features of TFDS' own imagenet2012
    segmentation    image (TIFF or JPEG; in older copies PNG or NPY), mask (TIFF or PNG of class ids), file_name, and where
                    it was cut from: scene, row, column, scene_height, scene_width (pixels)

Files are written by array_record itself, the description by TFDS: its `GeneratorBasedBuilder` shuffles by TensorFlow as soon as
a split exceeds 1 GB, and its `SequentialWriter` compresses what is compressed already, for time and
no bytes. Records keep the order in which they are given; training shuffles globally.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from genseg import outputs, texts
from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.data.files.codec import CorruptFile
from genseg.data.records import copies, statistics
from genseg.data.records.copies import FORMAT, Fingerprint
from genseg.data.records.moments import Moments
from genseg.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_NAME, _FORMAT = "records", "array_record"  # of the TFDS data set and of its files
_SHARD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored example. label: class id, or the bytes of a mask of class ids."""

    image: bytes
    label: int | bytes
    file_name: str
    scene: str = ""
    row: int = 0
    column: int = 0
    scene_height: int = 0
    scene_width: int = 0


class Place(NamedTuple):
    """Which pixels of which scene a record holds, known without reading it. height, width: of its mask."""

    file_name: str
    scene: str
    row: int
    column: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to make one data set.

    card: complete but for band statistics and split counts.
    items: split -> what `load` is called with, in stored order; one item may give several records (patches of a scene).
    load: (split, item) -> (records, Moments of their pixels); runs in threads; raises CorruptFile or UserError.
    fingerprint: of the source files and of every option that changes the records (`copies`).
    measured: the split whose pixels give the statistics.
    expected: split -> number of records that is published for these options, or {}.
    look: called once when the records are made; returns further notes for the card.
    options: what the records were made with, kept beside them so that a copy can be told from another; plain data.
    """

    card: DatasetCard
    items: dict[str, Sequence[Any]]
    load: Callable[[str, Any], tuple[list[Record], Moments]]
    fingerprint: Fingerprint
    measured: str = "train"
    expected: dict[str, int] = dataclasses.field(default_factory=dict)
    look: Callable[[], tuple[str, ...]] = tuple
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def features(card: DatasetCard) -> "tfds.features.FeaturesDict":
    """The TFDS features of the card's task, as the module's text lists them."""
    import tensorflow_datasets as tfds  # half a second: kept out of every command's start

    if card.task == "classification":
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=list(card.classes)),
                "file_name": tfds.features.Text(),
            }
        )
    encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
    integers = dict.fromkeys(("row", "column", "scene_height", "scene_width"), np.int64)
    names = {"file_name": tfds.features.Text(), "scene": tfds.features.Text()}
    return tfds.features.FeaturesDict({"image": encoded, "mask": encoded, **names, **integers})


def write(plan: Plan, data_dir: Path, *, threads: int = 0, skip_corrupt: int = 0, progress: bool = True) -> Path:
    """Makes the data set and returns its folder, `data_dir`/<name>-<fingerprint>; returns at once if it is there and made from
    the files as they are (else the folder's name gets a number).

    All is written to a hidden folder that is renamed at the very end, so that whatever stops the preparation leaves
    nothing that looks prepared. At most a few items a thread are in memory.

    Args:
      threads: 0 = one a core.
      skip_corrupt: how many undecodable files are left out, counted and noted in the card; one more raises.
    Raises: UserError for anything wrong with the files; CorruptFile names the first undecodable one.
    """
    threads, mark = threads or os.cpu_count() or 1, plan.fingerprint
    there, final = copies.fitting(Path(data_dir), plan.card.name, mark, threads)
    if there is not None:
        return there
    seen = copies.look(mark.files)
    with outputs.staged(final, whole="card.json") as folder:
        card, places = _write_records(plan, folder / "records", threads, skip_corrupt, progress)
        if card.task == "segmentation":
            (folder / "places.json").write_text(texts.as_json(places), encoding="utf-8")
        source = {"fingerprint": mark.text, "format": FORMAT, "options": plan.options}
        (folder / "source.json").write_text(texts.as_json(source), encoding="utf-8")
        copies.keep(folder, mark.files, copies.digested(mark.files, seen, threads))
        (folder / "card.json").write_text(card.to_json(), encoding="utf-8")
    return final


def read_places(folder: Path, split: str) -> tuple[Place, ...]:
    """Of all records of a segmentation split, in stored order. Raises: UserError if they were not stored."""
    path = Path(folder) / "places.json"
    if not path.exists():
        raise UserError(f"{folder} was prepared by another version of genseg: remove it and prepare the data again.")
    try:
        return tuple(Place(*place) for place in json.loads(texts.read(path, "list of places"))[split])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path} is damaged: remove {folder} and prepare the data again.") from None


def _write_records(
    plan: Plan, folder: Path, threads: int, skip_corrupt: int, progress: bool
) -> tuple[DatasetCard, dict[str, list[Place]]]:
    folder.mkdir()
    card, form = plan.card, features(plan.card)
    counts: dict[str, int] = {}
    places: dict[str, list[Place]] = {}
    skipped: list[str] = []
    total: Moments | None = None
    written = []

    def load(split: str, item: Any) -> tuple[list[tuple[bytes, Place | None]], Moments]:
        records, moments = plan.load(split, item)
        return [(form.serialize_example(_example(card, r)), _place(card, r)) for r in records], moments

    for split, items in plan.items.items():
        places[split] = []
        shards = _Shards(folder, split)
        with tqdm(
            total=len(items), desc=f"{card.name} {split}", unit="file", disable=None if progress else True
        ) as bar:
            for loaded in _in_order(functools.partial(load, split), items, threads):
                try:
                    examples, moments = loaded.result()
                except CorruptFile as error:
                    if not skip_corrupt:
                        raise
                    skipped.append(str(error))
                    if len(skipped) > skip_corrupt:
                        raise UserError(
                            f"{len(skipped)} files of {card.name} cannot be decoded, more than the {skip_corrupt} of "
                            f"config.data.skip_corrupt; the last: {error}"
                        ) from None
                    tqdm.write(f"Skipped: {error}")
                    bar.update()
                    continue
                if split == plan.measured:
                    total = moments if total is None else total + moments
                for example, place in examples:
                    shards.add(example)
                    places[split] += [] if place is None else [place]
                bar.update()
        written.append(shards.closed())
        counts[split] = written[-1].num_examples
        if not counts[split]:
            raise UserError(f"The split {split!r} of {card.name} holds no readable image: check its files.")
        if counts[split] != plan.expected.get(split, counts[split]):
            raise UserError(
                f"{counts[split]} {split} records of {card.name} came out, but {plan.expected[split]} are published: "
                "the files are not the official ones."
            )
    _describe(card, folder, form, written)
    bands, notes = statistics.described(card, total, skipped)
    notes += plan.look()
    return dataclasses.replace(card, splits=counts, bands=bands, notes=notes), places


class _Shards:
    """The files of one split, of about _SHARD_BYTES each."""

    def __init__(self, folder: Path, split: str):
        from tensorflow_datasets.core import naming

        self._template = naming.ShardedFileTemplate(
            data_dir=folder, dataset_name=_NAME, split=split, filetype_suffix=_FORMAT,
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )  # fmt: skip
        self._lengths: list[int] = []
        self._bytes = self._of_shard = 0
        self._writer: Any = None

    def add(self, example: bytes) -> None:
        from array_record.python import array_record_module

        if self._writer is None:
            path = self._template.sharded_filepath(shard_index=len(self._lengths), num_shards=None)
            self._writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
            self._lengths.append(0)
            self._of_shard = 0
        self._writer.write(example)
        self._lengths[-1] += 1
        self._of_shard += len(example)
        self._bytes += len(example)
        if self._of_shard >= _SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def closed(self) -> "tfds.core.SplitInfo":
        """What was written, after the last record."""
        import tensorflow_datasets as tfds

        self._close()
        return tfds.core.SplitInfo(
            name=self._template.split, shard_lengths=self._lengths, num_bytes=self._bytes, filename_template=self._template
        )  # fmt: skip


def _describe(card: DatasetCard, folder: Path, form: "tfds.features.FeaturesDict", splits: list) -> None:
    """Writes what TFDS needs to open the folder."""
    import tensorflow_datasets as tfds

    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=_NAME, version=tfds.core.Version(f"{FORMAT}.0.0"), data_dir=str(folder), module_name=__name__
        ),
        description=card.protocol,
        features=form,
        disable_shuffling=True,
    )
    info.set_file_format(_FORMAT)
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(folder)


def _in_order(function: Callable, items: Sequence, threads: int) -> Iterator[concurrent.futures.Future]:
    """Futures of function(item) in the order of items, with at most 2 * threads of them unfinished or unread."""
    with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="prepare") as pool:
        window: collections.deque = collections.deque()
        try:
            for item in items:
                window.append(pool.submit(function, item))
                if len(window) == 2 * threads:
                    yield window.popleft()
            while window:
                yield window.popleft()
        finally:
            for future in window:
                future.cancel()


def _place(card: DatasetCard, record: Record) -> Place | None:
    if card.task != "segmentation":
        return None
    height, width = codec.size_of_mask(record.label)
    return Place(record.file_name, record.scene or record.file_name, record.row, record.column, height, width)


def _example(card: DatasetCard, record: Record) -> dict:
    if card.task == "classification":
        return {"image": record.image, "label": record.label, "file_name": record.file_name}
    return {
        "image": record.image,
        "mask": record.label,
        "file_name": record.file_name,
        "scene": record.scene or record.file_name,
        "row": record.row,
        "column": record.column,
        "scene_height": record.scene_height,
        "scene_width": record.scene_width,
    }


def parse(raw: bytes) -> Record:
    """A stored tf.Example to a Record. Direct protobuf access: TFDS' own parser takes 20 times as long (70 against
    3.5 microseconds), more than decoding a 64 x 64 JPEG."""
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(raw).features.feature
    name = feature["file_name"].bytes_list.value[0].decode()
    image = feature["image"].bytes_list.value[0]
    if "mask" not in feature:
        return Record(image, feature["label"].int64_list.value[0], name)
    return Record(
        image,
        feature["mask"].bytes_list.value[0],
        name,
        feature["scene"].bytes_list.value[0].decode(),
        *(feature[k].int64_list.value[0] for k in ("row", "column", "scene_height", "scene_width")),
    )
