"""One's own rasters with masks: files in folders, by a pattern or by lists."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genseg import outputs, texts
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, gdal, rasters
from genseg.data.files.folders import leftover, told_apart, with_beside
from genseg.data.files.grids import refuse_elsewhere
from genseg.data.files.masks import ClassTable, colours_to_ids, read_class_table, refuse_class_as_nodata, renumber
from genseg.data.files.validity import measured_pixels, of_files, unstated
from genseg.data.palette import distinct_colours
from genseg.data.records import patches
from genseg.data.records.copies import fingerprint
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder, refuse_shared, say_passed_over
from genseg.data.sets.ground import bounds_of, leaks, split_by_blocks, touching
from genseg.data.sets.labels_seen import LabelsSeen
from genseg.data.sets.scene_files import SceneFiles, read_scene, refuse_other_order
from genseg.errors import CorruptFile, UserError
from genseg.keys import DIFFERENT, FILLED, PRINTABLE, Rule, at_least, each, key, within

logger = logging.getLogger(__name__)


def _colours(palette: tuple) -> bool:
    return all(0 <= value <= 255 for colour in palette for value in colour)


@dataclasses.dataclass(frozen=True)
class FolderSegmentation:
    """name="folder_segmentation": images of any bands and one mask each, as PNG, TIFF/GeoTIFF, NPY or JPEG."""

    source: str = key("", "the folder; patterns, lists and tables are relative to it")
    image_pattern: str | tuple[str, ...] = key(
        "{split}/images/{id}.png", "where images lie; {id} pairs an image with its mask, {split} may be left out if lists or "
        "blocks say what belongs where; a tuple of patterns stacks the bands of several files", FILLED,
    )  # fmt: skip
    mask_pattern: str = key("{split}/masks/{id}.png", "where masks lie", FILLED)
    splits: tuple[str, ...] = key(
        ("train", "val"), "split names to read; the first is for training and gives the band statistics",
        FILLED, DIFFERENT, each(FILLED), each(PRINTABLE),
    )  # fmt: skip
    split_lists: dict[str, str] = key(
        {}, "{'train': 'train.txt', ...}: files with one id a line, or CSV files with the columns image (image_2, ... for "
        "further files of the scene) and mask, which need no patterns; {} = all files that match",
    )  # fmt: skip
    split_blocks: dict[str, float] = key(
        {}, "{'size': 500.0, 'seed': 0, 'apart': True, 'train': 0.7, 'val': 0.3}: deals GeoTIFFs out by square blocks of the "
        "ground (side in map units) in these shares; apart leaves out training tiles that touch another split. The patterns "
        "then have no {split}; {} = none",
    )  # fmt: skip
    bands: tuple[str, ...] = key(
        ("red", "green", "blue"), "names in stored order; their number must be that of the files. Photometric distortion "
        "changes those named red, green, blue only", FILLED, DIFFERENT, each(FILLED), each(PRINTABLE),
    )  # fmt: skip
    classes: tuple[str, ...] = key(
        (), "names; the id in a mask is the place in this tuple; () = of the class table", DIFFERENT, each(FILLED),
        each(PRINTABLE),
    )  # fmt: skip
    palette: tuple[tuple[int, int, int], ...] = key(
        (), "one (red, green, blue) a class; () = distinct colours", Rule("each from 0 to 255", _colours), DIFFERENT
    )
    class_table: str = key(
        "", "a CSV or YAML file or a QGIS style (.qml) with id, name and colour of each class; ids need not be contiguous, and entries without a "
        "name are ignored pixels; empty = classes and palette",
    )  # fmt: skip
    mask_colours: bool = key(False, "masks hold the colours of the class table or palette instead of ids")
    ignore_label: int = key(
        255, "id of pixels that do not count. Nodata and NaN in image or mask are ignored too", within(0, 255)
    )
    scored: tuple[int, ...] = key((), "class ids that are averaged; () = all", each(at_least(0)), DIFFERENT)
    patch: int = key(0, "cut scenes into squares of this side, pixels; 0 keeps them whole", at_least(0))
    stride: int = key(0, "from square to square, pixels", at_least(0))
    protocol: str = key("", "one line to print beside scores; empty = a plain one", PRINTABLE)

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing split, image without mask or mask without image, and,
        when loading: another band count, sizes that differ, a label or colour outside the classes."""
        root = existing_folder(self.source, "images and masks")
        table = self._table(root)
        if self.stride and not self.patch:
            raise UserError(f"config.data.stride is {self.stride}, but scenes are not cut: set config.data.patch too.")
        if self.patch:
            patches.windows(self.patch, self.patch, self.patch, self.stride)
        items = {split: _apart(pairs) for split, pairs in self._items(root).items()}
        refuse_shared({s: [p.images[0] for p in pairs if not gdal.remote(p.images[0])] for s, pairs in items.items()})
        sample = _first_readable(items[self.splits[0]], self.bands)
        dtype = str(sample.image.dtype)
        dtype = dtype if dtype in ("uint8", "uint16", "int16") else "float32"
        bands = tuple(
            Band(name, nodata=nodata, scale=None if scale == (1.0, 0.0) else scale)
            for name, nodata, scale in zip(self.bands, sample.nodata, sample.scales, strict=True)
        )
        scored = tuple(self.scored) or tuple(range(len(table.names)))
        over = f"records: patches of {self.patch} at stride {self.stride}" if self.patch else "records: whole images"
        card = DatasetCard(
            name="folder_segmentation",
            task="segmentation",
            bands=of_files(bands, sample.files, np.dtype(dtype)),
            classes=table.names,
            palette=table.palette or distinct_colours(len(table.names)),
            ignore_label=self.ignore_label,
            scored=scored,
            splits={},
            protocol=self.protocol
            or f"mean over {len(scored)} classes of one confusion matrix over all pixels, {over}",
            synthetic=False,
            dtype=dtype,
        )
        seen, noted = LabelsSeen(), sample.notes(self.bands)
        used = {s: [p for pair in pairs for p in pair.files] for s, pairs in items.items()}
        local = [p for paths in used.values() for p in paths if not gdal.remote(p)]
        named = [(f"{s} {_below(p, root)}", 0 if gdal.remote(p) else p.stat().st_size) for s in used for p in used[s]]
        # Copies without the bands' files are prepared anew only where a record cannot be read rightly without them.
        version = 3 if all(band.file is None for band in card.bands) else 4
        # So are those whose coarser bands were resampled without zeros that are measurements.
        version += 2 * sample.resampled_together(card)
        mark = fingerprint(self, files=with_beside(local), version=version, listed=[(repr(table), 0), *named])
        return Plan(
            card, items, lambda split, pair: self._load(card, table, sample, seen, split, pair),
            mark, self.splits[0], look=lambda: _leaks(items) + seen.notes(card) + noted,
        )  # fmt: skip

    def _table(self, root: Path) -> ClassTable:
        if self.class_table:
            if self.classes or self.palette:
                raise UserError("class_table is given together with classes or palette: give one or the other.")
            table = read_class_table(outputs.given(self.class_table, "config.data.class_table", root))
        else:
            table = ClassTable(tuple(self.classes), tuple(range(len(self.classes))), tuple(map(tuple, self.palette)))
        if not table.names:
            raise UserError(
                "config.data.classes is empty: name the classes in the order of their ids, or a class_table."
            )
        if len(table.names) > 255:
            raise UserError(f"{len(table.names)} classes do not fit 8-bit masks: at most 255.")
        if self.mask_colours and not table.palette:
            raise UserError(
                "mask_colours is set, but no class has a colour: give a palette or a class_table with colours."
            )
        if not 0 <= self.ignore_label <= 255 or self.ignore_label < len(table.names):
            raise UserError(f"ignore_label is {self.ignore_label}: give a number up to 255 that is no class id.")
        return table

    def _items(self, root: Path) -> dict[str, list["Pair"]]:
        images = (self.image_pattern,) if isinstance(self.image_pattern, str) else tuple(self.image_pattern)
        lists = dict(self.split_lists)
        if lists and self.split_blocks:
            raise UserError("Both split_lists and split_blocks are given: give one of them.")
        if lists and all(name.lower().endswith(".csv") for name in lists.values()):
            return {s: _listed_pairs(root, s, lists) for s in self.splits}
        for pattern in (*images, self.mask_pattern):
            if "{id}" not in pattern:
                raise UserError(f"The pattern {pattern!r} has no {{id}}: it is what pairs an image with its mask.")
        if not self.split_blocks:
            return {s: _pairs(root, s, images, self.mask_pattern, lists) for s in self.splits}
        options = dict(self.split_blocks)
        wanted = {"size", "seed", "apart", *self.splits}
        if set(options) != wanted:
            odd = sorted(set(options) ^ wanted)
            raise UserError(
                f"split_blocks needs exactly {', '.join(sorted(wanted))}: {odd[0]!r} is missing or unknown."
            )
        if any("{split}" in p for p in (*images, self.mask_pattern)):
            raise UserError("split_blocks deals tiles out to splits itself: leave {split} out of the patterns.")
        pairs = {p.id: p for p in _pairs(root, "all", images, self.mask_pattern, {})}
        places = dict(zip(pairs, bounds_of([pair.images for pair in pairs.values()]), strict=True))
        lost = [n for n, b in places.items() if b is None]
        if lost:
            raise UserError(f"{pairs[lost[0]].images[0]} has no position on the ground: split_blocks needs GeoTIFFs.")
        shares = {s: options[s] for s in self.splits}
        dealt = split_by_blocks(places, options["size"], shares, int(options["seed"]))
        if options["apart"]:
            train, *rest = self.splits
            others = [places[n] for s in rest for n in dealt[s]]
            near = np.logical_or(*touching([places[n] for n in dealt[train]], others))
            dealt[train] = [n for n, t in zip(dealt[train], near, strict=True) if not t]
            if not dealt[train]:
                raise UserError(f"Every {train} tile touches another split: use larger blocks or apart=False.")
        return {s: [pairs[n] for n in names] for s, names in dealt.items()}

    def _load(
        self, card: DatasetCard, table: ClassTable, first: SceneFiles, seen: LabelsSeen, split: str, pair: "Pair"
    ) -> tuple[list[Record], Moments]:
        scene = read_scene(pair.images, [band.name for band in card.bands])
        # Where names in `bands` are not understood, descriptions are held against one another.
        said, order = first.descriptions, "bring all files to one order"
        refuse_other_order(pair.images, scene.descriptions, said, "the first scene has", order)
        several = len(pair.images) > 1
        for path, dtype in zip(pair.images, scene.dtypes, strict=True):
            # One file is stored as it is. Bands of several are widened to a common type, never narrowed: 16 bits would
            # wrap around in 8.
            if dtype != card.dtype and not (several and np.can_cast(dtype, card.dtype)):
                raise UserError(
                    f"{path} holds {dtype}, but the first scene {card.dtype}: give all files of a kind one type."
                )
        for file, stated, spec, scale, usual in zip(
            scene.files, scene.nodata, card.bands, scene.scales, first.scales, strict=True
        ):
            if stated not in (None, spec.nodata):
                raise UserError(
                    f"{pair.images[file]} states the nodata value {stated:g}, but the first scene "
                    f"{'none' if spec.nodata is None else f'{spec.nodata:g}'}: give all files of a kind one (gdal_edit.py "
                    "-a_nodata)."
                )
            if scale != usual:
                raise UserError(
                    f"{pair.images[file]} states scale and offset {scale} of {spec.name}, but the first scene {usual}: values "
                    "are read as stored, so bring all files to one (gdal_translate -unscale)."
                )
        image = scene.image.astype(card.dtype, copy=False)
        name = str(pair.mask)
        mask, unmarked, labelled, ground = rasters.read_mask(pair.mask, colours=self.mask_colours)
        refuse_elsewhere([*scene.places, (pair.mask, ground, mask.shape[:2])])
        if mask.ndim == 3 and not self.mask_colours:
            raise UserError(
                f"The mask {name} has {mask.shape[2]} bands: it must hold one class id a pixel, or set mask_colours."
            )
        if mask.shape[:2] != image.shape[:2]:
            raise UserError(
                f"{pair.images[0]} has {image.shape[0]} x {image.shape[1]} pixels, its mask {name} {mask.shape[0]} x "
                f"{mask.shape[1]}: they must be of one size."
            )
        if self.mask_colours:
            unlabelled = dict.fromkeys(table.ignored_colours, self.ignore_label)
            ids = colours_to_ids(mask, {c: i for i, c in enumerate(table.palette)} | unlabelled, name)
        else:
            refuse_class_as_nodata(unmarked, table.ids, table.names, name)
            ids = renumber(mask, table.ids, self.ignore_label, unmarked, name, table.ignored_ids)
        if labelled is not None:
            ids = np.where(labelled, ids, np.uint8(self.ignore_label))
        measured = measured_pixels(image, of_files(card.bands, scene.files, image.dtype))
        scene = dataclasses.replace(scene, image=image).mask_out(measured, [band.nodata for band in card.bands])
        if scene.valid is not None:
            whole = np.broadcast_to(scene.valid[..., None], image.shape)
            measured = whole if measured is None else measured & whole
        if measured is not None:
            ids = np.where(measured.all(axis=2), ids, np.uint8(self.ignore_label))
        seen.add(split, ids, unstated(image, card))
        moments = Moments.of(image, measured)
        if self.patch:
            return list(patches.cut(scene.image, ids, self.patch, self.stride, card, pair.id, f"{split}/")), moments
        record = Record(scene.encoded(), codec.encode_mask(ids), f"{split}/{pair.name}", pair.id, 0, 0, *ids.shape)
        return [record], moments


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one scene. id, name: of the scene and of its record, each the only one of the split."""

    id: str
    images: tuple[Path, ...]
    mask: Path
    name: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.images, self.mask)


def _first_readable(pairs: Sequence[Pair], bands: Sequence[str]) -> SceneFiles:
    """The scene that says what all are like. A damaged one does not: whether it is put up with is decided when it is read for
    the records. Raises: CorruptFile if all are damaged; UserError."""
    first = None
    for pair in pairs:
        try:
            return read_scene(pair.images, bands)
        except CorruptFile as error:
            first = first or error
    assert first is not None
    raise first


def _apart(pairs: Sequence[Pair]) -> list[Pair]:
    """With ids and names that are told apart where files of several folders are called alike."""
    first = [pair.images[0] for pair in pairs]
    ids = told_apart([pair.id for pair in pairs], first)
    names = told_apart([path.name for path in first], first, suffix=True)
    return [dataclasses.replace(p, id=i, name=n) for p, i, n in zip(pairs, ids, names, strict=True)]


def _below(path: Path, root: Path) -> str:
    """Below root as it lies there, so that a data set may move; elsewhere in full."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _leaks(items: dict[str, list[Pair]]) -> tuple[str, ...]:
    found = iter(bounds_of([pair.images for pairs in items.values() for pair in pairs]))
    places = {s: [b for _ in pairs if (b := next(found)) is not None] for s, pairs in items.items()}
    notes = leaks(places)
    for note in notes:
        logger.warning("%s", note)
    return notes


def _listed_pairs(root: Path, split: str, lists: dict[str, str]) -> list[Pair]:
    """Of a CSV with the columns image, image_2, ..., mask."""
    if split not in lists:
        raise UserError(f"split_lists has no list for the split {split!r}: add it or change splits.")
    path = outputs.given(lists[split], f"split_lists['{split}']", root)
    if not path.is_file():
        raise UserError(f"There is no list {path} for the split {split!r}: correct split_lists.")
    columns, rows = texts.table(texts.read(path, "list"), f"list {path}")
    images = [c for c in columns if re.fullmatch(r"image(_\d+)?", c)]
    if "mask" not in columns or not images:
        raise UserError(f"The list {path} has the columns {', '.join(columns)}: image and mask are needed.")
    pairs = []
    for number, row in rows:
        places = [gdal.address(row[c], f"{c!r} in line {number} of {path}", root) for c in (*images, "mask")]
        missing = [p for p in places if not gdal.present(p)]
        if missing:
            raise UserError(f"Line {number} of {path} names {missing[0]}, which is no file: correct it.")
        pairs.append(Pair(places[0].stem, tuple(places[:-1]), places[-1]))
    if not pairs:
        raise UserError(f"The data set {root} has no split {split!r}: {path} lists nothing.")
    return pairs


def _matches(root: Path, pattern: str, split: str) -> dict[str, Path]:
    """id -> file, for the files below root that match the pattern, sorted by id."""
    pattern = pattern.replace("{split}", split)
    expression = re.compile(re.escape(pattern).replace(r"\{id\}", "(?P<id>[^/]+)", 1).replace(r"\{id\}", "(?P=id)"))
    found, passed = {}, []
    if Path(pattern).is_absolute() or pattern.startswith("~/") or ".." in Path(pattern).parts or "**" in pattern:
        raise UserError(f"The pattern {pattern!r} leads out of the folder: give one below config.data.source.")
    for path in root.glob(pattern.replace("{id}", "*")):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and leftover(path.name):
            passed.append(path)
        elif match:
            found[match["id"]] = path
    say_passed_over(passed)
    return dict(sorted(found.items()))


def _pairs(root: Path, split: str, images: tuple[str, ...], mask: str, lists: dict[str, str]) -> list[Pair]:
    if lists:
        if split not in lists:
            raise UserError(f"split_lists has no list for the split {split!r}: add it or change splits.")
        path = outputs.given(lists[split], f"split_lists['{split}']", root)
        if not path.is_file():
            raise UserError(f"There is no list {path} for the split {split!r}: correct split_lists.")
        names = texts.lines(texts.read(path, "list"))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path} lists {twice[0]!r} twice: list each image once.")
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
