"""DFC2020: Sentinel-2 (13 bands) and Sentinel-1 of seven regions of the world, land cover at 10 m, 256 x 256 pixels an image.

2020 IEEE GRSS Data Fusion Contest (Schmitt, Hughes, Ghamisi, Yokoya, Hänsch; doi 10.21227/rha7-m332, CC BY). Masks were made
half by hand; the coarse MODIS maps beside them (lc_*) are not read. Two layouts are known, as folders or in zip archives:

    the contest's      ROIs0000_{validation,test}/{s2,s1,dfc}_PLACE/ROIs0000_validation_s2_PLACE_p0.tif
    the later release  ROIs0000_{spring,summer,autumn,winter}/{s2,s1,dfc}_{Mumbai,CapeTown,...}/ROIs0000_autumn_s2_Mumbai_p0.tif

s2: uint16, reflectance times 10,000, bands B1 .. B8, B8A, B9 .. B12; s1: decibels, VV and VH. A mask holds the contest's
simplified IGBP classes 1 .. 10, 0 is unlabelled (the contest's own loader, dfc_sen12ms_dataset.py). Savanna (3) and snow (8) do not
count in the contest and are ignored.
"""

import dataclasses
import re

import numpy as np

from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, downloads
from genseg.data.files.masks import renumber
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import DIFFERENT, FILLED, each, key, one_of

S2 = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22",
)  # fmt: skip
S1 = ("vv", "vh")
# Numbers of the masks, and torchgeo's colours (datasets/copernicus/dfc2020_s2.py).
CLASSES = {
    1: ("forest", (0, 153, 0)), 2: ("shrubland", (198, 176, 68)), 4: ("grassland", (182, 255, 5)),
    5: ("wetlands", (39, 255, 135)), 6: ("croplands", (194, 79, 68)), 7: ("urban", (165, 165, 165)),
    9: ("barren", (249, 255, 164)), 10: ("water", (28, 13, 255)),
}  # fmt: skip
SIZE = (256, 256)
COUNTS = {"validation": 986, "test": 5128}  # images of the contest's two parts
SPLITS = {  # split -> the contest's part
    "contest": {"train": "validation", "test": "test"}, "reversed": {"train": "test", "test": "validation"},
}  # fmt: skip
SPLIT_WORDS = {
    "contest": "trained on the contest's 986 validation images, scored on its 5,128 test images",
    "reversed": "trained on the contest's 5,128 test images, scored on its 986 validation images",
    "places": "split by region: scored on {}",
}
_NAME = re.compile(r"ROIs0000_([a-z]+)_(s2|s1|dfc)_(\w+)_p(\d+)\.tif", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class DFC2020:
    """name="dfc2020"."""

    source: str = key("", "folder with ROIs0000_*; empty = the prepared copy in data_dir")
    bands: tuple[str, ...] = key(
        S2, f"any of Sentinel-2's {', '.join(S2)} and Sentinel-1's vv, vh (all bands are then stored as float32)",
        FILLED, DIFFERENT, each(one_of(*S2, *S1)),
    )  # fmt: skip
    split: str = key(
        "contest", "contest: train on its validation part, score its test part; reversed: the other way; places: by region, "
        "see held_out (the later release)", one_of(*SPLIT_WORDS),
    )  # fmt: skip
    held_out: tuple[str, ...] = key((), "split=places: the regions that are scored, such as ('Mumbai', 'CapeTown')")
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing files, an unknown option."""
        root = existing_folder(self.source, "DFC2020, with ROIs0000_*")
        sensors = tuple(s for s, names in (("s2", S2), ("s1", S1)) if set(names) & set(self.bands))
        found: dict[tuple[str, str, int], dict[str, downloads.File]] = {}
        for file in downloads.listing(root):
            if match := _NAME.fullmatch(file.name):
                part, kind, place, number = match.groups()
                found.setdefault((part.lower(), place, int(number)), {}).setdefault(kind.lower(), file)
        if not found:
            raise UserError(f"{root} holds no image of DFC2020: expected ROIs0000_validation/s2_validation/..._p0.tif.")
        chosen = {split: [] for split in ("train", "test")}
        for image in sorted(found):
            if split := self._split_of(image):
                chosen[split].append(image)
        checks, items = [], {}
        for split, images in chosen.items():
            lost = [_name(i, kind) for i in images for kind in (*sensors, "dfc") if kind not in found[i]]
            expected = max(COUNTS.get(SPLITS.get(self.split, {}).get(split, ""), 0), len(images))
            lost += [f"image {i + 1}" for i in range(len(images), expected)]
            checks.append(downloads.Check(f"{split} images", expected, tuple(lost)))
            items[split] = [(i, found[i]) for i in images if {*sensors, "dfc"} <= found[i].keys()]
        notes = downloads.take_stock("DFC2020", root, checks, self.allow_incomplete)
        if empty := [split for split, images in items.items() if not images]:
            places = ", ".join(sorted({place for _, place, _ in found}))
            raise UserError(f"DFC2020 in {root} has no {empty[0]} image with split={self.split!r}; it holds {places}.")
        card = DatasetCard(
            name="dfc2020",
            task="segmentation",
            bands=tuple(Band(b) for b in self.bands),
            classes=tuple(name for name, _ in CLASSES.values()),
            palette=tuple(colour for _, colour in CLASSES.values()),
            ignore_label=255,
            scored=tuple(range(len(CLASSES))),
            splits={},
            protocol=f"DFC2020, {SPLIT_WORDS[self.split].format(' and '.join(self.held_out))}; average accuracy (mAcc) and mIoU "
            "over 8 classes, savanna, snow and unlabelled pixels ignored, whole images",
            synthetic=False,
            dtype="float32" if "s1" in sensors else "uint16",
            notes=notes,
        )
        used = [f for images in items.values() for _, files in images for f in files.values()]
        return Plan(card, items, lambda split, item: self._load(card, item), fingerprint_of_downloads(self, used))

    def _split_of(self, image: tuple[str, str, int]) -> str | None:
        part, place, _ = image
        if self.split == "places":
            return "test" if place in self.held_out else "train"
        return next((split for split, wanted in SPLITS[self.split].items() if wanted == part), None)

    def _load(self, card: DatasetCard, item: tuple) -> tuple[list[Record], Moments]:
        image, files = item
        bands = {}
        for sensor, names in (("s2", S2), ("s1", S1)):
            if not set(names) & set(self.bands):
                continue
            pixels = codec.decode_image(files[sensor].read(), str(files[sensor]))
            if pixels.shape != (*SIZE, len(names)):
                raise UserError(f"{files[sensor]} is {pixels.shape}: {(*SIZE, len(names))} is expected.")
            bands |= {name: pixels[..., place] for place, name in enumerate(names)}
        pixels = np.stack([bands[name].astype(card.dtype) for name in self.bands], axis=-1)
        numbers = codec.decode_mask(files["dfc"].read(), str(files["dfc"]))
        if numbers.shape != SIZE:
            raise UserError(f"The mask {files['dfc']} is {numbers.shape}: {SIZE} is expected, one number a pixel.")
        ids = renumber(numbers, tuple(CLASSES), 255, None, str(files["dfc"]), ignored_ids=(0, 3, 8))
        name = _name(image, "s2").removesuffix(".tif")
        record = Record(codec.encode_image(pixels), codec.encode_mask(ids), name, name, 0, 0, *SIZE)
        return [record], Moments.of(pixels)


def _name(image: tuple[str, str, int], kind: str) -> str:
    part, place, number = image
    return f"ROIs0000_{part}_{kind}_{place}_p{number}.tif"
