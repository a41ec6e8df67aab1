"""What files call their bands (GDAL's descriptions): one spelling for a name, and whether names contradict an order.

Names of satellites' bands: Sentinel-2 (ESA user handbook), Landsat 8 and 9 (USGS), HLS (Landsat's L30, Sentinel's S30).
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Sequence

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
# Of words of one family people mean one another's: a camera's "IR" is near infrared or thermal.
_FAMILIES = {
    **dict.fromkeys(("nir", "nir08", "nir09", "thermal", "lwir12"), "infrared"),
    **dict.fromkeys(("rededge1", "rededge2", "rededge3"), "rededge"),
    **dict.fromkeys(("swir16", "swir22"), "swir"),
    **{name: name for name in ("coastal", "blue", "green", "red", "cirrus", "pan")},
}
# What stands beside a name and says nothing of the band: sensor and product (Earth Engine's SR_B4, ST_B10), wavelengths.
_ASIDE = re.compile(
    r"\b(?:sr|st|toa|boa|refl|surface|reflectance|hls|s2[abc]?|l[89]|sentinel[ -]?2[abc]?|landsat[ -]?\d)\b"
    r"|\b\d+(?:\.\d+)? ?(?:nm|um|µm|μm)(?!\w)|\b\d+\.\d+\b|(?<!\bb )(?<!band )\b\d{3,4}\b"
)
_CODE = r"(?:b|band)0*\d+a?"
_EMPTY = re.compile(r"(?:band|layer|channel)?\d*|gr[ae]y|undefined|unknown|none|alpha|palette")


def letters(name: str) -> str:
    """Small letters and digits alone: "B8 (NIR)" is "b8nir"."""
    return re.sub(r"[\W_]", "", name.lower())


def plain(name: str) -> str:
    """A band's name in one spelling: "Band 4 - Red", "Band 4 (Red)" and "red band" are "red", "SR_B04" is "b4", "SWIR 1" is
    "swir16". A word that is understood goes before a number, and what stands before parentheses before what is in them."""
    text = name.lower().replace("_", " ")
    parts = [re.sub(r"[(\[].*?[)\]]", " ", text), *re.findall(r"[(\[](.*?)[)\]]", text)]
    found = [_word(part) for part in parts]
    codes = [word for word in found if re.fullmatch(r"b\d+a?", word)]
    return next((word for word in found if word in _FAMILIES), next(filter(None, codes + found), ""))


def _word(text: str) -> str:
    short = letters(_ASIDE.sub(" ", text)) or letters(text)
    if number := re.fullmatch(r"(?:b|band)0*(\d+a?)", short):
        return f"b{number[1]}"
    for pattern in (
        rf"(?:{_CODE}|\d+)([a-z]{{3,}}\d*)",
        rf"{_CODE[:-2]}([a-z]{{3,}}\d*)",
        rf"([a-z]{{3,}}\d*?)(?:{_CODE}|band|channel)",
    ):
        beside = re.fullmatch(pattern, short)
        if beside and _WORDS.get(beside[1], beside[1]) in _FAMILIES:
            return _WORDS.get(beside[1], beside[1])
    if behind := re.fullmatch(rf"{_CODE}([a-z]{{3,}}\d*)", short):
        short = behind[1]
    return _WORDS.get(short, short)


def speller(names: Sequence[str]) -> Callable[[str], str]:
    """`plain`, unless two of these names would be one by it, such as ir and nir, or letters among them are not those of
    colours, such as L, a, b: then `letters`."""
    spelt = {letters(name): plain(name) for name in names}
    colours = all(len(short) != 1 or short in "rgbn" for short in spelt)
    return plain if colours and len(set(spelt.values())) == len(spelt) else letters


def told(descriptions: Sequence[str], names: Sequence[str], sensor: str | None = None) -> list[int] | None:
    """Places from 1 in `descriptions` of the bands called `names`, where all of them are told: each by its name, or by the
    numbers of `sensor`; None: of the one sensor that has them all. Raises: ValueError if sensors contradict."""
    spell = speller(names)
    said, wanted = [spell(text) for text in descriptions], [spell(name) for name in names]
    once = Counter(said)
    named = {text: i + 1 for i, text in enumerate(said) if text and once[text] == 1}
    if len(set(wanted)) < len(wanted):
        return None
    if all(name in named for name in wanted):
        return [named[name] for name in wanted]
    sensors = [sensor] if sensor else _sensors(descriptions)
    return _by_sensor(wanted, named, sensors) if len(named) == len(said) else None


def _sensors(descriptions: Sequence[str]) -> list[str]:
    """Those that the numbers may be of: S2_B5 is not Landsat's near infrared."""
    text = " ".join(descriptions).lower().replace("_", " ")
    for said, which in ((r"\bs2[abc]?\b|\bsentinel", _SENTINEL2), (r"\bl[89]\b|\blandsat", _LANDSAT)):
        if re.search(said, text):
            return [sensor for sensor, table in SENSORS.items() if table.items() <= which.items()]
    return list(SENSORS)


def misplaced(descriptions: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a description names another band than the one that stands at its place in `names`, as many: one that stands
    elsewhere there, or one of another part of the spectrum. Numbers (B4, Band 4) say it only where all bands are told by
    them, and not where they just count."""
    spell = speller(names)
    said, wanted = [spell(text) for text in descriptions], [spell(name) for name in names]
    with contextlib.suppress(ValueError):
        if (places := told(descriptions, names)) is not None:
            return places != sorted(places) and said != [f"b{place}" for place in sorted(places)]
    once = Counter(said)
    for here, name in zip(said, wanted, strict=True):
        if not here or here == name or re.fullmatch(r"b\d+a?", here):
            continue
        if once[here] == 1 and here in wanted:
            return True
        if here in _FAMILIES and name in _FAMILIES and _FAMILIES[here] != _FAMILIES[name]:
            return True
    return False


def unread(descriptions: Sequence[str], names: Sequence[str]) -> list[str]:
    """Of descriptions at the places of `names`: those that say something ("Band 1" and "gray" do not), but not that name."""
    spell = speller(names)
    return [
        text
        for text, name in zip(descriptions, names, strict=True)
        if not _EMPTY.fullmatch(letters(text)) and spell(text) != spell(name)
    ]


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
