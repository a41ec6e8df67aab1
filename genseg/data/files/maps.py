"""Maps in their place on the ground: Cloud Optimised GeoTIFFs written row by row, and what a pixel measures."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genseg import outputs
from genseg.data.files import gdal
from genseg.errors import UserError

# WGS 84: semi-major axis in metres, flattening.
_AXIS, _FLATTENING = 6378137.0, 1 / 298.257223563
STRETCHED = 0.01
"""Share by which a projection's areas may be off the ellipsoid's before the plane's are not taken: UTM's are within 0.2 %."""
_TILE = 512


@dataclass(frozen=True)
class Place:
    """Where a raster lies. transform: rasterio's affine from (column, row) to map units, or None; crs: rasterio's, or
    None; descriptions: of its bands, "" where a band has none; points, rational: rasterio's ground control points and
    rational polynomials of a raster without a transform, which maps of it keep; size: height and width."""

    transform: Any
    crs: Any
    descriptions: tuple[str, ...]
    points: tuple = ()
    rational: Any = None
    size: tuple[int, int] | None = None

    @property
    def known(self) -> bool:
        """Whether the file says anything of its place."""
        return self.transform is not None or bool(self.points) or self.rational is not None

    @property
    def doubtful(self) -> str:
        """A sentence if its numbers cannot be the longitudes and latitudes that its reference system says they are: those of
        metres, say, under EPSG:4326. Pixels whose edge goes beyond a pole, as those of grids centred on it, can."""
        if self.transform is None or self.crs is None or not self.crs.is_geographic:
            return ""
        t, (height, width) = self.transform, self.size or (1, 1)
        corners = [t @ (x, y) for x in (0.5, width - 0.5) for y in (0.5, height - 0.5)]
        beyond = abs(t.d) + abs(t.e)
        if all(abs(x) <= 720 and abs(y) <= 90 + beyond for x, y in corners):
            return ""
        return (
            f"its coordinates, {corners[0][0]:.10g} and {corners[0][1]:.10g}, cannot be the longitude and latitude that its projection "
            "says they are: correct it (gdal_edit.py -a_srs EPSG:CODE); no hectares and no scale bar are given"
        )

    @classmethod
    def of(cls, path: Path) -> Place:
        """Of a file that GDAL opens, or a picture with a world file; of others, such as NPY, nothing is known."""
        import rasterio

        if path.suffix.lower() in _PICTURES and not any(side.exists() for side in _sidecars(path)):
            return cls(None, None, ())
        try:
            with gdal.quiet(str(path)), rasterio.open(gdal.shown(path)) as file:
                return cls.said_by(file)
        except UserError:
            return cls(None, None, ())

    @classmethod
    def said_by(cls, file: Any) -> Place:
        """By one of rasterio's data sets."""
        transform = None if file.transform.is_identity else file.transform
        points, crs = file.gcps if transform is None else ((), None)
        named = tuple(d or "" for d in file.descriptions)
        rational = file.rpcs if transform is None else None
        return cls(transform, file.crs or crs, named, tuple(points), rational, file.shape)

    def hectares(self, height: int) -> np.ndarray | None:
        """float64 [height]: what a pixel of each row measures on the ground; None where the file does not say."""
        measured = self.square_metres(np.arange(height) + 0.5)
        return None if measured is None else measured / 1e4

    def square_metres(self, rows: np.ndarray) -> np.ndarray | None:
        """float64 [n]: what a pixel whose centre is `rows` below the raster's upper edge measures on the ground; None where
        the file does not say.

        Projected systems: in the map's plane; those that stretch areas at the raster's centre by more than STRETCHED, as
        Web Mercator does away from the equator, on the ellipsoid at the middle column. Longitude and latitude: on the
        ellipsoid WGS 84, exact for rows along parallels.
        """
        if self.transform is None or self.crs is None or self.doubtful:
            return None
        t = self.transform
        if self.crs.is_projected:
            flat = abs(t.determinant) * self.crs.linear_units_factor[1] ** 2
            steps = self._steps_on_the_ground(rows)
            return np.full(len(rows), flat) if steps is None else _parallelogram(*steps)
        if not self.crs.is_geographic or t.b or t.d:
            return None
        upper, lower = (_zone(np.radians(np.clip(t.f + t.e * (rows + half), -90, 90))) for half in (-0.5, 0.5))
        return math.radians(abs(t.a)) * np.abs(upper - lower)

    def metres_across(self, row: float) -> float | None:
        """Length of a pixel along row `row`, or None where the file does not say."""
        if self.transform is None or self.crs is None or self.doubtful:
            return None
        t = self.transform
        side = math.hypot(t.a, t.d)
        if self.crs.is_projected:
            steps = self._steps_on_the_ground(np.array([row]))
            return side * self.crs.linear_units_factor[1] if steps is None else float(abs(steps[0][0]))
        metres = math.radians(side) * _AXIS * math.cos(math.radians(t.f + t.e * row)) if self.crs.is_geographic else 0
        return metres if metres > 0 else None

    def _steps_on_the_ground(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """complex [n] each: metres east + 1j north on the ellipsoid of one step along columns and of one along rows, at `rows` of
        the middle column. None where the projection hardly stretches areas, or says no longitudes and latitudes there."""
        height, width = self.size or (1, 1)
        flat = abs(self.transform.determinant) * self.crs.linear_units_factor[1] ** 2
        middle, found = (self._steps(at, width / 2) for at in (np.array([height / 2]), rows))
        if not all(np.isfinite(step).all() for step in (*middle, *found)):
            return None
        return None if abs(flat / float(_parallelogram(*middle)[0]) - 1) <= STRETCHED else found

    def _steps(self, rows: np.ndarray, column: float) -> tuple[np.ndarray, np.ndarray]:
        import rasterio.warp

        t, n = self.transform, len(rows)
        x, y = np.repeat([[column], [column + 1], [column]], n, 1), np.stack([rows, rows, rows + 1])
        x, y = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
        try:
            with gdal.quiet("scene"):
                found = rasterio.warp.transform(self.crs, "EPSG:4326", x.ravel(), y.ravel())
        except UserError:  # a point beside a globe seen from space, or a site's own system without an ellipsoid
            return (np.full(n, np.nan + 0j),) * 2
        longitude, latitude = (np.asarray(values, np.float64).reshape(3, n) for values in found)
        eccentric, middle = _FLATTENING * (2 - _FLATTENING), np.radians(latitude[0])
        bent = 1 - eccentric * np.sin(middle) ** 2
        east = _AXIS * np.cos(middle) / np.sqrt(bent) * np.radians((longitude[1:] - longitude[0] + 180) % 360 - 180)
        north = _AXIS * (1 - eccentric) / bent**1.5 * np.radians(latitude[1:] - latitude[0])
        across, down = east + 1j * north
        return across, down


def _parallelogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area between two sides that are complex numbers."""
    return np.abs((a.conj() * b).imag)


def _zone(latitude: np.ndarray) -> np.ndarray:
    """Area in square metres between the equator and `latitude` (radians), for a radian of longitude, on the ellipsoid."""
    e = math.sqrt(_FLATTENING * (2 - _FLATTENING))
    sine = np.sin(latitude)
    return (_AXIS**2 * (1 - e**2) / 2) * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)


_PICTURES = (".png", ".jpg", ".jpeg", ".npy")


def _sidecars(path: Path) -> list[Path]:
    """Where the place of a picture may stand: world files, and GDAL's own."""
    short = path.suffix[1:2] + path.suffix[-1:] + "w"  # .pgw, .jgw
    ends = (short, f"{path.suffix[1:]}w", "wld")
    world = [path.with_suffix(f".{end}") for name in ends for end in (name.lower(), name.upper())]
    return [*world, path.with_name(f"{path.name}.aux.xml")]


class Writer:
    """A GeoTIFF that is written in whole rows, top to bottom: full rows of its tiles at a time."""

    def __init__(self, file: Any):
        self._file, self._row, self._held = file, 0, []

    def write(self, rows: np.ndarray) -> None:
        """[n, width] or [n, width, bands]; copied."""
        self._held.append(rows[..., None].copy() if rows.ndim == 2 else rows.copy())
        if sum(map(len, self._held)) >= _TILE:
            self._flush(whole_tiles=True)

    def finish(self) -> None:
        self._flush(whole_tiles=False)

    def _flush(self, whole_tiles: bool) -> None:
        from rasterio.windows import Window

        if not self._held:
            return
        rows = np.concatenate(self._held)
        count = len(rows) // _TILE * _TILE if whole_tiles else len(rows)
        if count:
            self._file.write(np.moveaxis(rows[:count], 2, 0), window=Window(0, self._row, rows.shape[1], count))
        self._row, self._held = self._row + count, [rows[count:]]


@contextlib.contextmanager
def cog(
    path: Path, shape: tuple[int, int], place: Place, *, bands: Sequence[str], nodata: int,
    palette: Sequence[tuple[int, int, int]] = (), tags: dict[str, str], steps: int = 0,
) -> Iterator[Writer]:  # fmt: skip
    """A Cloud Optimised GeoTIFF of uint8, deflated, that takes the place of `path` when all rows have been written.

    Args:
      bands: their descriptions. palette: of class ids, of a map of one band; overviews then keep classes, else they are
        averages. tags: for people. steps: a value of 1 is stored as this, which the file's scale says; 0: values are plain.
    Raises: UserError if the disk or GDAL does not go along.
    """
    import rasterio
    import rasterio.shutil

    plain = outputs.partial(path.with_name(f"{path.name}.rows"))
    options = dict(height=shape[0], width=shape[1], count=len(bands), dtype="uint8", nodata=nodata)
    options |= dict(transform=place.transform, crs=place.crs, tiled=True, blockxsize=_TILE, blockysize=_TILE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = rasterio.open(
                plain, "w", driver="GTiff", compress="deflate", bigtiff="if_safer", interleave="band", **options
            )
        with contextlib.closing(file):  # rasterio's own context belongs to a thread, and rows are written in another
            file.descriptions = tuple(bands)
            file.update_tags(TIFFTAG_SOFTWARE=outputs.MARK, **tags)
            if place.points:
                file.gcps = (list(place.points), place.crs)
            if place.rational is not None:
                file.rpcs = place.rational
            if steps:
                file.scales = (1 / steps,) * len(bands)
            if palette:
                file.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(palette)})
            writer = Writer(file)
            yield writer
            writer.finish()
        with outputs.replacing(path) as final, rasterio.Env():
            rasterio.shutil.copy(
                plain, final, driver="COG", compress="deflate", bigtiff="if_safer", num_threads="all_cpus",
                overview_resampling="mode" if palette else "average",
            )  # fmt: skip
    except gdal.refusals() as error:
        raise UserError(f"{path} cannot be written ({error}): free space, or give another folder.") from None
    finally:
        for suffix in ("", ".aux.xml", ".ovr", ".msk"):  # what GDAL may put beside
            plain.with_name(plain.name + suffix).unlink(missing_ok=True)
