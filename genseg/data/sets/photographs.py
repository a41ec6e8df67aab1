"""Photographs in class folders: a data set for pre-training."""

import dataclasses
import logging
from pathlib import Path

from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec
from genseg.data.files.folders import leftover
from genseg.data.records.copies import fingerprint
from genseg.data.records.storage import Moments, Plan, Record
from genseg.data.sets.found import existing_folder, refuse_shared, say_passed_over
from genseg.errors import UserError
from genseg.keys import DIFFERENT, FILLED, each, key

logger = logging.getLogger(__name__)


_PHOTOGRAPHS = {".jpg", ".jpeg", ".png"}


@dataclasses.dataclass(frozen=True)
class FolderClassification:
    """name="folder_classification": photographs as `<source>/<split>/<class>/*.{jpg,jpeg,png}`, any letter case.

    Classes are the sorted folder names, the same in each split. Grey becomes RGB when decoded, alpha is dropped.
    """

    source: str = key("", "the folder that holds the splits' folders")
    splits: tuple[str, ...] = key(("train", "val"), "names of its sub-folders", FILLED, DIFFERENT, each(FILLED))

    def plan(self) -> Plan:
        """Raises: UserError: no data set at the path, missing split, empty or unknown class folder."""
        root = existing_folder(self.source, "{train,val}/<class>/*.jpg")
        items: dict[str, list[tuple[Path, int]]] = {}
        classes: list[str] = []
        passed: list[Path] = []
        for split in self.splits:
            folder = root / split
            if not folder.is_dir():
                raise UserError(
                    f"The data set {root} has no split {split!r}: make the folder {folder} or change splits."
                )
            found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not leftover(p.name))
            passed += [p for p in folder.iterdir() if leftover(p.name)]
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
                inside = sorted((folder / name).iterdir())
                passed += [p for p in inside if leftover(p.name)]
                files = [p for p in inside if p.suffix.lower() in _PHOTOGRAPHS and not leftover(p.name)]
                if not files:
                    raise UserError(
                        f"The class folder {folder / name} holds no JPEG or PNG: fill it or remove the class."
                    )
                items[split] += [(path, label) for path in files]
        say_passed_over(passed)
        refuse_shared({split: [path for path, _ in found] for split, found in items.items()})
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
