"""ISPRS Potsdam: 38 orthophoto tiles of 6000 x 6000 pixels (5 cm) with infrared and height.

Rottensteiner et al., ISPRS benchmark on urban object classification; access by a form at isprs.org, no redistribution.
Folders (zips may stay packed; nesting does not matter, files are known by their names):

    top_potsdam_2_10_RGBIR.tif                  uint8 R, G, B, IR; or ..._RGB.tif and ..._IRRG.tif
    dsm_potsdam_02_10.tif                       float32 metres above the ellipsoid; fields zero-padded, unlike images
    dsm_potsdam_02_10_normalized_lastools.jpg   uint8, decimetres above ground, up to 25.5 m; or ..._ownapproach.jpg
    top_potsdam_2_10_label.tif                  colours; ..._label_noBoundary.tif: class borders eroded to black

Traps. The labels of 4_12 (24,850 colours) and 6_7 (cars at (252, 255, 0)) went through lossy coding: exact matching
loses every pixel of 4_12 and nearly all cars of 6_7. Each channel is thresholded at 127 instead, which leaves no
unknown pixel in any tile. DSM and nDSM of 3_13 are one column short: the last one is repeated. Some `ownapproach`
files are empty.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, downloads
from genseg.data.files.masks import colours_to_ids
from genseg.data.records import patches
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import DIFFERENT, FILLED, at_least, each, key, one_of

SIZE = 6000  # pixels a side of every tile
CLASSES = {
    "impervious": (255, 255, 255), "building": (0, 0, 255), "low vegetation": (0, 255, 255), "tree": (0, 255, 0),
    "car": (255, 255, 0), "clutter": (255, 0, 0),
}  # fmt: skip
_TRAIN = (
    "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12"
)
_TEST = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13"


def _without(tiles: str, left_out: str) -> tuple[str, ...]:
    return tuple(t for t in tiles.split() if t not in left_out.split())


# "official": mmsegmentation, torchgeo, RSP. "geoseg": UNetFormer, which keeps 2_10 for validation and leaves 7_10 out for
# errors in its labels. "18_6": CMFNet and FTransUNet. "audebert": DeepNetsForEO, legacy/README.md.
SPLITS = {
    "official": {"train": tuple(_TRAIN.split()), "test": tuple(_TEST.split())},
    "geoseg": {"train": _without(_TRAIN, "2_10 7_10"), "val": ("2_10",), "test": tuple(_TEST.split())},
    "18_6": {
        "train": _without(_TRAIN, "4_10 5_11 2_11 3_10 6_11 7_12"),
        "test": ("4_10", "5_11", "2_11", "3_10", "6_11", "7_12"),
    },
    "audebert": {
        "train": _without(_TRAIN, "2_11 7_12 3_11 5_12 7_10 4_12"),
        "test": ("2_11", "7_12", "3_11", "5_12", "7_10", "4_12"),
    },
}
SPLIT_WORDS = {
    "official": "24 training and 14 test tiles", "geoseg": "22 training, 1 validation and 14 test tiles",
    "18_6": "18 training and 6 test tiles of CMFNet", "audebert": "18 training and 6 test tiles of DeepNetsForEO",
}  # fmt: skip
HEIGHTS = ("ndsm", "ndsm_own", "dsm", "dsm_minmax")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which labels are used and which classes count."""

    train_labels: str
    test_labels: str
    ignored: tuple[str, ...]
    scored: tuple[int, ...]
    words: str


PROTOCOLS = {
    "rsp": Protocol(
        "full", "full", ("clutter",), (0, 1, 2, 3, 4),
        "mF1 and mIoU over 5 classes, clutter ignored in loss and score, full labels",
    ),
    "geoseg": Protocol(
        "full", "eroded", (), (0, 1, 2, 3, 4),
        "6 classes trained and counted, mF1 and mIoU over the first 5 (no clutter), full labels in training, eroded "
        "in test",
    ),
    "mmseg": Protocol("eroded", "eroded", (), (0, 1, 2, 3, 4, 5), "mF1 and mIoU over all 6 classes, eroded labels"),
    "aerialformer": Protocol(
        "eroded", "eroded", ("clutter",), (0, 1, 2, 3, 4),
        "mF1 and mIoU over 5 classes, clutter ignored in loss and score, eroded labels",
    ),
}  # fmt: skip


def isprs_card(
    name: str, words: str, protocol: Protocol, bands: Sequence[str], patch: int, stride: int, notes: tuple[str, ...]
) -> DatasetCard:
    """Of one of the two towns, before its statistics. words: the data and its split, as the protocol's line begins."""
    classes = [c for c in CLASSES if c not in protocol.ignored]
    return DatasetCard(
        name=name,
        task="segmentation",
        bands=tuple(Band(b) for b in bands),
        classes=tuple(classes),
        palette=tuple(CLASSES[c] for c in classes),
        ignore_label=255,
        scored=protocol.scored,
        splits={},
        protocol=f"{words}, {protocol.words}, one confusion matrix over patches of {patch} at stride {stride}; published "
        "scores are of test",
        synthetic=False,
        dtype="float32" if "dsm" in bands else "uint8",
        notes=notes,
    )


@dataclasses.dataclass(frozen=True)
class Potsdam:
    """name="potsdam"."""

    source: str = key("", "folder of the downloads; empty = the prepared copy in data_dir")
    bands: tuple[str, ...] = key(
        ("red", "green", "blue", "ir", "ndsm"), "any of red, green, blue, ir and one height: ndsm (lastools, decimetres), "
        "ndsm_own, dsm (metres; all bands are then stored as float32) or dsm_minmax (each tile's range to 0 .. 255; not "
        "comparable between tiles)", FILLED, DIFFERENT, each(one_of("red", "green", "blue", "ir", *HEIGHTS)),
    )  # fmt: skip
    split: str = key(
        "official",
        "official: 24 / 14 tiles; geoseg: 22 / 1 val / 14; 18_6 and audebert: 18 / 6 of the 24",
        one_of(*SPLITS),
    )
    protocol: str = key(
        "rsp", "rsp: 5 classes, full labels; aerialformer: 5 classes, eroded labels; geoseg, mmseg: 6 classes, eroded "
        "labels; see PROTOCOLS", one_of(*PROTOCOLS),
    )  # fmt: skip
    patch: int = key(512, "side of patches, pixels", at_least(1))
    stride: int = key(384, "from patch to patch, pixels", at_least(1))
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing files, an unknown option."""
        root = existing_folder(self.source, "ISPRS Potsdam")
        for field, allowed in (("split", SPLITS), ("protocol", PROTOCOLS)):
            if getattr(self, field) not in allowed:
                raise UserError(f"Potsdam has no {field} {getattr(self, field)!r}: it has {', '.join(allowed)}.")
        odd = [b for b in self.bands if b not in ("red", "green", "blue", "ir", *HEIGHTS)]
        if odd:
            raise UserError(f"Potsdam has no band {odd[0]!r}: it has red, green, blue, ir, {', '.join(HEIGHTS)}.")
        if not self.bands:
            raise UserError("bands is empty: name at least one of red, green, blue, ir, " + ", ".join(HEIGHTS) + ".")
        patches.windows(self.patch, self.patch, self.patch, self.stride)
        protocol = PROTOCOLS[self.protocol]
        listed = downloads.listing(root)
        found = {
            "RGBIR": downloads.by_key(listed, _tile(r"top_potsdam_(\d+)_(\d+)_RGBIR\.tif")),
            "RGB": downloads.by_key(listed, _tile(r"top_potsdam_(\d+)_(\d+)_RGB\.tif")),
            "IRRG": downloads.by_key(listed, _tile(r"top_potsdam_(\d+)_(\d+)_IRRG\.tif")),
            "dsm": downloads.by_key(listed, _tile(r"dsm_potsdam_(\d+)_(\d+)\.tif")),
            "ndsm": downloads.by_key(listed, _tile(r"dsm_potsdam_(\d+)_(\d+)_normalized_lastools\.jpg")),
            "ndsm_own": downloads.by_key(listed, _tile(r"dsm_potsdam_(\d+)_(\d+)_normalized_ownapproach\.jpg")),
            "full": downloads.by_key(listed, _tile(r"top_potsdam_(\d+)_(\d+)_label\.tif")),
            "eroded": downloads.by_key(listed, _tile(r"top_potsdam_(\d+)_(\d+)_label_noBoundary\.tif")),
        }
        heights = sorted({"dsm" if b.startswith("dsm") else b for b in self.bands if b in HEIGHTS})
        checks, items = [], {}
        for split, tiles in SPLITS[self.split].items():
            labels = protocol.train_labels if split == "train" else protocol.test_labels
            lost = {
                "images": [_name(t, "image") for t in tiles if not _sources(t, found, self.bands)],
                **{h: [_name(t, h) for t in tiles if t not in found[h]] for h in heights},
                f"{labels} labels": [_name(t, labels) for t in tiles if t not in found[labels]],
            }
            checks += [downloads.Check(f"{split} {what}", len(tiles), tuple(names)) for what, names in lost.items()]
            items[split] = [
                (t, {**_sources(t, found, self.bands), **{h: found[h][t] for h in heights}}, found[labels][t])
                for t in tiles
                if _sources(t, found, self.bands) and t in found[labels] and all(t in found[h] for h in heights)
            ]
        notes = downloads.take_stock("Potsdam", root, checks, self.allow_incomplete)
        items = {s: tiles for s, tiles in items.items() if tiles}
        if "train" not in items:
            raise UserError(f"{root} holds no training tile of Potsdam: the first would be top_potsdam_2_10_RGBIR.tif.")
        words = f"ISPRS Potsdam, {SPLIT_WORDS[self.split]}"
        card = isprs_card("potsdam", words, protocol, self.bands, self.patch, self.stride, notes)
        used = [f for tiles in items.values() for _, images, label in tiles for f in (*images.values(), label)]
        mark = fingerprint_of_downloads(self, used, name=lambda file: file.name)
        return Plan(card, items, lambda split, item: self._load(card, split, item), mark)

    def _load(self, card: DatasetCard, split: str, item: tuple) -> tuple[list[Record], Moments]:
        tile, images, label = item
        bands = {}
        for kind, file in images.items():
            pixels = codec.decode_image(file.read(), str(file))
            expected = np.float32 if kind == "dsm" else np.uint8
            if not np.can_cast(pixels.dtype, expected):
                raise UserError(f"{file} holds {pixels.dtype} values: {np.dtype(expected)} is expected.")
            for place, name in enumerate(_CONTENT[kind]):
                if place >= pixels.shape[2]:
                    raise UserError(f"{file} has {pixels.shape[2]} bands: {len(_CONTENT[kind])} are expected.")
                bands.setdefault(name, _square(pixels[..., place], tile, file))
        if "dsm" in bands:
            dsm = bands["dsm"].astype(np.float32)
            low, high = float(dsm.min()), float(dsm.max())
            bands["dsm_minmax"] = np.rint((dsm - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
        image = np.empty((SIZE, SIZE, len(self.bands)), card.dtype)
        for place, name in enumerate(self.bands):
            image[..., place] = bands[name]
        del bands, pixels  # a scene takes most of the memory: hold it once
        ids = label_ids(codec.decode_mask(label.read(), str(label)), card, str(label))
        if ids.shape != image.shape[:2]:
            raise UserError(
                f"The label {label} has {ids.shape[0]} x {ids.shape[1]} pixels: {SIZE} x {SIZE} are expected."
            )
        return list(patches.cut(image, ids, self.patch, self.stride, card, tile, f"{split}/")), Moments.of(image)


_CONTENT = {
    "RGBIR": ("red", "green", "blue", "ir"), "RGB": ("red", "green", "blue"), "IRRG": ("ir", "red", "green"),
    "dsm": ("dsm",), "ndsm": ("ndsm",), "ndsm_own": ("ndsm_own",),
}  # fmt: skip


def label_ids(colours: np.ndarray, card: DatasetCard, name: str) -> np.ndarray:
    """Colours [h w 3] to ids uint8 [h w], thresholded at 127; black and classes that the card lacks are ignored."""
    ids = {colour: card.classes.index(c) if c in card.classes else 255 for c, colour in CLASSES.items()}
    sharp = (colours > 127).view(np.uint8) * np.uint8(255)
    return colours_to_ids(sharp, {**ids, (0, 0, 0): 255}, name)


def _tile(pattern: str):
    """Tile name without padding zeros ("2_10") of a file that matches, else None."""

    def key(file: downloads.File) -> str | None:
        match = re.fullmatch(pattern, file.name, re.IGNORECASE)
        return f"{int(match[1])}_{int(match[2])}" if match else None

    return key


def _sources(tile: str, found: dict, bands: tuple[str, ...]) -> dict[str, downloads.File]:
    """The fewest image files that hold the wanted colour bands of a tile, or {} if there are none."""
    wanted = {b for b in bands if b in ("red", "green", "blue", "ir")} or {"red"}
    for kinds in (("RGB",), ("IRRG",), ("RGBIR",), ("RGB", "IRRG")):
        held = set().union(*(_CONTENT[k] for k in kinds))
        if wanted <= held and all(tile in found[k] for k in kinds):
            return {k: found[k][tile] for k in kinds}
    return {}


def _name(tile: str, kind: str) -> str:
    padded = "_".join(f"{int(n):02d}" for n in tile.split("_"))
    return {
        "image": f"top_potsdam_{tile}_RGBIR.tif", "full": f"top_potsdam_{tile}_label.tif",
        "eroded": f"top_potsdam_{tile}_label_noBoundary.tif", "dsm": f"dsm_potsdam_{padded}.tif",
        "ndsm": f"dsm_potsdam_{padded}_normalized_lastools.jpg",
        "ndsm_own": f"dsm_potsdam_{padded}_normalized_ownapproach.jpg",
    }[kind]  # fmt: skip


def _square(band: np.ndarray, tile: str, file: downloads.File) -> np.ndarray:
    """SIZE x SIZE; a raster that is one row or column short (the heights of 3_13) repeats its last one."""
    short = (SIZE - band.shape[0], SIZE - band.shape[1])
    if min(short) < 0 or max(short) > 1:
        raise UserError(f"{file} has {band.shape[0]} x {band.shape[1]} pixels: {SIZE} x {SIZE} are expected of a tile.")
    return np.pad(band, ((0, short[0]), (0, short[1])), mode="edge")
