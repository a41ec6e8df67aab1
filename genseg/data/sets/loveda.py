"""LoveDA: aerial images of three Chinese cities and the country around them, 0.3 m a pixel, seven classes of land cover.

Wang et al., "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive Semantic Segmentation", NeurIPS 2021 Datasets
and Benchmarks. 5,987 RGB images of 1024 x 1024; train 2,522, val 1,669; the masks of the 1,796 test images are withheld, and
scored by the authors' server. Layout read, as folders or in the zip archives Train.zip and Val.zip:

    {Train,Val}/{Urban,Rural}/images_png/<id>.png + masks_png/<id>.png

In a mask 0 is no data, 1 to 7 are the classes: stored here as 255 and 0 to 6 (mmsegmentation's reduce_zero_label).
"""

import dataclasses

from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, downloads
from genseg.data.files.masks import renumber
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import key, one_of

# Names and palette of mmsegmentation, mmseg/datasets/loveda.py.
CLASSES = {
    "background": (255, 255, 255), "building": (255, 0, 0), "road": (255, 255, 0), "water": (0, 0, 255),
    "barren": (159, 129, 183), "forest": (0, 255, 0), "agricultural": (255, 195, 128),
}  # fmt: skip
COUNTS = {"train": 2522, "val": 1669}  # Wang et al. 2021
SIZE = (1024, 1024)  # pixels, height and width of every image
PROTOCOL = (
    "LoveDA, mIoU over 7 classes incl. background, whole 1024 x 1024 images of val; most published scores are of test"
)


@dataclasses.dataclass(frozen=True)
class LoveDA:
    """name="loveda"."""

    source: str = key("", "folder with Train/ and Val/; empty = the prepared copy in data_dir")
    domain: str = key("both", "urban and rural images, or those of one domain", one_of("both", "urban", "rural"))
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing files."""
        root = existing_folder(self.source, "LoveDA, with Train/ and Val/")
        listed = [f for f in downloads.listing(root) if f.name.lower().endswith(".png")]
        images, masks = (downloads.by_key(listed, _inside(folder)) for folder in ("images_png", "masks_png"))
        checks, items = [], {}
        for split, count in COUNTS.items():
            names = sorted(n for n in images.keys() | masks.keys() if n.startswith(f"{split}/"))
            lost = [f"{n} ({'mask' if n in images else 'image'})" for n in names if n not in images or n not in masks]
            lost += [f"image {i + 1} of {split}" for i in range(len(names), count)]
            checks.append(downloads.Check(f"{split} pairs", max(count, len(names)), tuple(lost)))
            chosen = [n for n in names if n in images and n in masks and self.domain in ("both", n.split("/")[1])]
            items[split] = [(n, images[n], masks[n]) for n in chosen]
        notes = downloads.take_stock("LoveDA", root, checks, self.allow_incomplete)
        if empty := [split for split, pairs in items.items() if not pairs]:
            raise UserError(f"LoveDA in {root} has no {empty[0]} image: expected {empty[0].title()}/Urban/images_png.")
        card = DatasetCard(
            name="loveda" if self.domain == "both" else f"loveda_{self.domain}",
            task="segmentation",
            bands=(Band("red"), Band("green"), Band("blue")),
            classes=tuple(CLASSES),
            palette=tuple(CLASSES.values()),
            ignore_label=255,
            scored=tuple(range(7)),
            splits={},
            protocol=PROTOCOL if self.domain == "both" else f"{PROTOCOL}; {self.domain} images only",
            synthetic=False,
            notes=notes,
            groups=(("urban", "/urban/"), ("rural", "/rural/")) if self.domain == "both" else (),
        )
        used = [f for pairs in items.values() for _, image, mask in pairs for f in (image, mask)]
        return Plan(card, items, _load, fingerprint_of_downloads(self, used))


def _inside(folder: str):
    """ "train/urban/<id>" of a file in such a folder, else None."""

    def name(file: downloads.File) -> str | None:
        parts = file.path.lower().split("/")
        if len(parts) < 4 or parts[-2] != folder or parts[-3] not in ("urban", "rural") or parts[-4] not in COUNTS:
            return None
        return f"{parts[-4]}/{parts[-3]}/{file.stem}"

    return name


def _load(split: str, item: tuple) -> tuple[list[Record], Moments]:
    name, image, mask = item
    data = image.read()
    pixels = codec.decode_image(data, str(image))
    if pixels.shape != (*SIZE, 3):
        raise UserError(f"{image} is {pixels.shape}: LoveDA's images are {(*SIZE, 3)}; use the official files.")
    numbers = codec.decode_mask(mask.read(), str(mask))
    if numbers.shape != SIZE:
        raise UserError(f"The mask {mask} is {numbers.shape}: {SIZE} is expected, one number a pixel.")
    ids = renumber(numbers, tuple(range(1, 8)), 255, None, str(mask), ignored_ids=(0,))
    stored = codec.repacked(data, pixels)
    return [Record(stored, codec.encode_mask(ids), name, name, 0, 0, *SIZE)], Moments.of(pixels)
