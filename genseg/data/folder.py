"""Data sets in plain folders: photographs in class folders, and image + mask pairs.

Each frozen dataclass below lists the fields that `config.data` must have when its `name` is used, with their meaning;
`plan()` looks at the files and says how to store them.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np

from genseg.data import codec
from genseg.data.card import Band, DatasetCard, distinct_colours
from genseg.data.masks import check_labels
from genseg.data.records import Moments, Plan, Record, fingerprint
from genseg.errors import UserError

_PHOTOGRAPHS = {".jpg", ".jpeg", ".png"}


def existing_folder(source: str, what: str) -> Path:
    """Raises: UserError if `source` is empty or no folder."""
    if not source:
        raise UserError(f"config.data.source is empty: give the folder of {what}.")
    path = Path(source).expanduser()
    if not path.is_dir():
        raise UserError(f"There is no data set at {path}: give the folder of {what}.")
    return path


@dataclasses.dataclass(frozen=True)
class FolderClassification:
    """name="folder_classification": photographs as `<source>/<split>/<class>/*.{jpg,jpeg,png}`, any letter case.

    Fields of config.data:
      source: the folder.
      splits: names of its sub-folders, ("train", "val") as a rule.
    Classes are the sorted folder names, the same in each split. Grey becomes RGB when decoded, alpha is dropped.
    """

    source: str = ""
    splits: tuple[str, ...] = ("train", "val")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing split, empty or unknown class folder."""
        root = existing_folder(self.source, "{train,val}/<class>/*.jpg")
        items: dict[str, list[tuple[Path, int]]] = {}
        classes: list[str] = []
        for split in self.splits:
            folder = root / split
            if not folder.is_dir():
                raise UserError(
                    f"The data set {root} has no split {split!r}: make the folder {folder} or change splits."
                )
            found = sorted(p.name for p in folder.iterdir() if p.is_dir())
            if not found:
                raise UserError(f"The split folder {folder} holds no class folders: expected {folder}/<class>/*.jpg.")
            if not classes:
                classes = found
            odd = sorted(set(found) ^ set(classes))
            if odd:
                where = (
                    f"is missing from {folder}"
                    if odd[0] in classes
                    else f"is in {folder} but not in {self.splits[0]!r}"
                )
                raise UserError(f"The class folder {odd[0]!r} {where}: every split needs the same classes.")
            items[split] = []
            for label, name in enumerate(classes):
                files = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _PHOTOGRAPHS)
                if not files:
                    raise UserError(
                        f"The class folder {folder / name} holds no JPEG or PNG: fill it or remove the class."
                    )
                items[split] += [(path, label) for path in files]
        card = DatasetCard(
            name="folder_classification",
            task="classification",
            bands=(Band("red"), Band("green"), Band("blue")),
            classes=tuple(classes),
            palette=(),
            ignore_label=None,
            scored=tuple(range(len(classes))),
            splits={},
            protocol=f"top-1 and top-5 accuracy over all images of the split, {len(classes)} classes",
            synthetic=False,
        )
        files = (path for split in items.values() for path, _ in split)
        return Plan(card, items, _load_photograph, fingerprint(self, root, files), self.splits[0])


def _load_photograph(split: str, item: tuple[Path, int]) -> tuple[list[Record], Moments]:
    path, label = item
    data = codec.read(path)
    name = f"{split}/{path.parent.name}/{path.name}"
    return [Record(data, label, name)], Moments.of(codec.decode_rgb(data, str(path)))


@dataclasses.dataclass(frozen=True)
class FolderSegmentation:
    """name="folder_segmentation": images of any bands and one mask each, as PNG, TIFF/GeoTIFF, NPY or JPEG.

    Fields of config.data:
      source: the folder; patterns and lists are relative to it.
      image_pattern: such as "{split}/img/tile_{id}.tif"; "{id}" is what pairs an image with its mask, "{split}" may be
        left out if split_lists says what belongs where. A tuple of patterns stacks the bands of several files.
      mask_pattern: such as "{split}/mask/mask_{id}.tif".
      splits: split names to read, ("train", "val", "test"); the first gives the band statistics.
      split_lists: {"train": "train.txt", ...}, files with one id a line, or {} to take all files that match.
      bands: names in stored order, ("red", "green", "blue", "nir"); their number must be that of the files. Photometric
        distortion changes those named red, green, blue only.
      classes: names; the id in a mask is the place in this tuple.
      palette: one (r, g, b) a class, or () for distinct colours.
      ignore_label: id of pixels that do not count, 255 as a rule.
      scored: class ids that are averaged, or () for all.
      protocol: one line to print beside scores, or "" for a plain one.
    """

    source: str = ""
    image_pattern: str | tuple[str, ...] = "{split}/images/{id}.png"
    mask_pattern: str = "{split}/masks/{id}.png"
    splits: tuple[str, ...] = ("train", "val")
    split_lists: dict[str, str] = dataclasses.field(default_factory=dict)
    bands: tuple[str, ...] = ("red", "green", "blue")
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore_label: int = 255
    scored: tuple[int, ...] = ()
    protocol: str = ""

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing split, image without mask or mask without image, and,
        when loading: another band count, sizes that differ, a label outside the card."""
        root = existing_folder(self.source, "images and masks")
        if not self.classes:
            raise UserError("config.data.classes is empty: name the classes in the order of their ids.")
        if len(self.classes) > 255:
            raise UserError(f"{len(self.classes)} classes do not fit 8-bit masks: at most 255.")
        images = (self.image_pattern,) if isinstance(self.image_pattern, str) else tuple(self.image_pattern)
        for pattern in (*images, self.mask_pattern):
            if "{id}" not in pattern:
                raise UserError(f"The pattern {pattern!r} has no {{id}}: it is what pairs an image with its mask.")
        items = {s: _pairs(root, s, images, self.mask_pattern, dict(self.split_lists)) for s in self.splits}
        first = items[self.splits[0]][0]
        nodata = [codec.nodata_of(codec.read(path)) for path in first.images]
        sample = [codec.decode_image(codec.read(path), str(path)) for path in first.images]
        channels = sum(s.shape[2] for s in sample)
        if channels != len(self.bands):
            raise _wrong_bands(first, channels, self.bands)
        per_band = [n for n, s in zip(nodata, sample, strict=True) for _ in range(s.shape[2])]
        scored = tuple(self.scored) or tuple(range(len(self.classes)))
        card = DatasetCard(
            name="folder_segmentation",
            task="segmentation",
            bands=tuple(Band(n, nodata=v) for n, v in zip(self.bands, per_band, strict=True)),
            classes=tuple(self.classes),
            palette=tuple(tuple(c) for c in self.palette) or distinct_colours(len(self.classes)),
            ignore_label=self.ignore_label,
            scored=scored,
            splits={},
            protocol=self.protocol
            or f"mean over {len(scored)} classes of one confusion matrix over all pixels of the split",
            synthetic=False,
            dtype=str(np.result_type(*sample)),
        )
        files = (p for pairs in items.values() for pair in pairs for p in (*pair.images, pair.mask))
        return Plan(
            card,
            items,
            lambda split, pair: _load_pair(card, split, pair),
            fingerprint(self, root, files),
            self.splits[0],
        )


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one scene."""

    id: str
    images: tuple[Path, ...]
    mask: Path


def _matches(root: Path, pattern: str, split: str) -> dict[str, Path]:
    """id -> file, for the files below root that match the pattern, sorted by id."""
    pattern = pattern.replace("{split}", split)
    expression = re.compile(re.escape(pattern).replace(r"\{id\}", "(?P<id>[^/]+)", 1).replace(r"\{id\}", "(?P=id)"))
    found = {}
    for path in root.glob(pattern.replace("{id}", "*")):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match:
            found[match["id"]] = path
    return dict(sorted(found.items()))


def _pairs(root: Path, split: str, images: tuple[str, ...], mask: str, lists: dict[str, str]) -> list[Pair]:
    if lists:
        if split not in lists:
            raise UserError(f"split_lists has no list for the split {split!r}: add it or change splits.")
        path = root / lists[split]
        if not path.is_file():
            raise UserError(f"There is no list {path} for the split {split!r}: correct split_lists.")
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        pairs = []
        for name in names:
            places = [root / p.replace("{split}", split).replace("{id}", name) for p in (*images, mask)]
            missing = [p for p in places if not p.is_file()]
            if missing:
                raise UserError(
                    f"{path} lists {name!r}, but there is no file {missing[0]}: add it or correct the list."
                )
            pairs.append(Pair(name, tuple(places[:-1]), places[-1]))
    else:
        found = [_matches(root, p, split) for p in (*images, mask)]
        ids = sorted(set().union(*found))
        for name in ids:
            for pattern, files in zip((*images, mask), found, strict=True):
                if name not in files:
                    lonely = next(f[name] for f in found if name in f)
                    kind = "mask" if pattern == mask else "image"
                    expected = root / pattern.replace("{split}", split).replace("{id}", name)
                    raise UserError(f"{lonely} has no {kind} {expected}: add the file or remove its partner.")
        pairs = [Pair(name, tuple(f[name] for f in found[:-1]), found[-1][name]) for name in ids]
    if not pairs:
        where = lists.get(split) or images[0].replace("{split}", split)
        raise UserError(f"The data set {root} has no split {split!r}: nothing matches {where}.")
    return pairs


def _wrong_bands(pair: Pair, found: int, bands: tuple[str, ...]) -> UserError:
    files = " + ".join(str(p) for p in pair.images)
    return UserError(
        f"{files} has {found} band(s), but bands names {len(bands)} ({', '.join(bands)}): correct one of them."
    )


def _load_pair(card: DatasetCard, split: str, pair: Pair) -> tuple[list[Record], Moments]:
    data = [codec.read(path) for path in pair.images]
    parts = [codec.decode_image(d, str(p)) for d, p in zip(data, pair.images, strict=True)]
    sizes = {p.shape[:2] for p in parts}
    if len(sizes) > 1:
        raise UserError(
            f"The files of scene {pair.id!r} differ in size: {' and '.join(map(str, sorted(sizes)))} pixels."
        )
    if sum(p.shape[2] for p in parts) != card.channels:
        raise _wrong_bands(pair, sum(p.shape[2] for p in parts), tuple(b.name for b in card.bands))
    image = parts[0] if len(parts) == 1 else np.concatenate([p.astype(card.dtype) for p in parts], axis=2)
    if image.dtype != card.dtype:
        raise UserError(
            f"{pair.images[0]} holds {image.dtype}, but the first image {card.dtype}: give all files one type."
        )
    mask = codec.decode_mask(codec.read(pair.mask), str(pair.mask))
    if mask.ndim != 2:
        raise UserError(f"The mask {pair.mask} has {mask.shape[2]} bands: it must hold one class id a pixel.")
    if mask.shape != image.shape[:2]:
        raise UserError(
            f"{pair.images[0]} has {image.shape[0]} x {image.shape[1]} pixels, its mask {pair.mask} {mask.shape[0]} x "
            f"{mask.shape[1]}: they must be of one size."
        )
    check_labels(mask, card, str(pair.mask))
    measured = measured_pixels(image, card)
    ids = mask.astype(np.uint8)
    if measured is not None:
        ids = np.where(measured.all(axis=2), ids, np.uint8(card.ignore_label))
    stored = data[0] if len(parts) == 1 else codec.encode_image(image)
    record = Record(
        stored, codec.encode_png(ids), f"{split}/{pair.images[0].name}", pair.id, 0, 0, image.shape[0], image.shape[1]
    )
    return [record], Moments.of(image, measured)


def measured_pixels(image: np.ndarray, card: DatasetCard) -> np.ndarray | None:
    """bool [h w c]: where a band holds a value and not nodata or NaN; None if all of them do."""
    measured = np.ones(image.shape, bool)
    for band, spec in enumerate(card.bands):
        if spec.nodata is not None:
            measured[..., band] &= image[..., band] != spec.nodata
    if image.dtype == np.float32:
        measured &= np.isfinite(image)
    return None if measured.all() else measured
