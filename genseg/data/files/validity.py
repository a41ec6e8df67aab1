"""When a pixel holds a measurement: the one definition, for records, statistics, masks and maps alike.

A value is no measurement
  * if it is NaN, infinite, or 1e18 or more in size: no unit of a sensor reaches there, but the fill values do that programs
    write without stating them (-3.4e38, netCDF's 9.97e36, 1e20), and one of them would be all that a network sees;
  * if its file states a nodata value that could also be measured (0, or any of an unsigned type): where all bands of the
    file hold it, as in GDAL's dataset mask. A dark red of 0 beside a green of 103 is a measurement although nodata is 0;
  * if its file states another nodata value (-9999, -3.4e38): where the band holds it, whatever the other bands hold;
  * in a band marked as a hole (`Band.hole`): where that band holds its nodata value, whatever the others hold.

A pixel counts if it lacks no value; holes alone do not take it out. So of several files of one scene each can take it out.
Nor does it count where a file's own mask, or an alpha band that is not taken as data, says so: `Raster.valid`.
"""

from collections.abc import Sequence

import numpy as np

from genseg.data.card import DatasetCard

LARGEST = 1e18


def real(image: np.ndarray) -> np.ndarray | None:
    """bool of the shape of an image: where a value can be a measurement at all; None for integers, which all can."""
    return np.abs(image) < LARGEST if image.dtype.kind == "f" else None


def absent(image: np.ndarray, card: DatasetCard, files: Sequence[int] = (), *, holes: bool = True) -> np.ndarray | None:
    """bool [h w c]: values of an image [h w c] that are no measurement; None if all are.

    Args:
      files: of each band, which file it comes from; () = neighbouring bands of one nodata value are of one file.
      holes: whether bands marked as holes are looked at too.
    """
    possible = real(image)
    found = None if possible is None else ~possible
    for bands in _groups(card, files, image.dtype):
        first = card.bands[bands[0]]
        if first.hole and not holes:
            continue
        hit = image[..., bands[0]] == first.nodata
        for band in bands[1:]:
            if hit.any():
                hit &= image[..., band] == card.bands[band].nodata
        if hit.any():
            found = np.zeros(image.shape, bool) if found is None else found
            found[..., bands] |= hit[..., None]
    return found if found is not None and found.any() else None


def unstated(image: np.ndarray, card: DatasetCard) -> int:
    """How many finite values of an image [h w c] are `LARGEST` or more in size without being their band's nodata value."""
    possible = real(image)
    if possible is None or possible.all():
        return 0
    return sum(
        int((~possible[..., i] & np.isfinite(image[..., i]) & (image[..., i] != band.nodata)).sum())
        for i, band in enumerate(card.bands)
    )


def _groups(card: DatasetCard, files: Sequence[int], dtype: np.dtype) -> list[list[int]]:
    """Places of the bands that state nodata, together where only all of them can lack their values."""
    groups: dict[object, list[int]] = {}
    run = 0
    for band, spec in enumerate(card.bands):
        if band and spec.nodata != card.bands[band - 1].nodata:
            run += 1
        if spec.nodata is not None:
            alone = spec.hole or (dtype.kind != "u" and spec.nodata != 0)
            groups.setdefault(("alone", band) if alone else (files[band] if files else run), []).append(band)
    return list(groups.values())


def measured_pixels(image: np.ndarray, card: DatasetCard, files: Sequence[int] = ()) -> np.ndarray | None:
    """bool [h w c]: where a band holds a measurement, holes apart; None if all of them do. `files` as in `absent`."""
    lacking = absent(image, card, files, holes=False)
    return None if lacking is None else ~lacking
