"""The polygons that maps are clipped by, brought from any projection to that of a scene."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genseg.data.files import gdal, maps
from genseg.errors import CorruptFile, UserError

_OFF = 0.05  # pixels by which an edge may lie beside its true, curved course
_SEAM = 1e-3  # pixels by which parts that touch overlap
_POINTS = 4_000_000  # of edges that are bent; more are needed only where a projection tears them apart


class Area:
    """An area of interest: the polygons of a file's first layer, in any projection; digest: of them."""

    def __init__(self, path: Path):
        """Raises: UserError if the file cannot be read, holds no polygon, or numbers that are not of its projection."""
        import pyogrio
        from rasterio.crs import CRS

        try:
            meta, _, geometry, _ = pyogrio.raw.read(path, columns=[])
            self._crs: Any = CRS.from_user_input(meta["crs"]) if meta["crs"] else None
        except Exception as error:  # pyogrio has an exception for each of GDAL's reasons
            raise UserError(
                f"The area {path} cannot be read ({error}): give a GeoPackage, GeoJSON or Shapefile."
            ) from None
        import shapely

        try:
            shapes = [shape for shape in shapely.from_wkb(geometry) if shape is not None and shape.area > 0]
        except shapely.errors.GEOSException as error:
            raise UserError(f"The area {path} holds a polygon that is none ({error}): correct it.") from None
        bounds = np.array([shape.bounds for shape in shapes])
        if not np.isfinite(bounds).all():
            raise UserError(f"The area {path} holds coordinates that are no numbers: correct it.")
        if not shapes:
            raise UserError(f"The area {path} holds no polygons: give a layer that does.")
        most = float(np.abs(bounds).max())
        if self._crs is not None and self._crs.is_geographic and most > 360:
            raise UserError(
                f"The area {path} states longitude and latitude but holds {most:.0f}, which is neither: state the projection "
                "of its numbers (GeoJSON takes longitude and latitude alone: ogr2ogr -s_srs EPSG:CODE -t_srs EPSG:4326)."
            )
        self.path, self._shapes = path, np.array(shapes, object)
        drawn = b"".join([str(meta["crs"]).encode(), *map(shapely.to_wkb, shapes)])
        self.digest = hashlib.blake2b(drawn, digest_size=16).hexdigest()

    def on(self, place: maps.Place, size: tuple[int, int], name: str) -> Callable[[int, int], np.ndarray]:
        """(first, end) -> bool [end - first, width]: pixels of those rows of a scene whose centre lies in one of its polygons.

        size: height and width. An edge is straight in the area's projection, and as curved as that makes it in the scene's.
        Raises: UserError for a scene without a place, and for an area that cannot be brought there.
        """
        import rasterio
        import shapely
        from rasterio import features

        t, crs, shapes = place.transform, place.crs, self._shapes
        if t is None:
            raise UserError(f"{name} does not say where it lies, so that {self.path} cannot clip it: georeference it.")
        if crs and not self._crs:
            raise UserError(
                f"The area {self.path} states no projection, so that it cannot clip {name}: add its .prj, or state it "
                "(ogr2ogr -a_srs EPSG:CODE)."
            )
        # A little within the edge: a map of the world may end a millimetre beyond its own seam, on its other side.
        corners = np.array([t @ (x, y) for x in (0.01, size[1] - 0.01) for y in (0.01, size[0] - 0.01)])
        box = (*corners.min(axis=0), *corners.max(axis=0))
        if crs and crs != self._crs:
            shapes = self._brought(crs, box, t, name)
        if crs and crs.is_geographic:  # longitudes are counted from -180 or from 0
            shapes = np.concatenate([_shifted(shapes, turn) for turn in (-360, 0, 360)])
        west, south, east, north = shapely.bounds(shapes).T.reshape(4, -1)
        shapes = shapes[(west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])]

        def inside(first: int, end: int) -> np.ndarray:
            if not len(shapes):
                return np.zeros((end - first, size[1]), bool)
            moved = rasterio.Affine(t.a, t.b, t.c + first * t.b, t.d, t.e, t.f + first * t.e)
            return features.geometry_mask(shapes, (end - first, size[1]), moved, invert=True)

        return inside

    def _brought(self, crs: Any, box: tuple[float, ...], affine: Any, name: str) -> np.ndarray:
        """What may lie in a scene of this bounding box, in its projection.

        All else is cut off before: far from a scene its projection may have no place for a point, or a wrong one."""
        import rasterio.warp

        def bring(points: np.ndarray) -> np.ndarray:
            return np.stack(rasterio.warp.transform(self._crs, crs, points[:, 0], points[:, 1]), axis=1)

        try:
            with gdal.quiet(str(self.path)):
                around = rasterio.warp.transform_bounds(crs, self._crs, *box, densify_pts=100)
                known = np.isfinite(around).all()  # not of a globe seen from space, say
                parts = _cut(self._shapes, around, self._crs.is_geographic) if known else self._shapes
                found = _bent(parts, bring, affine)
        except CorruptFile:  # GDAL refuses a point
            found = None
        if found is None:
            raise UserError(
                f"The area {self.path} cannot be brought to the projection of {name}: give it in that one (ogr2ogr -t_srs "
                "EPSG:CODE), or a smaller one."
            )
        return found


def _cut(shapes: np.ndarray, around: tuple[float, ...], degrees: bool) -> np.ndarray:
    """Those parts of polygons that lie in a box (west, south, east, north), and a little beyond. degrees: they lie on a globe, whose turns are
    counted off; west is beyond east where the box lies on both sides of 180."""
    import shapely

    west, south, east, north = around
    beyond = 2e-3 * max((east - west) % 360 if degrees else east - west, north - south)
    low, high = south - beyond, north + beyond
    sides = [(west - beyond, east + beyond)]
    turns = (-360, 0, 360) if degrees else (0,)
    if degrees:
        low, high = max(low, -90), min(high, 90)
        sides = [(west - beyond, 180), (-180, east + beyond)] if west > east else sides
        sides = [(max(left, -180), min(right, 180)) for left, right in sides]
    shapes = np.where(shapely.is_valid(shapes), shapes, shapely.make_valid(shapes))
    found = [
        shapely.intersection(_shifted(shapes, turn), shapely.box(left, low, right, high))
        for turn in turns
        for left, right in sides
    ]
    parts = shapely.get_parts(np.concatenate(found))
    return parts[shapely.area(parts) > 0]  # without the points and lines in which some of them touch the box


def _shifted(shapes: np.ndarray, degrees: float) -> np.ndarray:
    import shapely

    return shapely.transform(shapes, lambda points: points + np.array((degrees, 0))) if degrees else shapes


def _bent(shapes: np.ndarray, bring: Callable[[np.ndarray], np.ndarray], affine: Any) -> np.ndarray | None:
    """The polygons with all points through `bring`, and with as many more along their edges as curved ones need; None if no
    number is enough. affine: of the scene, from (column, row)."""
    import shapely

    if not len(shapes):
        return shapes
    west, south, east, north = shapely.total_bounds(shapes)
    length, inverse = max(east - west, north - south) / 16, ~affine
    while True:
        dense = shapely.segmentize(shapes, length)
        points, ring = shapely.get_coordinates(shapely.get_rings(dense), return_index=True)
        if len(points) > _POINTS:
            return None
        moved, edges = bring(points), ring[1:] == ring[:-1]
        middles = bring((points[1:] + points[:-1])[edges] / 2)
        if not (np.isfinite(moved).all() and np.isfinite(middles).all()):
            return None
        x, y = (middles - (moved[1:] + moved[:-1])[edges] / 2).T
        off = np.hypot(inverse.a * x + inverse.b * y, inverse.d * x + inverse.e * y).max()
        if off <= _OFF:
            # Where the globe's own seam goes through a scene, two edges lie on each other, and no pixel may fall between.
            return shapely.buffer(
                shapely.transform(dense, bring), _SEAM * abs(affine.determinant) ** 0.5, join_style="mitre"
            )
        length /= min(max(2.0, (off / _OFF) ** 0.5), 8.0)  # it falls with the square of the length
