"""The image files of one scene, read for a record: bands, what the files say of validity, and place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genseg.data.card import DatasetCard
from genseg.data.files import codec, gdal
from genseg.data.files.band_names import misplaced
from genseg.data.files.maps import Place
from genseg.data.files.rasters import Raster
from genseg.data.files.validity import beside_others
from genseg.errors import UserError


@dataclasses.dataclass(frozen=True)
class SceneFiles:
    """image: [h w c]. valid: bool [h w], False where alpha or a mask of a file says so, or None. stored: bytes to be kept
    as they are, of one picture that needs no change, or None. files: of each band, which file it comes from. nodata,
    scales, descriptions: of each band. places: of each file with its size. resampled: files brought to a finer grid. opaque: whether a band is
    left out since it is marked as opacity."""

    image: np.ndarray
    valid: np.ndarray | None
    stored: bytes | None
    files: tuple[int, ...]
    dtypes: tuple[np.dtype, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[tuple[float, float], ...]
    places: tuple[tuple[Path, Place, tuple[int, int]], ...]
    resampled: tuple[Path, ...] = ()
    opaque: bool = False
    descriptions: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """The bytes of a record of the whole scene."""
        return codec.encode_image(self.image) if self.stored is None else codec.repacked(self.stored, self.image)

    def notes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Sentences for the card on what was done, or not, to the values of scenes like this one."""
        found = []
        if self.resampled:
            files = [i for i, (path, *_) in enumerate(self.places) if path in self.resampled]
            bands = ", ".join(name for name, file in zip(names, self.files, strict=True) if file in files)
            found.append(f"Coarser bands ({bands}) are brought to the finest grid by bilinear interpolation.")
        if any(scale != (1.0, 0.0) for scale in self.scales):
            stated = ", ".join(sorted({f"{s:g} and {o:g}" for s, o in self.scales}))
            found.append(f"Values are read as stored: the files' scale and offset ({stated}) are not applied.")
        if self.opaque:
            found.append(
                "A BAND IS LEFT OUT: files have one band more than are named, marked as opacity (alpha, or a transparent colour), "
                "which says which pixels count. If it is a measurement, such as infrared, give it a name in bands."
            )
        return tuple(found)

    def resampled_together(self, card: DatasetCard) -> bool:
        """Whether a file brought to a finer grid has several bands that lack their values only where all of them do."""
        coarse = [path in self.resampled for path, *_ in self.places]
        bands = zip(self.files, card.bands, strict=True)
        found = [file for file, band in bands if coarse[file] and beside_others(band, np.dtype(card.dtype))]
        return len(set(found)) < len(found)

    def mask_out(self, measured: np.ndarray | None, nodata: Sequence[float | None]) -> SceneFiles:
        """With pixels that `valid` takes out holding the value that is replaced when a record is read: NaN, or the nodata
        value of the card's band; where a band has none, the scene's mean of it, so that they say nothing of the place."""
        if self.valid is None:
            return self
        image = self.image.copy()
        for band, value in enumerate(nodata):
            if image.dtype.kind == "f":
                value = np.nan
            elif value is None:
                seen = image[..., band][self.valid if measured is None else self.valid & measured[..., band]]
                value = np.rint(seen.mean(dtype=np.float64)) if seen.size else 0
            image[..., band][~self.valid] = value
        return dataclasses.replace(self, image=image, stored=None)


def read_scene(paths: Sequence[Path], names: Sequence[str]) -> SceneFiles:
    """Reads all files of a scene whose bands are called `names`.

    A file's alpha band is data if there are as many names as bands, and says which pixels are valid if there are as many
    as other bands. Raises: CorruptFile; UserError for other numbers, files too large, files of different ground, and files
    that describe their bands in another order."""
    bands = len(names)
    if len(paths) == 1 and codec.plain_picture(paths[0]):
        data = codec.read(paths[0])
        image = codec.grey_as_colour(data, codec.decode_image(data, str(paths[0])), bands)
        count, valid = image.shape[2], None
        opaque = count == bands + 1 and codec.has_alpha(data, count)
        if opaque:
            valid = image[..., -1] > 0
            image, data = np.ascontiguousarray(image[..., :-1]), None
        _refuse_other_count(paths, image.shape[2], names)
        placed = ((paths[0], Place.of(paths[0]), image.shape[:2]),)
        valid = None if valid is None or valid.all() else valid
        plain = ((1.0, 0.0),) * bands
        return SceneFiles(
            image, valid, data, (0,) * bands, (image.dtype,), (None,) * bands, plain, placed, opaque=opaque
        )
    raster = Raster(paths)
    gdal.refuse_too_large(" + ".join(map(str, paths)), raster.shape, raster.dtype)
    taken = [*range(raster.shape[2])]
    if len(taken) != bands:
        taken = [i for i in taken if not raster.alpha[i]]
        _refuse_other_count(paths, raster.shape[2], names, len(taken))
    descriptions = tuple(raster.descriptions[i] for i in taken)
    refuse_other_order(paths, descriptions, names, "bands says", "name bands in the files' order")
    image = raster[: raster.shape[0], : raster.shape[1]]
    image = np.ascontiguousarray(image if len(taken) == raster.shape[2] else image[..., taken])
    return SceneFiles(
        image, raster.valid(0, raster.shape[0], taken), None, tuple(raster.files[i] for i in taken), raster.dtypes,
        tuple(raster.nodata[i] for i in taken), tuple(raster.scales[i] for i in taken), raster.placed, raster.resampled,
        len(taken) != raster.shape[2], descriptions,
    )  # fmt: skip


def refuse_other_order(
    paths: Sequence[Path], descriptions: Sequence[str], names: Sequence[str], who: str, mend: str
) -> None:
    """Raises UserError if files describe other bands than `names` at their places; what is not understood, such as "Band 1",
    does not count. who: says these names, for the message. mend: what else to do than to correct the descriptions."""
    if names and descriptions and misplaced(descriptions, names):
        said, others = (", ".join(text or "(no name)" for text in texts) for texts in (descriptions, names))
        raise UserError(
            f"{' + '.join(map(str, paths))} describes its bands as {said}, but {who} {others}: {mend}, or correct the "
            "descriptions (rasterio's set_band_description)."
        )


def _refuse_other_count(paths: Sequence[Path], count: int, names: Sequence[str], others: int | None = None) -> None:
    if len(names) not in (count, others):
        raise UserError(
            f"{' + '.join(map(str, paths))} has {count} band(s), but bands names {len(names)} ({', '.join(names)}): correct "
            "one of them."
        )
