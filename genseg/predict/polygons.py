"""A class map as polygons in a GeoPackage, and the polygons that an area of interest is drawn with."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from genseg import outputs
from genseg.data.files import gdal, maps
from genseg.data.files.qgis import Classes
from genseg.errors import UserError

_CHUNK = 20_000  # polygons in memory at a time


def write(path: Path, class_map: Path, classes: Classes, *, nodata: int, smallest: int) -> int:
    """Polygons of equal class, pixel edge for pixel edge, with class, class id and area; how many there are.

    Neighbours share their edges: there are neither gaps nor overlaps. Pixels of `nodata` have no polygon.

    Args:
      class_map: of `maps.cog`, or a picture. smallest: regions of fewer pixels first join their largest neighbour
        (GDAL's sieve), so that the ground stays covered; 0 or 1 keeps all.
    """
    import pyogrio
    import rasterio
    from rasterio import features

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(class_map) as file, outputs.replacing(path) as temporary:
            band, ids = rasterio.band(file, 1), None
            if smallest > 1:
                ids = file.read(1)
                ids = features.sieve(ids, smallest, mask=ids != nodata)
            transform = rasterio.Affine.identity() if file.transform.is_identity else file.transform
            source = {"source": band} if ids is None else {"source": ids, "mask": ids != nodata}
            place = maps.Place(None if file.transform.is_identity else transform, file.crs, ())
            shapes = features.shapes(**source, transform=transform)
            wkt = file.crs.to_wkt() if file.crs else None
            count = 0
            for chunk in _chunks((shape, int(v)) for shape, v in shapes if int(v) != nodata):
                fields, geometry = _columns(chunk, classes, place)
                with (
                    warnings.catch_warnings()
                ):  # of the temporary name, which does not end in .gpkg; of maps without a place
                    warnings.simplefilter("ignore", RuntimeWarning)
                    warnings.simplefilter("ignore", UserWarning)
                    try:
                        pyogrio.raw.write(
                            temporary, geometry, list(fields.values()), list(fields), layer=path.stem, driver="GPKG",
                            geometry_type="Polygon", crs=wkt, append=count > 0,
                        )  # fmt: skip
                    except (
                        pyogrio.errors.DataSourceError,
                        pyogrio.errors.DataLayerError,
                        pyogrio.errors.FeatureError,
                    ) as error:
                        raise UserError(
                            f"{path} cannot be written ({error}): free space, or give another folder."
                        ) from None
                count += len(chunk)
            if not count:
                raise UserError(f"{class_map} holds no class anywhere: there is nothing to draw polygons of.")
            return count


def _chunks(items: Iterator) -> Iterator[list]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _columns(chunk: list, classes: Classes, place: maps.Place) -> tuple[dict[str, np.ndarray], np.ndarray]:
    import shapely

    geometry = np.array([shapely.geometry.shape(shape) for shape, _ in chunk], object)
    ids = np.array([value for _, value in chunk], np.int32)
    names = {value: name for value, name, _ in classes}
    fields = {"class": np.array([names[i] for i in ids], object), "class_id": ids}
    if place.crs is not None and place.crs.is_projected:
        fields["area_m2"] = shapely.area(geometry) * place.crs.linear_units_factor[1] ** 2
    elif place.transform is None:
        fields["pixels"] = shapely.area(geometry)
    return fields, shapely.to_wkb(geometry)


class Area:
    """An area of interest: the polygons of a file's first layer, in any projection; digest: of them."""

    def __init__(self, path: Path):
        """Raises: UserError if the file cannot be read or holds no polygon."""
        import pyogrio

        try:
            meta, _, geometry, _ = pyogrio.raw.read(path, columns=[])
        except Exception as error:  # pyogrio has an exception for each of GDAL's reasons
            raise UserError(
                f"The area {path} cannot be read ({error}): give a GeoPackage, GeoJSON or Shapefile."
            ) from None
        import shapely

        try:
            shapes = [shape for shape in shapely.from_wkb(geometry) if shape is not None and shape.area > 0]
        except shapely.errors.GEOSException as error:
            raise UserError(f"The area {path} holds a polygon that is none ({error}): correct it.") from None
        if not np.isfinite([shape.bounds for shape in shapes]).all():
            raise UserError(f"The area {path} holds coordinates that are no numbers: correct it.")
        if not shapes:
            raise UserError(f"The area {path} holds no polygons: give a layer that does.")
        self.path, self._crs, self._shapes = path, meta["crs"], shapes
        drawn = b"".join([str(meta["crs"]).encode(), *map(shapely.to_wkb, shapes)])
        self.digest = hashlib.blake2b(drawn, digest_size=16).hexdigest()

    def on(self, place: maps.Place, width: int, name: str) -> Callable[[int, int], np.ndarray]:
        """(first, end) -> bool [end - first, width]: pixels of those rows of a scene whose centre lies in one of its polygons.

        Raises: UserError for a scene without a place.
        """
        import rasterio
        import shapely
        from rasterio import features
        from rasterio.warp import transform_geom

        t = place.transform
        if t is None:
            raise UserError(f"{name} does not say where it lies, so that {self.path} cannot clip it: georeference it.")
        shapes = [shapely.geometry.mapping(shape) for shape in self._shapes]
        if self._crs and place.crs and place.crs != self._crs:
            with gdal.quiet(str(self.path)):
                shapes = [transform_geom(self._crs, place.crs, shape) for shape in shapes]

        def inside(first: int, end: int) -> np.ndarray:
            moved = rasterio.Affine(t.a, t.b, t.c + first * t.b, t.d, t.e, t.f + first * t.e)
            return features.geometry_mask(shapes, (end - first, width), moved, invert=True)

        return inside
