"""An area of interest selects the pixels whose centres lie in it, whatever the projections of both."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.warp import transform

from genseg.data.files import maps
from genseg.errors import UserError
from genseg.predict import area

WORLD = shapely.box(-180, -90, 180, 90)
UTM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
WEB = rasterio.Affine(55_659.7454, 0, -20_037_508.34, 0, -55_659.7454, 20_037_508.34)  # the whole world, 720 pixels
POLE = rasterio.Affine(10_000, 0, -3e6, 0, -10_000, 3e6)
TURNED = (
    rasterio.Affine.translation(4_321_000, 3_210_000) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(30, -30)
)


def geojson(path, *shapes):
    features = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(s)} for s in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return area.Area(path)


def selected(drawn, affine, crs, size):
    inside = drawn.on(maps.Place(affine, rasterio.crs.CRS.from_user_input(crs), ()), size, "scene.tif")
    return np.concatenate([inside(row, min(row + 70, size[0])) for row in range(0, size[0], 70)])


@pytest.mark.parametrize(
    ("affine", "crs", "size"),
    [
        (UTM, "EPSG:32633", (100, 150)),
        (WEB, "EPSG:3857", (720, 720)),
        (POLE, "EPSG:3413", (600, 600)),
        (
            rasterio.Affine(100, 0, 700_000, 0, -100, 5_000_000),
            "EPSG:32660",
            (50, 2000),
        ),  # on both sides of 180 degrees
        (rasterio.Affine(1, 0, 0, 0, -1, 90), "EPSG:4326", (180, 360)),  # longitudes from 0
    ],
)
@pytest.mark.parametrize("frame", [0, 180, 0.5])
def test_a_box_around_the_world_selects_every_pixel(tmp_path, affine, crs, size, frame):
    """frame: also one of longitudes from 0, and one drawn by hand beyond the poles."""
    box = (
        shapely.box(0, -90, 360, 90)
        if frame == 180
        else shapely.box(-180 - frame, -90 - frame, 180 + frame, 90 + frame)
    )
    assert selected(geojson(tmp_path / "a.geojson", box), affine, crs, size).all()


@pytest.mark.parametrize(
    ("affine", "crs", "size", "box"),
    [
        (UTM, "EPSG:32633", (100, 150), (-30, 30, 60, 75)),
        (UTM, "EPSG:32633", (100, 150), (5, 45.148, 25, 55)),  # its lower edge goes through the scene
        (rasterio.Affine(100, 0, 200_000, 0, -100, 6_000_000), "EPSG:32633", (1000, 6000), (11, 53.3, 18, 53.9)),
        (POLE, "EPSG:3413", (600, 600), (10.03, 75.03, 100.03, 90)),
        (WEB, "EPSG:3857", (720, 720), (170.1, -20, 190.1, 70)),
        (TURNED, "EPSG:3035", (1000, 1000), (10.05, 51, 11, 52.7)),
    ],
)
def test_pixels_whose_centres_lie_in_a_box_of_degrees_are_selected(tmp_path, affine, crs, size, box):
    found = selected(geojson(tmp_path / "a.geojson", shapely.box(*box)), affine, crs, size)
    columns, rows = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    longitude, latitude = map(np.array, transform(crs, "EPSG:4326", *(affine @ (columns.ravel(), rows.ravel()))))
    longitude = np.where(longitude < box[0], longitude + 360, longitude)
    expected = ((longitude < box[2]) & (latitude > box[1]) & (latitude < box[3])).reshape(size)
    # A pixel in ten of those along an edge may have its centre within the tenth of a pixel that the edge is off.
    assert expected.sum() > 0 and (found != expected).sum() <= 0.1 * sum(size)


def test_an_area_elsewhere_selects_nothing(tmp_path):
    found = selected(geojson(tmp_path / "a.geojson", shapely.box(100, 10, 101, 11)), UTM, "EPSG:32633", (100, 150))
    assert found.shape == (100, 150) and not found.any()


def test_neighbours_leave_no_gap(tmp_path):
    halves = geojson(tmp_path / "a.geojson", shapely.box(0, 30, 15.01, 60), shapely.box(15.01, 30, 60, 60))
    assert selected(halves, UTM, "EPSG:32633", (100, 150)).all()


def test_numbers_of_another_projection_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"The area .*a\.geojson states longitude and latitude but holds 5000000"):
        geojson(tmp_path / "a.geojson", shapely.box(500_000, 4_990_000, 500_750, 5_000_000))


def test_what_a_projection_cannot_show_is_refused_as_an_area(tmp_path):
    """The far side of a globe seen from a satellite."""
    affine = rasterio.Affine(11_000, 0, -5.5e6, 0, -11_000, 5.5e6)
    with pytest.raises(UserError, match=r"The area .*a\.geojson cannot be brought to the projection of scene\.tif"):
        selected(geojson(tmp_path / "a.geojson", WORLD), affine, "+proj=geos +h=35785831 +lon_0=0", (1000, 1000))


def test_an_area_without_a_projection_belongs_to_scenes_without_one(tmp_path):
    shape = shapely.to_wkb(np.array([shapely.box(500_000, 4_999_000, 500_750, 5_000_000)], object))
    with pytest.warns(UserWarning, match="crs"):
        pyogrio.raw.write(tmp_path / "a.shp", shape, [], [], geometry_type="Polygon", driver="ESRI Shapefile")
    drawn = area.Area(tmp_path / "a.shp")
    with pytest.raises(UserError, match=r"The area .*a\.shp states no projection.*add its \.prj"):
        selected(drawn, UTM, "EPSG:32633", (100, 150))
    found = drawn.on(maps.Place(UTM, None, ()), (100, 150), "scene.tif")(0, 100)
    assert found[:, :75].all() and not found[:, 75:].any()
