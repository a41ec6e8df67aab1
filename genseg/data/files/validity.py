"""When a pixel holds a measurement: the one definition, for records, statistics, masks and maps alike.

A value is no measurement
  * if it is NaN, infinite, or 1e18 or more in size: no unit of a sensor reaches there, but the fill values do that programs
    write without stating them (-3.4e38, netCDF's 9.97e36, 1e20), and one of them would be all that a network sees;
  * if its file states a nodata value that could also be measured (0, or any of an unsigned type): where all bands of the
    file hold it, as in GDAL's dataset mask. A dark red of 0 beside a green of 103 is a measurement although nodata is 0;
  * if its file states another nodata value (-9999, -3.4e38): where the band holds it, whatever the other bands hold;
  * in a band marked as a hole (`Band.hole`): where that band holds its nodata value, whatever the others hold.

Of which file a band is, `Band.file` says. All bands of a file count, also those that a network does not take: whoever picks
bands asks about them beside the others.

A pixel counts if it lacks no value; holes alone do not take it out. So of several files of one scene each can take it out.
Nor does it count where a file's own mask, or an alpha band that is not taken as data, says so: `Raster.valid`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from genseg.data.card import Band, DatasetCard

LARGEST = 1e18


def real(image: np.ndarray) -> np.ndarray | None:
    """bool of the shape of an image: where a value can be a measurement at all; None for integers, which all can."""
    return np.abs(image) < LARGEST if image.dtype.kind == "f" else None


def absent(
    image: np.ndarray, bands: Sequence[Band], taken: Sequence[int] = (), *, holes: bool = True
) -> np.ndarray | None:
    """bool [h w t]: values of an image [h w c] that are no measurement, of the bands at the t places `taken`; None if all are.

    Args:
      bands: of the image, c of them.
      taken: places in `bands`, () = all. The others are looked at only where they are of the same file as one of these.
      holes: whether bands marked as holes are looked at too.
    """
    wanted = list(taken) or list(range(len(bands)))
    possible = real(image[..., wanted] if taken else image)
    found = None if possible is None else ~possible
    for group in _groups(bands, image.dtype):
        asked = [i for i, place in enumerate(wanted) if place in group]
        if not asked or (bands[group[0]].hole and not holes):
            continue
        hit = image[..., group[0]] == bands[group[0]].nodata
        for place in group[1:]:
            if hit.any():
                hit &= image[..., place] == bands[place].nodata
        if hit.any():
            found = np.zeros((*image.shape[:2], len(wanted)), bool) if found is None else found
            found[..., asked] |= hit[..., None]
    return found if found is not None and found.any() else None


def beside_others(band: Band, dtype: np.dtype) -> bool:
    """Whether a band's value is no measurement only where all bands of its file hold theirs. dtype: of the pixels."""
    return band.nodata is not None and not band.hole and (dtype.kind == "u" or band.nodata == 0)


def of_files(bands: Sequence[Band], files: Sequence[int], dtype: np.dtype) -> tuple[Band, ...]:
    """The bands with the file that each is of, where that decides what is a measurement; else with none, so that the cards
    of such data, and runs that go on, stay as they were before cards said it. dtype: of the pixels."""
    plain = tuple(dataclasses.replace(band, file=None) for band in bands)
    told = tuple(dataclasses.replace(band, file=file) for band, file in zip(bands, files, strict=True))
    return plain if _groups(plain, dtype) == _groups(told, dtype) else told


def unstated(image: np.ndarray, card: DatasetCard) -> int:
    """How many finite values of an image [h w c] are `LARGEST` or more in size without being their band's nodata value."""
    possible = real(image)
    if possible is None or possible.all():
        return 0
    return sum(
        int((~possible[..., i] & np.isfinite(image[..., i]) & (image[..., i] != band.nodata)).sum())
        for i, band in enumerate(card.bands)
    )


def _groups(bands: Sequence[Band], dtype: np.dtype) -> list[list[int]]:
    """Places of the bands that state nodata, together where only all of them can lack their values."""
    groups: dict[object, list[int]] = {}
    run = 0
    for place, band in enumerate(bands):
        if place and band.nodata != bands[place - 1].nodata:
            run += 1
        if band.nodata is not None:
            together = ("run", run) if band.file is None else ("file", band.file)
            groups.setdefault(together if beside_others(band, dtype) else ("alone", place), []).append(place)
    return list(groups.values())


def measured_pixels(image: np.ndarray, bands: Sequence[Band], taken: Sequence[int] = ()) -> np.ndarray | None:
    """bool [h w t]: where a band holds a measurement, holes apart; None if all of them do. Arguments as of `absent`."""
    lacking = absent(image, bands, taken, holes=False)
    return None if lacking is None else ~lacking
