"""ISPRS Vaihingen: 33 orthophotos of a small town (9 cm, infrared, red, green) with a surface model.

Cramer 2010 and Rottensteiner et al., ISPRS benchmark on urban object classification; access by a form at isprs.org, no
redistribution. Areas are about 2,000 x 2,500 pixels, each of its own size. Read from the archives (they may stay packed; nesting
does not matter, but images and full labels have the same names, so that images must lie in a folder `top`):

    ISPRS_semantic_labeling_Vaihingen.zip                             top/top_mosaic_09cm_area1.tif   uint8 IR, R, G
                                                                      dsm/dsm_09cm_matching_area1.tif float32 metres
                                                                      gts_for_participants/top_mosaic_09cm_area1.tif
    ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip         top_mosaic_09cm_area1.tif       colours, all areas
    ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip  top_mosaic_09cm_area1_noBoundary.tif
    dsm_09cm_matching_area1_normalized.jpg                              uint8, height above ground (Gerke 2015)

Names and split: torchgeo's datasets/vaihingen.py and mmsegmentation's tools/dataset_converters/vaihingen.py, which agree. The
eroded archive also has a label of area 9, which has no image.
"""

import dataclasses
import re

import numpy as np

from genseg.data.card import DatasetCard
from genseg.data.files import codec, downloads
from genseg.data.records import patches
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder
from genseg.data.sets.potsdam import PROTOCOLS, isprs_card, label_ids
from genseg.errors import UserError
from genseg.keys import DIFFERENT, FILLED, at_least, each, key, one_of

SPLITS = {
    "train": (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37),
    "test": (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38),
}
COLOURS = ("ir", "red", "green")  # order of an image's bands
HEIGHTS = {"ndsm": "ndsm", "dsm": "dsm", "dsm_minmax": "dsm"}  # band -> file
NAMES = {
    "image": "top_mosaic_09cm_area{}.tif", "dsm": "dsm_09cm_matching_area{}.tif",
    "ndsm": "dsm_09cm_matching_area{}_normalized.jpg", "full": "top_mosaic_09cm_area{}.tif",
    "eroded": "top_mosaic_09cm_area{}_noBoundary.tif",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Vaihingen:
    """name="vaihingen"."""

    source: str = key("", "folder of the downloads; empty = the prepared copy in data_dir")
    bands: tuple[str, ...] = key(
        (*COLOURS, "dsm_minmax"), "any of ir, red, green and one height: dsm_minmax (each area's range to 0 .. 255; not "
        "comparable between areas), dsm (metres; all bands are then stored as float32) or ndsm (above ground, of files that are "
        "not in the ISPRS archives)", FILLED, DIFFERENT, each(one_of(*COLOURS, *HEIGHTS)),
    )  # fmt: skip
    protocol: str = key("geoseg", "which labels are used and which classes count, as for potsdam", one_of(*PROTOCOLS))
    patch: int = key(512, "side of patches, pixels", at_least(1))
    stride: int = key(512, "from patch to patch, pixels; the last ones are moved back to the border", at_least(1))
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing files, an unknown option."""
        root = existing_folder(self.source, "ISPRS Vaihingen")
        patches.windows(self.patch, self.patch, self.patch, self.stride)
        protocol, found = PROTOCOLS[self.protocol], _by_kind(downloads.listing(root))
        kinds = ["image", *sorted({HEIGHTS[b] for b in self.bands if b in HEIGHTS})]
        checks, items = [], {}
        for split, areas in SPLITS.items():
            labels = protocol.train_labels if split == "train" else protocol.test_labels
            for kind in (*kinds, labels):
                lost = tuple(NAMES[kind].format(area) for area in areas if area not in found[kind])
                checks.append(downloads.Check(f"{split} {kind}{'s' if kind == 'image' else ''}", len(areas), lost))
            whole = [a for a in areas if all(a in found[kind] for kind in (*kinds, labels))]
            items[split] = [(a, {kind: found[kind][a] for kind in kinds}, found[labels][a]) for a in whole]
        notes = downloads.take_stock("Vaihingen", root, checks, self.allow_incomplete)
        items = {split: areas for split, areas in items.items() if areas}
        if "train" not in items:
            raise UserError(f"{root} holds no training area of Vaihingen: the first is top/{NAMES['image'].format(1)}.")
        words = "ISPRS Vaihingen, 16 training and 17 test areas"
        card = isprs_card("vaihingen", words, protocol, self.bands, self.patch, self.stride, notes)
        files = [f for areas in items.values() for _, images, label in areas for f in (*images.values(), label)]
        mark = fingerprint_of_downloads(self, files)
        return Plan(card, items, lambda split, item: self._load(card, split, item), mark)

    def _load(self, card: DatasetCard, split: str, item: tuple) -> tuple[list[Record], Moments]:
        area, files, label = item
        colours = codec.decode_image(files["image"].read(), str(files["image"]))
        if colours.dtype != np.uint8 or colours.shape[2] != len(COLOURS):
            raise UserError(
                f"{files['image']} has {colours.shape[2]} band(s) of {colours.dtype}: 3 of uint8 (IR, R, G) are expected."
            )
        size = colours.shape[:2]
        bands = {name: colours[..., place] for place, name in enumerate(COLOURS)}
        for kind in files.keys() - {"image"}:
            height = codec.decode_image(files[kind].read(), str(files[kind]))[..., 0]
            _same_size(height, size, files[kind], "image")
            bands[kind] = height
        if "dsm_minmax" in self.bands:
            dsm = bands["dsm"].astype(np.float32)
            low, high = float(dsm.min()), float(dsm.max())
            bands["dsm_minmax"] = np.rint((dsm - low) * (255 / max(high - low, 1e-6)))
        image = np.stack([bands[name].astype(card.dtype) for name in self.bands], axis=-1)
        ids = label_ids(codec.decode_mask(label.read(), str(label)), card, str(label))
        _same_size(ids, size, label, "image")
        scene = f"area{area}"
        return list(patches.cut(image, ids, self.patch, self.stride, card, scene, f"{split}/")), Moments.of(image)


def _by_kind(listed: list[downloads.File]) -> dict[str, dict[int, downloads.File]]:
    """kind of `NAMES` -> area -> file. Of full labels the complete set comes before the participants' one."""
    named = {
        kind: re.compile(re.escape(name).replace(r"\{\}", r"(\d+)"), re.IGNORECASE) for kind, name in NAMES.items()
    }

    def of(kind: str, belongs=lambda file: True):
        def area(file: downloads.File) -> int | None:
            match = named[kind].fullmatch(file.name)
            return int(match[1]) if match and belongs(file) else None

        return downloads.by_key(listed, area)

    def participants(file: downloads.File) -> bool:
        return file.folder.endswith("for_participants")

    found = {kind: of(kind) for kind in ("dsm", "ndsm", "eroded")}
    found["image"] = of("image", lambda file: file.folder == "top")
    found["full"] = of("full", participants) | of("full", lambda f: f.folder != "top" and not participants(f))
    return found


def _same_size(band: np.ndarray, size: tuple[int, int], file: downloads.File, other: str) -> None:
    if band.shape[:2] != size:
        raise UserError(
            f"{file} has {band.shape[0]} x {band.shape[1]} pixels, its {other} {size[0]} x {size[1]}: use the official files."
        )
