"""ImageNet-1K (ILSVRC 2012) as TFDS's own `imagenet2012` builder makes it, and a smaller copy that decodes faster.

The builder turns the two official archives into ArrayRecord files with the original JPEG bytes. It repairs the 22 CMYK
files and the one PNG among the training images; grey files stay grey and become RGB when decoded. Building needs
TensorFlow, reading and the smaller copy do not. docs/pretraining-data.md has times and sizes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import simplejpeg

from genseg import outputs, texts
from genseg.data.augment.resizing import resize
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec
from genseg.data.records import copies, storage
from genseg.data.sets.imagenet_classes import CLASSES, WORDNET_IDS
from genseg.errors import UserError
from genseg.keys import at_least, key, within

# Images a split: image-net.org, ILSVRC 2012.
COUNTS = {"train": 1_281_167, "validation": 50_000}
# Archive -> bytes: tensorflow_datasets/datasets/imagenet2012/checksums.tsv.
ARCHIVES = {"ILSVRC2012_img_train.tar": 147_897_477_120, "ILSVRC2012_img_val.tar": 6_744_924_160}
WHERE = "https://image-net.org/download-images (free registration, non-commercial research)"

# timm IMAGENET_DEFAULT_MEAN and _STD, in stored units.
_BANDS = tuple(
    Band(name, mean=255 * mean, std=255 * std, low=0.0, high=255.0)
    for name, mean, std in (("red", 0.485, 0.229), ("green", 0.456, 0.224), ("blue", 0.406, 0.225))
)
_NOT_MEASURED = storage.Moments.of(np.zeros((1, 1, 3), np.uint8))  # the published statistics stand


@dataclasses.dataclass(frozen=True)
class ImageNet2012:
    """name="imagenet2012": ImageNet-1K, splits "train" and "validation".

    source is one of
      - the folder with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar: TFDS's builder runs (TensorFlow needed);
      - a TFDS data_dir, or a version folder in it, that holds imagenet2012 as array_record: linked, not copied;
      - "": what has been prepared in data_dir.
    """

    source: str = key("", "archives, or a TFDS folder, to prepare from; empty = data_dir holds it prepared")
    short_side: int = key(
        0, "0 = the original JPEGs, as published; else a second copy is made beside them, with larger images shrunk to this "
        "shorter side, pixels, and everything else byte for byte the same; 320 serves 224-pixel training", at_least(0),
    )  # fmt: skip
    quality: int = key(90, "JPEG quality of the shrunk images", within(1, 100))
    partial: bool = key(False, "accept archives with fewer images than the official ones, for trials; the card says so")

    @staticmethod
    def published_card() -> DatasetCard:
        """The card of the whole data set: what `prepare` writes from the official archives."""
        return _card_of(COUNTS)

    def prepare(self, data_dir: Path, *, threads: int = 0, skip_corrupt: int = 0, progress: bool = True) -> Path:
        """Returns the folder of the prepared copy, making what is missing of it.

        Raises: UserError: a missing, cut or foreign archive, wrong counts, no TensorFlow, nothing prepared.
        """
        data_dir = Path(data_dir)
        full = self._full(data_dir, progress) if self.source else _only(data_dir, "imagenet2012")
        if not self.short_side:
            if full is None:
                raise UserError(f"There is no prepared imagenet2012 in {data_dir}: set source to its archives' folder.")
            return full
        if full is None:
            name = _resized_name(self.short_side, self.quality)
            small = _only(data_dir, name)
            if small is None:
                raise UserError(f"There is neither {name} nor imagenet2012 in {data_dir}: set source to the archives.")
            return small
        plan = resized_plan(full, self.short_side, self.quality)
        return storage.write(plan, data_dir, threads=threads, skip_corrupt=skip_corrupt, progress=progress)

    def _full(self, data_dir: Path, progress: bool) -> Path:
        source = outputs.given(self.source, "config.data.source")
        options = ImageNet2012(partial=self.partial)  # what the full copy depends on
        existing = _tfds_folder(source)
        if existing is None:
            archives = _archives(source)
            mark = copies.fingerprint(options, source, archives)
        else:
            mark = copies.fingerprint(options, existing, [existing / "dataset_info.json"])
        final = data_dir / f"imagenet2012-{mark}"
        if (final / "card.json").is_file():
            if existing is not None and not (final / "records").exists():  # the TFDS copy has moved
                (final / "records").unlink()
                (final / "records").symlink_to(existing.resolve(), target_is_directory=True)
            return final
        if existing is None:
            check_archives(*archives, partial=self.partial)
            if importlib.util.find_spec("tensorflow") is None:
                raise UserError(
                    "Preparing imagenet2012 from its archives needs TensorFlow, which reading does not: "
                    "pip install 'genseg[prepare]'."
                )
        with outputs.staged(final, whole="card.json") as folder:
            if existing is None:
                _build(archives, folder, progress)
            else:
                (folder / "records").symlink_to(existing.resolve(), target_is_directory=True)
            card = _card(folder / "records", self.partial)
            (folder / "source.json").write_text(
                texts.as_json({"source": str(source.resolve()), "format": copies.FORMAT}), encoding="utf-8"
            )
            (folder / "card.json").write_text(card.to_json(), encoding="utf-8")
        return final


def _only(data_dir: Path, name: str) -> Path | None:
    """The one prepared copy of that name. Raises: UserError if there are several."""
    found = sorted(path.parent for path in data_dir.glob(f"{name}-*/card.json"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{data_dir} holds {len(found)} copies of {name} ({names}): remove all but one or set source.")
    return found[0] if found else None


def _archives(source: Path) -> tuple[Path, Path]:
    """(train, validation). Raises: UserError naming what is missing and where it comes from."""
    missing = [name for name in ARCHIVES if not (source / name).is_file()]
    if missing:
        raise UserError(f"{source} lacks {' and '.join(missing)}: download from {WHERE} into that folder.")
    train, validation = (source / name for name in ARCHIVES)
    return train, validation


def check_archives(train: Path, validation: Path, *, partial: bool) -> None:
    """Looks at sizes and names before hours are spent.

    Names matter: TFDS gives the validation labels to the sorted file names by position, so that an archive with gaps
    would silently get wrong labels.

    Raises: UserError naming the archive and what is wrong.
    """
    for path in (train, validation):
        size = path.stat().st_size
        if not partial and size != ARCHIVES[path.name]:
            raise UserError(
                f"{path} has {size:,} bytes instead of {ARCHIVES[path.name]:,}: download it again, or set partial for "
                "a trial."
            )
    names = _members(train)
    foreign = sorted(set(names) - {f"{wnid}.tar" for wnid in WORDNET_IDS})
    if foreign or not names or (not partial and len(set(names)) != len(WORDNET_IDS)):
        what = f"holds {foreign[0]!r}" if foreign else f"holds {len(set(names))} class archives"
        raise UserError(f"{train} {what}: the official one holds n01440764.tar and 999 more; download it again.")
    names = _members(validation)
    expected = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(len(names))]
    if names != expected or not names:
        odd = next((found for found, right in zip(names, expected, strict=True) if found != right), "nothing")
        raise UserError(
            f"{validation} holds {odd}, but labels go by names from ILSVRC2012_val_00000001.JPEG on without a gap: "
            "download it again."
        )


def _members(path: Path) -> list[str]:
    """Names in the archive, sorted."""
    try:
        with tarfile.open(path, "r:") as archive:
            return sorted(archive.getnames())
    except tarfile.TarError as error:
        raise UserError(f"{path} is no whole tar archive ({error}): download it again.") from None


def _build(archives: tuple[Path, Path], folder: Path, progress: bool) -> None:
    """Runs TFDS's builder; its version folder becomes `folder`/records."""
    import tensorflow_datasets as tfds

    manual = folder / "manual"  # of links, so that an ILSVRC2012_img_test.tar beside the archives is left alone
    manual.mkdir()
    for path in archives:
        (manual / path.name).symlink_to(path.resolve())
    if not progress:
        tfds.disable_progress_bar()
    builder = tfds.builder("imagenet2012", data_dir=folder / "tfds", file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=folder / "downloads", download_config=config)
    except tarfile.TarError as error:
        raise UserError(f"An archive inside {archives[0]} is damaged ({error}): download it again.") from None
    Path(builder.data_dir).rename(folder / "records")
    for rest in ("tfds", "downloads", "manual"):
        shutil.rmtree(folder / rest, ignore_errors=True)


def _tfds_folder(source: Path) -> Path | None:
    """The version folder of a TFDS imagenet2012 at or below `source`, or None.

    Raises: UserError if there is one, but in a format without random access.
    """
    versions = sorted((source / "imagenet2012").glob("*/dataset_info.json"), key=_version)
    path = versions[-1] if versions else source / "dataset_info.json"
    if not path.is_file():
        return None
    info = json.loads(path.read_text(encoding="utf-8"))
    if info["name"] != "imagenet2012":
        raise UserError(f"{path.parent} holds the TFDS data set {info['name']}, not imagenet2012: correct source.")
    written_as = info.get("fileFormat", "tfrecord")  # older copies do not say
    if written_as != "array_record":
        raise UserError(
            f"{path.parent} holds {written_as} files, which cannot be read in random order: convert them with `python "
            f"-m tensorflow_datasets.scripts.convert_format --dataset_version_dir={path.parent} "
            "--out_file_format=array_record --out_dir=DIR` and set source to DIR."
        )
    return path.parent


def _version(info: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in info.parent.name.split("."))


def _card(folder: Path, partial: bool) -> DatasetCard:
    """Raises: UserError if a split is missing, or if counts are not the official ones and `partial` is not set."""
    import tensorflow_datasets as tfds

    splits = tfds.builder_from_directory(folder).info.splits
    counts = {}
    for split, official in COUNTS.items():
        if split not in splits:
            raise UserError(f"The TFDS copy at {folder.resolve()} has no split {split!r}: build it with both archives.")
        counts[split] = int(splits[split].num_examples)
        if counts[split] != official and not partial:
            raise UserError(
                f"imagenet2012 has {counts[split]:,} {split} images instead of {official:,}: download the archives "
                "again, or set partial for a trial."
            )
    return _card_of(counts)


def _card_of(counts: dict[str, int]) -> DatasetCard:
    part = f"a part of ImageNet only: {counts['train']:,} training and {counts['validation']:,} validation images"
    return DatasetCard(
        name="imagenet2012",
        task="classification",
        bands=_BANDS,
        classes=CLASSES,
        palette=(),
        ignore_label=None,
        scored=tuple(range(len(CLASSES))),
        splits=counts,
        protocol="top-1 and top-5 accuracy over all images of the validation split, 1000 classes, one central crop",
        synthetic=False,
        notes=() if counts == COUNTS else (part,),
    )


def _resized_name(short_side: int, quality: int) -> str:
    return f"imagenet2012_{short_side}q{quality}"


def resized_plan(full: Path, short_side: int, quality: int) -> storage.Plan:
    """How to write a copy of the prepared set `full` whose shorter sides are at most `short_side` pixels.

    Order, labels and names stay. Images that are small enough already keep their bytes.
    """
    import tensorflow_datasets as tfds

    card = DatasetCard.read(full)
    builder = tfds.builder_from_directory(full / "records")
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    sources = {split: builder.as_data_source(split, deserialize_method=raw) for split in card.splits}

    def load(split: str, index: int) -> tuple[list[storage.Record], storage.Moments]:
        record = storage.parse(sources[split][index])
        image = limit_short_side(record.image, record.file_name, short_side, quality)
        return [dataclasses.replace(record, image=image)], _NOT_MEASURED

    note = f"shorter sides limited to {short_side} pixels, JPEG quality {quality}"
    return storage.Plan(
        card=dataclasses.replace(card, name=_resized_name(short_side, quality), notes=(*card.notes, note)),
        items={split: range(count) for split, count in card.splits.items()},
        load=load,
        fingerprint=copies.fingerprint(
            ImageNet2012(short_side=short_side, quality=quality), full.parent, [full / "card.json"]
        ),
        measured="",
    )


def limit_short_side(data: bytes, name: str, short_side: int, quality: int) -> bytes:
    """A JPEG whose shorter side is at most `short_side` pixels: the same bytes if it is small enough already.

    Shrinking averages areas. Chroma is stored at half resolution (4:2:0), which decodes faster than the 4:4:4 that
    three in four originals have (154 of a sample of 200).
    Raises: CorruptFile naming `name`.
    """
    if data[:2] == b"\xff\xd8":
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise codec.CorruptFile(f"The image {name} cannot be decoded ({error}): repair or remove it.") from None
        if min(height, width) <= short_side and colours in ("Gray", "YCbCr"):
            return data
    image = codec.decode_rgb(data, name)
    height, width = image.shape[:2]
    share = min(1.0, short_side / min(height, width))
    image = np.ascontiguousarray(resize(image, round(height * share), round(width * share)))
    return simplejpeg.encode_jpeg(image, quality=quality, colorspace="RGB", colorsubsampling="420")
