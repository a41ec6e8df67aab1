"""PST900: colour and thermal images of a tunnel with four kinds of objects to be found by a rescue robot.

Shivakumar et al., "PST900: RGB-Thermal Calibration, Dataset and Segmentation Network", ICRA 2020. 597 training and 288
test pairs of 720 x 1280 (the README's 606 were never released). Layouts read, as folders or in zip archives:

    {train,test}/{rgb,thermal,thermal_raw,labels}/<name>.png              official
    RGB/ + Thermal/ or Modal/ + Label/, with or without train/ and test/   CMX, Sigma

`thermal` is 8-bit with its own gain in each image, as one channel or three equal ones; `thermal_raw` keeps 16 bits.
Where the reprojection found no thermal value, it is 0. There is no validation split.
"""

import dataclasses

from genseg.data.card import Band, DatasetCard
from genseg.data.files import downloads
from genseg.data.records.storage import Plan
from genseg.data.sets import published_names, rgb_thermal
from genseg.data.sets.found import existing_folder
from genseg.errors import UserError
from genseg.keys import key, one_of

# ShreyasSkandanS/pst900_thermal_rgb, toolkit. The palette there is written for OpenCV's blue, green, red.
CLASSES = {
    "background": (0, 0, 0), "fire extinguisher": (255, 0, 0), "backpack": (0, 255, 0), "hand drill": (0, 0, 255),
    "survivor": (255, 255, 255),
}  # fmt: skip
SIZE = (720, 1280)  # pixels, height and width of every image
_FOLDERS = {
    "rgb": ("rgb",), "thermal": ("thermal", "modal"), "thermal_raw": ("thermal_raw",), "labels": ("labels", "label"),
}  # fmt: skip
PROTOCOL = (
    "PST900, mIoU over 5 classes incl. background, whole 720 x 1280 images, labels at full size; published scores are of "
    "test"
)


@dataclasses.dataclass(frozen=True)
class PST900:
    """name="pst900"."""

    source: str = key("", "folder with train/ and test/; empty = the prepared copy in data_dir")
    thermal: str = key(
        "thermal", "thermal: 8-bit, what papers use; thermal_raw: 16-bit, all bands are then stored as uint16",
        one_of("thermal", "thermal_raw"),
    )  # fmt: skip
    hole: str = key(
        "zero", "what a thermal value of 0 means; zero keeps it as published methods do; mean takes it for not measured: out "
        "of the statistics, and replaced by the band's mean. Labels under holes count in both", one_of("zero", "mean"),
    )  # fmt: skip
    allow_incomplete: bool = key(False, "go on with missing files; said at every start")

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing split or files, an unknown option."""
        root = existing_folder(self.source, "PST900, with train/ and test/")
        for field, allowed in (("thermal", ("thermal", "thermal_raw")), ("hole", ("zero", "mean"))):
            if getattr(self, field) not in allowed:
                raise UserError(f"{field} is {getattr(self, field)!r}: use {' or '.join(map(repr, allowed))}.")
        listed = [f for f in downloads.listing(root) if f.name.lower().endswith(".png")]
        checks, items = [], {}
        for split, names in published_names.PST900.items():
            kinds = {}
            for kind in ("rgb", self.thermal, "labels"):
                kinds[kind] = downloads.by_key(listed, _inside(kind))
                missing = tuple(f"{split}/{kind}/{n}.png" for n in names if n not in kinds[kind])
                checks.append(downloads.Check(f"{split} {kind}", len(names), missing))
            whole = [n for n in names if all(n in found for found in kinds.values())]
            items[split] = [(n, (kinds["rgb"][n], kinds[self.thermal][n]), kinds["labels"][n]) for n in whole]
        notes = downloads.take_stock("PST900", root, checks, self.allow_incomplete)
        items = {s: pairs for s, pairs in items.items() if pairs}
        if not items:
            raise UserError(
                f"{root} holds no official PST900 image with thermal and label: expected {{train,test}}/rgb."
            )
        thermal = Band("thermal", nodata=0.0, hole=True) if self.hole == "mean" else Band("thermal")
        card = DatasetCard(
            name="pst900" if self.thermal == "thermal" else "pst900_raw",
            task="segmentation",
            bands=(Band("red"), Band("green"), Band("blue"), thermal),
            classes=tuple(CLASSES),
            palette=tuple(CLASSES.values()),
            ignore_label=255,
            scored=tuple(range(5)),
            splits={},
            protocol=PROTOCOL,
            synthetic=False,
            dtype="uint8" if self.thermal == "thermal" else "uint16",
            notes=notes,
        )
        return rgb_thermal.plan(self, card, items, SIZE)


def _inside(kind: str):
    """Name of a file in a folder of that kind, else None. Names say which split a file is of."""
    return lambda file: file.stem if file.folder in _FOLDERS[kind] else None
