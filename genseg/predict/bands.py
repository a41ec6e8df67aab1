"""Which bands of a scene's files the network takes: by name where files name theirs, else by place.

Names of satellites' bands: Sentinel-2 (ESA user handbook), Landsat 8 and 9 (USGS), HLS (Landsat's L30, Sentinel's S30).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from genseg.data.card import DatasetCard
from genseg.errors import UserError

_SENTINEL2 = {
    "coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "rededge1": "B5", "rededge2": "B6", "rededge3": "B7",
    "nir": "B8", "nir08": "B8A", "nir09": "B9", "cirrus": "B10", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
_LANDSAT = {
    "coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "nir": "B5", "swir16": "B6", "swir22": "B7", "pan": "B8",
    "cirrus": "B9", "thermal": "B10", "lwir12": "B11",
}  # fmt: skip
SENSORS = {
    "sentinel2": _SENTINEL2,
    "landsat": _LANDSAT,
    "hls-l30": {k: v for k, v in _LANDSAT.items() if k != "pan"},
    "hls-s30": _SENTINEL2,
}
# Other words for the names above (STAC's electro-optical extension, data sets, people).
_WORDS = {
    "r": "red", "g": "green", "b": "blue", "n": "nir", "ir": "nir", "nearinfrared": "nir", "infrared": "nir",
    "nir1": "nir", "nirnarrow": "nir08", "narrownir": "nir08", "nir8a": "nir08", "watervapour": "nir09",
    "watervapor": "nir09", "coastalaerosol": "coastal", "aerosol": "coastal", "ultrablue": "coastal", "re1": "rededge1",
    "re2": "rededge2", "re3": "rededge3", "rededge": "rededge1", "swir1": "swir16", "swir2": "swir22", "tir": "thermal",
    "tir1": "thermal", "tirs1": "thermal", "lwir": "thermal", "lwir11": "thermal", "tirs2": "lwir12",
    "panchromatic": "pan",
}  # fmt: skip


def plain(name: str) -> str:
    """A band's name in one spelling: "Band 4 - Red" and "B04" are "b4" or "red", "SWIR 1" is "swir16"."""
    short = re.sub(r"[^0-9a-z]", "", re.sub(r"\(.*?\)", "", name.lower()))
    if number := re.fullmatch(r"(?:b|band)0*(\d+a?)", short):
        return f"b{number[1]}"
    if behind := re.fullmatch(r"(?:b|band)0*\d+a?([a-z]{3,}\d*)", short):
        short = behind[1]
    return _WORDS.get(short, short)


def mapping(given: str | Mapping[str, int], card: DatasetCard) -> dict[str, int]:
    """ "red=4,nir=8", or the same as a mapping -> band of the card -> place from 1. Raises: UserError for bands that the card does not have, for
    those that it has and that are not named, and for places that are no number."""
    known = {plain(band.name): band.name for band in card.bands}
    found: dict[str, int] = {}
    if isinstance(given, str):
        parts = [piece.partition("=")[::2] for piece in given.split(",") if piece.strip()]
    else:
        parts = [(name, str(place)) for name, place in given.items()]
    for name, place in parts:
        if plain(name) not in known:
            raise UserError(f"--bands names {name.strip()!r}, but the network's bands are {', '.join(known.values())}.")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", place.strip()):
            raise UserError(
                f"--bands has {f'{name}={place}'.strip()!r}: write NAME=PLACE, places counted from 1, as in red=4,nir=8."
            )
        if known[plain(name)] in found:
            raise UserError(f"--bands names {name.strip()!r} twice: name each band once.")
        found[known[plain(name)]] = int(place)
    missing = [band.name for band in card.bands if band.name not in found]
    if missing:
        raise UserError(f"--bands leaves out {', '.join(missing)}: name every band of the network.")
    return found


def _by_sensor(wanted: Sequence[str], named: dict[str, int], sensors: Sequence[str]) -> list[int] | None:
    """Places under the band numbers of the one sensor that has them all. Raises ValueError if sensors contradict."""
    found = set()
    for sensor in sensors:
        table = {name: plain(code) for name, code in SENSORS[sensor].items()}
        unknown = [name for name in named if re.fullmatch(r"b\d+a?", name) and name not in table.values()]
        codes = [table.get(name, name) for name in wanted]
        if not unknown and all(code in named for code in codes):
            found.add(tuple(named[code] for code in codes))
    if len(found) > 1:
        raise ValueError
    return list(found.pop()) if found else None


def chosen(
    descriptions: Sequence[str],
    card: DatasetCard,
    name: str,
    *,
    given: dict[str, int] | None,
    sensor: str | None,
    alpha: Sequence[bool] = (),
) -> list[int]:
    """Places from 1 among all bands of a scene, in the card's order.

    Args:
      descriptions: of all bands of the scene's files, "" where there is none.
      name: of the scene, for messages.
      given: from `mapping`. sensor: of SENSORS, whose band numbers the files have; None: found by their names.
      alpha: of each band whether it is opacity; such bands are left out where the others are as many as the network's.
    Raises: UserError if a band cannot be found, or count and names leave it open.
    """
    count, wanted = len(descriptions), [plain(band.name) for band in card.bands]
    if given is not None:
        places = [given[band.name] for band in card.bands]
        if max(places) > count:
            raise UserError(f"{name} has {count} band(s): there is no band {max(places)}, which --bands names.")
        return places
    spelt = [plain(text) for text in descriptions]
    named = {text: i + 1 for i, text in enumerate(spelt) if text}
    if all(spelt) and len(named) == count:
        if all(text in named for text in wanted):
            return [named[text] for text in wanted]
        try:
            by_sensor = _by_sensor(wanted, named, [sensor] if sensor else list(SENSORS))
        except ValueError:
            raise UserError(
                f"{name} numbers its bands {', '.join(descriptions)}, which sensors name differently: add --sensor, one of "
                f"{', '.join(SENSORS)}, or --bands."
            ) from None
        if by_sensor is not None:
            return by_sensor
    if sensor:
        raise UserError(
            f"{name} does not name its bands as {sensor} does: leave --sensor out, or give their places by --bands."
        )
    if count == card.channels:
        return list(range(1, count + 1))
    coloured = [i + 1 for i, opacity in enumerate(alpha) if not opacity]
    if len(coloured) == card.channels:
        return coloured
    said = f" ({', '.join(descriptions)})" if any(descriptions) else ""
    raise UserError(
        f"{name} has {count} band(s){said}, but the network takes {card.channels} "
        f"({', '.join(b.name for b in card.bands)}): join files by '+', pick bands by FILE:1,2,3, or name them by --bands."
    )
