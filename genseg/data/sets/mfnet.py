"""MFNet: street scenes in colour and thermal infrared, by day and by night, nine classes.

Ha et al., "MFNet: Towards Real-Time Semantic Segmentation for Autonomous Vehicles with Multi-Spectral Scenes", IROS
2017. 1,569 pairs of 480 x 640, 820 by day and 749 by night; train 784, val 392, test 393. Layouts read, as folders or
in zip archives:

    images/<id>.png (RGBA, the "alpha" is thermal) + labels/<id>.png              official
    seperated_images/<id>_rgb.png + <id>_th.png, labels/                          GMNet, LASNet, EGFNet
    RGB/ + Thermal/ or Modal/ + Label/; rgb/ + ther/ or thermal/ + labels/        CMX, Sigma, CMNeXt

and the lists {train,val,test}.txt with one id a line. Traps: viewers and Pillow's conversions treat thermal as opacity;
the official train.txt also lists <id>_flip names for files that a script of the authors makes: they are left out, since
training flips at random; only 4 of 393 test images hold a guardrail.
"""

import dataclasses

from genseg import texts
from genseg.data.card import Band, DatasetCard
from genseg.data.files import downloads
from genseg.data.records.storage import Plan
from genseg.data.sets import rgb_thermal
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import key, one_of

# RTFNet, util/util.py.
CLASSES = {
    "unlabelled": (0, 0, 0), "car": (64, 0, 128), "person": (64, 64, 0), "bike": (0, 128, 192), "curve": (0, 0, 192),
    "car stop": (128, 128, 0), "guardrail": (64, 64, 128), "colour cone": (192, 128, 128), "bump": (192, 64, 0),
}  # fmt: skip
# RTFNet, doc/RAL2019_RTFNet.pdf: half of each of 820 day and 749 night pairs, a quarter, the rest.
COUNTS = {"train": 784, "val": 392, "test": 393}
SIZE = (480, 640)  # pixels, height and width of every image
_WORDS = "whole 480 x 640 images, single scale, one confusion matrix; published scores are of test"
PROTOCOLS = {
    "rtfnet": f"MFNet, mIoU over 9 classes incl. unlabelled, {_WORDS}",
    "crm": f"MFNet, mIoU over 9 classes incl. unlabelled, absent ones as 0, {_WORDS}",
    "foreground": f"MFNet, mIoU over the 8 labelled classes (unlabelled left out of the mean), {_WORDS}",
}

_DAY_NIGHT = (("day", r"D(\.\w+)?$"), ("night", r"N(\.\w+)?$"))
_COLOUR = ("rgb",)
_THERMAL = ("thermal", "modal", "ther", "th")
_LABELS = ("labels", "label")


@dataclasses.dataclass(frozen=True)
class MFNet:
    """name="mfnet"."""

    source: str = key("", "folder with images, labels and lists; empty = the prepared copy in data_dir")
    train_on: str = key(
        "train", "or train+val, as Sigma and a fork of CMX do: 1,176 images; then val is not apart from it",
        one_of("train", "train+val"),
    )  # fmt: skip
    protocol: str = key(
        "rtfnet", "rtfnet: 9 classes, the usual one; crm: as that, but a class that is neither in truth nor in prediction "
        "scores 0, which matters by day or by night only; foreground: 8 classes", one_of(*PROTOCOLS),
    )  # fmt: skip
    allow_incomplete: bool = key(False, "go on with missing files or other list lengths; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing lists or files, an unknown protocol or train_on."""
        root = existing_folder(self.source, "MFNet, with images/, labels/ and train.txt")
        if self.protocol not in PROTOCOLS:
            raise UserError(f"MFNet has no protocol {self.protocol!r}: it has {', '.join(PROTOCOLS)}.")
        if self.train_on not in ("train", "train+val"):
            raise UserError(f"train_on is {self.train_on!r}: use 'train' or 'train+val'.")
        listed = downloads.listing(root)
        lists = downloads.by_key(listed, lambda f: f.stem if f.name.endswith(".txt") else None)
        pictures = [f for f in listed if f.name.lower().endswith((".png", ".jpg", ".jpeg"))]
        whole = downloads.by_key(pictures, lambda f: f.stem if f.folder == "images" else None)
        colour = downloads.by_key(pictures, lambda f: _part(f, "_rgb", _COLOUR))
        thermal = downloads.by_key(pictures, lambda f: _part(f, "_th", _THERMAL))
        labels = downloads.by_key(pictures, lambda f: f.stem if f.folder in _LABELS else None)
        checks, items = [], {}
        for split, expected in COUNTS.items():
            if split not in lists:
                raise UserError(f"MFNet in {root} has no list {split}.txt: download it with the images.")
            names = [
                line.rsplit("/", 1)[-1]
                for line in texts.lines(texts.decode(lists[split].read(), f"list {lists[split]}"))
            ]
            names = [n.removesuffix(".png").removesuffix(".jpg").removesuffix("_rgb") for n in names]
            names = [n for n in names if not n.endswith("_flip")]
            if not names:
                raise UserError(f"The list {lists[split]} names no image.")
            pairs, lost = [], []
            for name in names:
                images = (whole[name],) if name in whole else tuple(p[name] for p in (colour, thermal) if name in p)
                if not images or (name not in whole and len(images) < 2):
                    lost.append(f"{name} ({'thermal' if name in colour else 'image'})")
                elif name not in labels:
                    lost.append(f"{name} (label)")
                else:
                    pairs.append((name, images, labels[name]))
            lost += [f"entry {i + 1} of {split}.txt" for i in range(len(names), expected)]
            checks.append(downloads.Check(f"{split} pairs", max(expected, len(names)), tuple(lost)))
            items[split] = pairs
            if not pairs:
                raise UserError(f"MFNet in {root} has no pair of the split {split!r}: the first would be {names[0]}.")
        notes = downloads.take_stock("MFNet", root, checks, self.allow_incomplete)
        longer = [s for s, n in COUNTS.items() if len(items[s]) > n]
        if longer:
            raise UserError(
                f"{longer[0]}.txt of MFNet lists {len(items[longer[0]])} images, the official one "
                f"{COUNTS[longer[0]]}: use the official list."
            )
        if self.train_on == "train+val":
            items["train"] = items["train"] + items["val"]
            notes += ("Trained on train + val, as Sigma is: only scores on test are apart from training.",)
        card = DatasetCard(
            name="mfnet",
            task="segmentation",
            bands=(Band("red"), Band("green"), Band("blue"), Band("thermal")),
            classes=tuple(CLASSES),
            palette=tuple(CLASSES.values()),
            ignore_label=255,
            scored=tuple(range(1, 9)) if self.protocol == "foreground" else tuple(range(9)),
            splits={},
            protocol=PROTOCOLS[self.protocol],
            synthetic=False,
            absent="zero" if self.protocol == "crm" else "skip",
            notes=notes,
            groups=_DAY_NIGHT,
        )
        return rgb_thermal.plan(self, card, items, SIZE)


def _part(file: downloads.File, suffix: str, folders: tuple[str, ...]) -> str | None:
    """The id of a colour or thermal file in one of the repackaged layouts."""
    if file.folder == "seperated_images":
        return file.stem.removesuffix(suffix) if file.stem.endswith(suffix) else None
    return file.stem if file.folder in folders else None
