"""A class map as polygons in a GeoPackage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genseg import outputs
from genseg.data.files import maps
from genseg.data.files.qgis import Classes
from genseg.errors import UserError

_CHUNK = 20_000  # polygons in memory at a time


def write(path: Path, class_map: Path, classes: Classes, *, nodata: int, smallest: int) -> int:
    """Polygons of equal class, pixel edge for pixel edge, with class, class id and area; how many there are.

    Neighbours share their edges: there are neither gaps nor overlaps. Pixels of `nodata` have no polygon; a map of them alone
    has a layer without one, and with all fields.

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
            return count


def _chunks(items: Iterator) -> Iterator[list]:
    """At least one, which is empty where there are no items."""
    chunk, first = [], True
    for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk, first = [], False
    if chunk or first:
        yield chunk


def _columns(chunk: list, classes: Classes, place: maps.Place) -> tuple[dict[str, np.ndarray], np.ndarray]:
    import shapely

    geometry = np.array([shapely.geometry.shape(shape) for shape, _ in chunk], object)
    ids = np.array([value for _, value in chunk], np.int32)
    names = {value: name for value, name, _ in classes}
    fields = {"class": np.array([names[i] for i in ids], object), "class_id": ids}
    if place.transform is not None:
        centre = shapely.centroid(geometry)
        rows = (~place.transform @ (shapely.get_x(centre), shapely.get_y(centre)))[1]
        measured = place.square_metres(np.atleast_1d(rows))
        if measured is not None:
            fields["area_m2"] = shapely.area(geometry) / abs(place.transform.determinant) * measured
    else:
        fields["pixels"] = shapely.area(geometry)
    return fields, shapely.to_wkb(geometry)
