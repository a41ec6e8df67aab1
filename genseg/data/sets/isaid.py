"""iSAID: 2,806 aerial scenes of DOTA-v1.0 with 15 object classes, for semantic segmentation.

Waqas Zamir et al., "iSAID: A Large-scale Dataset for Instance Segmentation in Aerial Images", CVPRW 2019. Images come
from the DOTA-v1.0 download, masks from iSAID's, for train (1,411) and val (458); test masks are withheld. Academic use.

Layouts read, as folders or as the zip archives that are downloaded:

    {train,val}/images/P0000.png + P0000_instance_color_RGB.png          iSAID_Devkit
    {train,val}/images/part*.zip + {train,val}/Semantic_masks/images.zip  mmsegmentation

Traps. `_instance_color_RGB.png` is the class map and `_instance_id_RGB.png` the instance map, although both names say
"instance". Colours are red, green, blue in this order; PFSegNets' table lists them backwards, and the RSP code swaps
storage tank and roundabout: only per-class names differ. Some images are grey. Scenes reach 8,115 x 13,383 pixels.
"""

import dataclasses
import re

from genseg.data.augment.resizing import resize, resize_mask
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, downloads
from genseg.data.files.masks import colours_to_ids
from genseg.data.records import patches
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets import published_names
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import at_least, key, one_of

# CAPTAIN-WHU/iSAID_Devkit, cityscapesscripts/helpers/labels.py.
CLASSES = {
    "background": (0, 0, 0), "ship": (0, 0, 63), "storage tank": (0, 63, 63), "baseball diamond": (0, 63, 0),
    "tennis court": (0, 63, 127), "basketball court": (0, 63, 191), "ground track field": (0, 63, 255),
    "bridge": (0, 127, 63), "large vehicle": (0, 127, 127), "small vehicle": (0, 0, 127), "helicopter": (0, 0, 191),
    "swimming pool": (0, 0, 255), "roundabout": (0, 191, 127), "soccer ball field": (0, 127, 191),
    "plane": (0, 127, 255), "harbor": (0, 100, 155),
}  # fmt: skip
# Published numbers of 896-pixel patches at stride 512; both variants were recounted from the image sizes.
PATCHES = {"mmseg": {"train": 33_978, "val": 11_644}, "rsp": {"train": 33_620, "val": 11_533}}
_WORDS = "iSAID, mIoU over 16 classes incl. background, "
_ENDS = "scored by itself, so that overlaps count again; published scores are of val"
PROTOCOLS = {
    "mmseg": f"{_WORDS}every 896 patch (stride 512, small scenes padded) {_ENDS}",
    "rsp": f"{_WORDS}every 896 patch (stride 512, scenes with a side of at most 896 resized whole to 896 x 896) {_ENDS}",
}


@dataclasses.dataclass(frozen=True)
class ISAID:
    """name="isaid"."""

    source: str = key("", "folder with train/ and val/; empty = the prepared copy in data_dir")
    patch: int = key(896, "side of patches, pixels", at_least(1))
    stride: int = key(512, "from patch to patch, pixels", at_least(1))
    protocol: str = key(
        "mmseg", "mmseg: small scenes padded, 33,978 + 11,644 patches; rsp: small scenes resized, as split scripts of "
        "PFSegNets, RSP and RVSA do, 33,620 + 11,533 patches", one_of(*PROTOCOLS),
    )  # fmt: skip
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, an unknown protocol, missing files."""
        root = existing_folder(self.source, "iSAID, with train/ and val/")
        if self.protocol not in PROTOCOLS:
            raise UserError(f"iSAID has no protocol {self.protocol!r}: it has {', '.join(PROTOCOLS)}.")
        patches.windows(self.patch, self.patch, self.patch, self.stride)
        checks, items = [], {}
        for split in ("train", "val"):
            folder = root / split
            if not folder.is_dir():
                raise UserError(f"iSAID in {root} has no split {split!r}: expected the folder {folder}.")
            listed = downloads.listing(folder)
            images = downloads.by_key(listed, lambda f: _number(f, r"(P\d{4})\.png"))
            masks = downloads.by_key(listed, lambda f: _number(f, r"(P\d{4})_instance_color_RGB\.png"))
            names = published_names.ISAID[split]
            checks.append(downloads.Check(f"{split} images", len(names), _missing(names, images, "{}.png")))
            checks.append(
                downloads.Check(f"{split} masks", len(names), _missing(names, masks, "{}_instance_color_RGB.png"))
            )
            items[split] = [(n, images[n], masks[n]) for n in names if n in images and n in masks]
            if not items[split]:
                raise UserError(
                    f"{folder} holds no image of the official {split} split with its mask: the first pair would be "
                    f"{names[0]}.png and {names[0]}_instance_color_RGB.png."
                )
        notes = downloads.take_stock("iSAID", root, checks, self.allow_incomplete)
        card = DatasetCard(
            name="isaid",
            task="segmentation",
            bands=(Band("red"), Band("green"), Band("blue")),
            classes=tuple(CLASSES),
            palette=tuple(CLASSES.values()),
            ignore_label=255,
            scored=tuple(range(16)),
            splits={},
            protocol=PROTOCOLS[self.protocol]
            if (self.patch, self.stride) == (896, 512)
            else f"{_WORDS}patches of {self.patch} at stride {self.stride}: no published protocol",
            synthetic=False,
            notes=notes,
        )
        used = [f for pairs in items.values() for _, *pair in pairs for f in pair]
        mark = fingerprint_of_downloads(self, used, name=lambda file: file.name)
        published = (self.patch, self.stride) == (896, 512) and not notes
        return Plan(
            card, items, lambda split, item: self._load(card, split, item), mark,
            expected=PATCHES[self.protocol] if published else {},
        )  # fmt: skip

    def _load(self, card: DatasetCard, split: str, item: tuple[str, downloads.File, downloads.File]):
        name, image_file, mask_file = item
        image = codec.decode_rgb(image_file.read(), str(image_file))
        colours = codec.decode_mask(mask_file.read(), str(mask_file))
        ids = colours_to_ids(colours, {c: i for i, c in enumerate(card.palette)}, str(mask_file))
        if ids.shape != image.shape[:2]:
            raise UserError(
                f"{image_file} has {image.shape[0]} x {image.shape[1]} pixels, its mask {ids.shape[0]} x "
                f"{ids.shape[1]}: download them again."
            )
        moments = Moments.of(image)
        if self.protocol == "rsp" and min(ids.shape) <= self.patch:
            patch = (self.patch, self.patch)
            record = Record(
                codec.encode_image(resize(image, *patch, "bilinear")), codec.encode_mask(resize_mask(ids, *patch)),
                f"{split}/{name}", name, 0, 0, *ids.shape,
            )  # fmt: skip
            return [record], moments
        return list(patches.cut(image, ids, self.patch, self.stride, card, name, f"{split}/")), moments


def _number(file: downloads.File, pattern: str) -> str | None:
    match = re.fullmatch(pattern, file.name)
    return match[1] if match else None


def _missing(names: list[str], found: dict[str, downloads.File], pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(n) for n in names if n not in found)
