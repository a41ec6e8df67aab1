"""Which bands of a scene's files the network takes: by name where files name theirs, else by place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from genseg.data.card import DatasetCard
from genseg.data.files import band_names
from genseg.errors import UserError

SENSORS = band_names.SENSORS


def mapping(given: str | Mapping[str, int], card: DatasetCard) -> dict[str, int]:
    """ "red=4,nir=8", or the same as a mapping -> band of the card -> place from 1. Raises: UserError for bands that the card does not have, for
    those that it has and that are not named, and for places that are no number."""
    spell = band_names.speller([band.name for band in card.bands])
    known = {spell(band.name): band.name for band in card.bands}
    found: dict[str, int] = {}
    if isinstance(given, str):
        parts = [piece.partition("=")[::2] for piece in given.split(",") if piece.strip()]
    else:
        parts = [(name, str(place)) for name, place in given.items()]
    for name, place in parts:
        if spell(name) not in known:
            raise UserError(f"--bands names {name.strip()!r}, but the network's bands are {', '.join(known.values())}.")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", place.strip()):
            raise UserError(
                f"--bands has {f'{name}={place}'.strip()!r}: write NAME=PLACE, places counted from 1, as in red=4,nir=8."
            )
        if known[spell(name)] in found:
            raise UserError(f"--bands names {name.strip()!r} twice: name each band once.")
        found[known[spell(name)]] = int(place)
    missing = [band.name for band in card.bands if band.name not in found]
    if missing:
        raise UserError(f"--bands leaves out {', '.join(missing)}: name every band of the network.")
    return found


class Chosen(NamedTuple):
    """places: from 1 among all bands of a scene, in the card's order. note: a sentence on names that were not understood, so
    that bands are taken by place; "" if none were."""

    places: list[int]
    note: str = ""


def chosen(
    descriptions: Sequence[str],
    card: DatasetCard,
    name: str,
    *,
    given: dict[str, int] | None,
    sensor: str | None,
    alpha: Sequence[bool] = (),
) -> Chosen:
    """Which bands of a scene the network takes.

    Args:
      descriptions: of all bands of the scene's files, "" where there is none.
      name: of the scene, for messages.
      given: from `mapping`. sensor: of SENSORS, whose band numbers the files have; None: found by their names.
      alpha: of each band whether it is opacity; such bands are left out where the others are as many as the network's.
    Raises: UserError if a band cannot be found, if count and names leave it open, and if a name is understood that is that
    of another band than the one at its place.
    """
    count, wanted = len(descriptions), [band.name for band in card.bands]
    if given is not None:
        places = [given[band.name] for band in card.bands]
        if max(places) > count:
            raise UserError(f"{name} has {count} band(s): there is no band {max(places)}, which --bands names.")
        return Chosen(places)
    try:
        told = band_names.told(descriptions, wanted, sensor)
    except ValueError:
        raise UserError(
            f"{name} numbers its bands {', '.join(descriptions)}, which sensors name differently: add --sensor, one of "
            f"{', '.join(SENSORS)}, or --bands."
        ) from None
    if told is not None:
        return Chosen(told)
    if sensor:
        raise UserError(
            f"{name} does not name its bands as {sensor} does: leave --sensor out, or give their places by --bands."
        )
    coloured = [i + 1 for i, opacity in enumerate(alpha) if not opacity]
    for places in (list(range(1, count + 1)), coloured):
        if len(places) == card.channels:
            return Chosen(places, _by_place([descriptions[i - 1] for i in places], wanted, name))
    said = f" ({', '.join(descriptions)})" if any(descriptions) else ""
    raise UserError(
        f"{name} has {count} band(s){said}, but the network takes {card.channels} "
        f"({', '.join(wanted)}): join files by '+', pick bands by FILE:1,2,3, or name them by --bands."
    )


def _by_place(descriptions: Sequence[str], wanted: Sequence[str], name: str) -> str:
    """The note of `Chosen`. Raises: UserError for names that contradict the places."""
    named = ", ".join(text or "(no name)" for text in descriptions)
    if band_names.misplaced(descriptions, wanted):
        raise UserError(
            f"{name} names its bands {named}, which is not the order of the network's ({', '.join(wanted)}), and not all are "
            f"found by name: say where they are by --bands, as in {wanted[0]}=3."
        )
    unread = band_names.unread(descriptions, wanted)
    if not unread:
        return ""
    return (
        f"its bands are named {named}, and {unread[0]} is not known as a name of the network's: they are taken by place as "
        f"{', '.join(wanted)}; if that is not their order, give --bands."
    )
