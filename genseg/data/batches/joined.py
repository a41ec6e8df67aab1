"""Several prepared data sets as one: records one behind the other under one card, and how often each is drawn.

Records and scenes are known as NAME/..., NAME the data set's within the run, so that equal file names stay apart and each
data set is also scored alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from genseg.data.batches.pipeline import Split
from genseg.data.batches.sampling import EVERY_RECORD, Sampling
from genseg.data.card import Band, DatasetCard
from genseg.data.records.storage import Place, Record
from genseg.errors import UserError

TAKEN = ("all", "stitched")
"""Rows that tables of parts have beside one a data set (`genseg.evaluate`): the whole split, and each pixel of a scene once."""
_ALIKE = ("task", "classes", "ignore_label", "scored", "absent", "dtype")


def refuse_name(name: str) -> None:
    """Raises UserError for a name in config.data.also that scores of parts, or names of records, would mix with another's."""
    if name in TAKEN:
        raise UserError(
            f"config.data.also['{name}'] has the name of a row that tables of scores have themselves; give it another"
        )
    if not name or "/" in name:
        raise UserError(
            f"config.data.also['{name}'] is empty or has a '/', which ends the name in those of records; give it another"
        )


def joined_card(cards: Mapping[str, DatasetCard], shares: Mapping[str, float]) -> DatasetCard:
    """One card for all. Band statistics are those of the pixels as `shares` draws them: the mean of the means, and the
    variance within data sets plus that between them.

    cards: by name, the first gives palette and protocol. shares: of the training rows, by name; they add up to 1.
    Raises: UserError naming two data sets whose bands, their scales and offsets, classes, scored or ignored classes, or pixel
    types differ.
    """
    names = list(cards)
    first = cards[names[0]]
    for name in names[1:]:
        other = cards[name]
        for what in _ALIKE:
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise UserError(
                    f"'{names[0]}' and '{name}' cannot be trained on together: {what} is {ours!r} and {theirs!r}; prepare "
                    "one of them with the other's"
                )
        ours, theirs = ([band.name for band in card.bands] for card in (first, other))
        if ours != theirs:
            raise UserError(
                f"'{names[0]}' and '{name}' cannot be trained on together: the bands are {', '.join(ours)} and "
                f"{', '.join(theirs)}; prepare one of them with the other's, in the same order"
            )
        for one, its in zip(first.bands, other.bands, strict=True):
            if one.scale != its.scale:
                raise UserError(
                    f"'{names[0]}' and '{name}' cannot be trained on together: band {one.name} has {_units(one)} in one and "
                    f"{_units(its)} in the other, and values are read as stored; bring all files to one (gdal_translate "
                    "-unscale)"
                )
    weight = np.array([shares[name] for name in names])
    bands = tuple(_pooled([card.bands[i] for card in cards.values()], weight) for i in range(first.channels))
    splits: dict[str, int] = {}
    for card in cards.values():
        for split, count in card.splits.items():
            splits[split] = splits.get(split, 0) + count
    return dataclasses.replace(
        first, name="+".join(names), bands=bands, splits=splits, synthetic=any(c.synthetic for c in cards.values()),
        notes=tuple(f"{name}: {note}" for name, card in cards.items() for note in card.notes),
        groups=tuple((name, f"^{re.escape(name)}/") for name in names),
    )  # fmt: skip


def _units(band: Band) -> str:
    return "no scale" if band.scale is None else "scale {:g}, offset {:g}".format(*band.scale)


def _pooled(bands: list[Band], weight: np.ndarray) -> Band:
    mean, std = (np.array([getattr(band, name) for band in bands]) for name in ("mean", "std"))
    centre = float(weight @ mean)
    return dataclasses.replace(
        bands[0], mean=centre, std=float(np.sqrt(weight @ (std**2 + (mean - centre) ** 2))),
        low=min(band.low for band in bands), high=max(band.high for band in bands),
    )  # fmt: skip


def shares_of(cards: Mapping[str, DatasetCard], split: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Of the rows of `split`, by name: as `weights` says, or by the numbers of records. Raises: UserError."""
    if weights and set(weights) != set(cards):
        raise UserError(
            f"config.data.also_weights names {', '.join(sorted(weights))}; give one for each of {', '.join(cards)}"
        )
    for name, card in cards.items():
        if split not in card.splits:
            raise UserError(f"'{name}' has no split '{split}' to train on: it has {', '.join(card.splits)}")
    found = {name: float(weights.get(name, card.splits[split])) for name, card in cards.items()}
    total = sum(found.values())
    return {name: value / total for name, value in found.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedSplit:
    """As `pipeline.Split`, of all parts: by name, in order."""

    card: DatasetCard
    name: str
    parts: Mapping[str, Split]
    corrupt: dict[int, str] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self):
        fed = {name: part.with_card(_own(self.card, part.card)) for name, part in self.parts.items()}
        object.__setattr__(self, "parts", fed)

    @cached_property
    def _ends(self) -> list[int]:
        return np.cumsum([len(part) for part in self.parts.values()]).tolist()

    def _at(self, index: int) -> tuple[str, Split, int]:
        place = bisect.bisect_right(self._ends, index)
        name = list(self.parts)[place]
        return name, self.parts[name], index - (self._ends[place - 1] if place else 0)

    def __len__(self) -> int:
        return self._ends[-1]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(
            place._replace(file_name=f"{name}/{place.file_name}", scene=f"{name}/{place.scene}")
            for name, part in self.parts.items()
            for place in part.places
        )

    def record(self, index: int) -> Record:
        _, part, own = self._at(index)
        return part.record(own)

    def decode(self, index: int, *, whole: bool = True) -> dict:
        name, part, own = self._at(index)
        record = part.decode(own, whole=whole)
        return record | {"name": f"{name}/{record['name']}", "index": index}

    def with_card(self, card: DatasetCard) -> JoinedSplit:
        return dataclasses.replace(self, card=card)

    def shared(self, share: float) -> JoinedSplit:
        """`Split.shared` of each part."""
        return dataclasses.replace(self, parts={name: part.shared(share) for name, part in self.parts.items()})

    def sampling(self, weights: Mapping[str, float]) -> Sampling:
        """Each part as often as `weights` says, its records evenly and at random; without weights all records each
        epoch."""
        if not weights:
            return EVERY_RECORD
        each = [np.full(len(part), weights[name] / len(part)) for name, part in self.parts.items()]
        probability = np.concatenate(each)
        return Sampling(probability / probability.sum())


def _own(joined: DatasetCard, own: DatasetCard) -> DatasetCard:
    """The part's card with the statistics of all, by which it is fed to the network, and its own nodata values."""
    bands = tuple(
        dataclasses.replace(all_, nodata=one.nodata, hole=one.hole, file=one.file)
        for all_, one in zip(joined.bands, own.bands, strict=True)
    )
    return dataclasses.replace(own, bands=bands)
