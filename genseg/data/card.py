"""What a data set is, in words and numbers: bands, classes, splits and the protocol that its scores belong to."""

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from genseg import texts
from genseg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Band:
    """One channel. mean, std, low and high are in stored units and are taken over the training split.

    nodata: the stored value that means "nothing was measured here" (as GDAL's nodata tag), or None. Such pixels
    take no part in the statistics, are replaced by `mean` when decoded, and are ignored in the mask. NaN is always
    treated so. hole: pixels that lack only this band still count: they are not ignored, and have a class in maps.
    scale: (scale, offset) that the training files state and that are not applied, or None where they state none.
    file: which of a scene's files the band is of, from 0, where `validity` needs it; None where neighbouring bands of one
    nodata value are of one file.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0
    nodata: float | None = None
    hole: bool = False
    scale: tuple[float, float] | None = None
    file: int | None = None

    @property
    def constant(self) -> bool:
        """Whether training never saw this band change."""
        return self.low == self.high and self.std <= 1e-6 * max(1.0, abs(self.mean))


@dataclasses.dataclass(frozen=True)
class DatasetCard:
    """Printed at the start of a run, stored beside the records and with checkpoints; drives every table.

    Attributes:
      name: the data set and, where it has some, its variant.
      task: "classification" (one label an image) or "segmentation" (one label a pixel).
      bands: channels in the order in which they are fed to the network.
      classes: names; a class's id is its place in this tuple.
      palette: one (red, green, blue) of 0..255 a class, or () for classification.
      ignore_label: id in a mask that neither loss nor score sees (also the value of padding), or None.
      scored: ids of the classes whose scores are averaged, ascending.
      splits: split name -> number of stored records.
      protocol: one line that says what is averaged over which images; it stands beside every score.
      synthetic: drawn by code; said wherever its numbers stand.
      dtype: of the stored pixels, "uint8", "uint16", "int16" or "float32".
      absent: what a class scores that is neither in truth nor in prediction: "skip" leaves it out of the average,
        "zero" counts it as 0.
      notes: sentences that are printed at every start, such as "incomplete: 3 of 1411 files are missing".
      groups: (name, regular expression) pairs; records whose file_name the expression is found in are also scored
        apart, as day and night.
    """

    name: str
    task: Literal["classification", "segmentation"]
    bands: tuple[Band, ...]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_label: int | None
    scored: tuple[int, ...]
    splits: dict[str, int]
    protocol: str
    synthetic: bool
    dtype: str = "uint8"
    absent: Literal["skip", "zero"] = "skip"
    notes: tuple[str, ...] = ()
    groups: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        if not self.bands or not self.classes:
            raise UserError(f"The card of {self.name!r} names no {'classes' if self.bands else 'bands'}: name them.")
        for kind, names in (("band", [b.name for b in self.bands]), ("class", self.classes)):
            twice = sorted({n for n in names if list(names).count(n) > 1})
            if twice:
                raise UserError(f"The {kind} name {twice[0]!r} is used twice in {self.name!r}: give each its own.")
        if any(len(colour) != 3 for colour in self.palette):
            raise UserError(f"A colour of {self.name!r} is not three numbers: give red, green and blue of each class.")
        if self.palette and len(self.palette) != len(self.classes):
            raise UserError(
                f"The palette of {self.name!r} has {len(self.palette)} colours for {len(self.classes)} classes: "
                "give one colour a class."
            )
        outside = [i for i in self.scored if not 0 <= i < len(self.classes)]
        if outside:
            raise UserError(f"Scored class {outside[0]} of {self.name!r} is not among its {len(self.classes)} classes.")

    @property
    def channels(self) -> int:
        return len(self.bands)

    @property
    def colours(self) -> dict[str, int]:
        """Places of the bands named red, green and blue, in any case of letters: colour -> place, in that order; colours that
        no band has are left out."""
        names = [band.name.lower() for band in self.bands]
        return {colour: names.index(colour) for colour in ("red", "green", "blue") if colour in names}

    def places_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """Places of the bands of these names, in their order. Raises: UserError for a name that no band has."""
        have = [band.name for band in self.bands]
        for name in names:
            if name not in have:
                near = difflib.get_close_matches(name, have, 1)
                mean = f"; did you mean '{near[0]}'?" if near else ""
                raise UserError(f"{self.name} has no band '{name}': its bands are {', '.join(have)}{mean}")
        return tuple(have.index(name) for name in names)

    def only(self, names: Sequence[str]) -> "DatasetCard":
        """The card of these bands alone, in this order; of all for (). Raises: UserError for a name that no band has."""
        if not names:
            return self
        return dataclasses.replace(self, bands=tuple(self.bands[i] for i in self.places_of(names)))

    @property
    def mean(self) -> np.ndarray:
        """float32 [c], stored units."""
        return np.array([b.mean for b in self.bands], np.float32)

    @property
    def std(self) -> np.ndarray:
        """float32 [c], stored units; never below 1e-6. A band that is constant in training says nothing: it gets 1e20, so
        that whatever it holds later is 0 after normalisation, and not a change amplified a million times."""
        std = np.maximum(np.array([b.std for b in self.bands], np.float32), np.float32(1e-6))
        return np.where([b.constant for b in self.bands], np.float32(1e20), std)

    @property
    def fill(self) -> np.ndarray:
        """Value of a pixel that holds no measurement: the mean, rounded for integer pixels; [c] of `dtype`."""
        mean = self.mean
        return (mean if self.dtype == "float32" else np.rint(mean)).astype(self.dtype)

    def members(self, file_names: Sequence[str]) -> dict[str, np.ndarray]:
        """Group -> bool [names]: which records belong to it."""
        return {
            group: np.array([re.search(expression, name) is not None for name in file_names], bool)
            for group, expression in self.groups
        }

    def to_json(self) -> str:
        card = dataclasses.asdict(self)
        for band in card["bands"]:
            for later in ("scale", "file"):
                if band[later] is None:  # as cards were before there was one: a workdir's stays equal
                    del band[later]
        return texts.as_json(card, indent=1)

    @classmethod
    def from_json(cls, text: str, mend: str = "prepare the data again") -> "DatasetCard":
        """mend: what to do about a text that is not a card of this version, for the UserError that is then raised."""
        try:
            raw = json.loads(text)
            raw["bands"] = tuple(
                Band(**b | {"scale": tuple(b["scale"]) if b.get("scale") else None}) for b in raw["bands"]
            )
            raw["palette"] = tuple(tuple(c) for c in raw["palette"])
            raw["groups"] = tuple(tuple(g) for g in raw.get("groups", ()))  # cards before groups existed stay readable
            for key in ("classes", "scored", "notes"):
                raw[key] = tuple(raw[key])
            return cls(**raw)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise UserError(f"This is not a data set card of this version ({reason}): {mend}.") from None

    @classmethod
    def read(cls, folder: Path) -> "DatasetCard":
        """Reads `folder`/card.json. Raises: UserError if there is none, or one of another version of genseg."""
        path = Path(folder) / "card.json"
        if not path.is_file():
            raise UserError(f"There is no prepared data set at {folder}: run `python -m genseg.data.prepare`.")
        return cls.from_json(texts.read(path, "card"), f"remove {folder} and prepare the data again")

    def describe(self) -> str:
        """A table for people."""
        lines = [
            f"Data set   {self.name}" + ("  (SYNTHETIC: drawn by code)" if self.synthetic else ""),
            f"Task       {self.task}",
            f"Protocol   {self.protocol}",
            "Splits     " + ", ".join(f"{k} {v:,}" for k, v in self.splits.items()),
        ]
        width = max(len(b.name) for b in self.bands)
        lines.append(f"Bands      {self.channels} of {self.dtype} (stored units, over the training split)")
        for i, b in enumerate(self.bands):
            nodata = "" if b.nodata is None else f"  nodata {b.nodata:g}"
            spread = f"mean {b.mean:9.4g}  std {b.std:9.4g}  range {b.low:g} .. {b.high:g}"
            lines.append(f"  {i:3d} {b.name:<{width}}  {spread}{nodata}")
        ignore = "" if self.ignore_label is None else f", {self.ignore_label} = ignored"
        averaged = (
            "all averaged" if len(self.scored) == len(self.classes) else f"{len(self.scored)} averaged (marked *)"
        )
        lines.append(
            f"Classes    {len(self.classes)}{ignore}, {averaged}; absent in truth and prediction: {self.absent}"
        )
        if self.palette:
            width = max(map(len, self.classes))
            for i, (name, colour) in enumerate(zip(self.classes, self.palette, strict=True)):
                mark = "*" if i in self.scored else " "
                lines.append(f"  {i:3d}{mark}{name:<{width}}  #{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}")
        else:
            shown = ", ".join(self.classes[:20])
            lines.append("  " + shown + (f", ... ({len(self.classes) - 20} more)" if len(self.classes) > 20 else ""))
        return "\n".join(lines + [f"NOTE       {note}" for note in self.notes])
