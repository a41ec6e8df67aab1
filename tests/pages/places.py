"""Files that pages speak of, drawn by code in the layouts that they have in life, where the pages say they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import rasterio
import test_data_dfc2020
import test_data_imagenet
import test_data_vaihingen
import tiny
from PIL import Image

from tests.data import made
from tests.pages import reading
from tests.pages.small import SIDE

OF_A_CLONE = (
    "configs", "studies", "benchmarks", "launch", "tests", "genseg", "docs", "Makefile", "constraints.txt", "pyproject.toml",
)  # fmt: skip
CLASSES = 5  # of own rasters; NAIP-like tiles have 6


def clone(folder: Path) -> None:
    """What a clone holds, linked."""
    for name in OF_A_CLONE:
        (folder / name).symlink_to(tiny.ROOT / name)


def geotiff(path: Path, seed: int, bands: int = 4, size: int = 48, classes: int = 6) -> np.ndarray:
    """A scene in EPSG:32632, a metre a pixel; scenes of other seeds lie elsewhere. Its mask is returned."""
    image, mask = made.scene(seed, bands, "uint8", (size, size), classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = rasterio.transform.from_origin(500_000 + 1000 * seed, 5_300_000, 1.0, 1.0)
    profile = dict(
        driver="GTiff", width=size, height=size, count=bands, dtype="uint8", crs="EPSG:32632", transform=place
    )
    with rasterio.open(path, "w", **profile) as file:
        file.write(image.transpose(2, 0, 1))
    return mask


def labelled(folder: Path, image: str, mask: str, classes: int, splits: tuple[str, ...] = ("train", "val")) -> None:
    """Four GeoTIFFs a split with their masks; `image` and `mask` are patterns of {split} and {number}."""
    for place, split in enumerate(splits):
        for number in range(4):
            ids = geotiff(folder / image.format(split=split, number=number), 10 * place + number, classes=classes)
            path = folder / mask.format(split=split, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(path)


def naip(folder: Path) -> None:
    splits = ("train", "val", "test")
    labelled(folder, "{split}/img/tile_{number}.tif", "{split}/mask/mask_{number}.tif", 6, splits)


def own(folder: Path) -> None:
    labelled(folder, "{split}/images/a{number}.tif", "{split}/masks/a{number}.tif", CLASSES)


def own_config(path: Path) -> None:
    """mine.py as docs/own-rasters.md has it."""
    page = reading.blocks((tiny.ROOT / "docs" / "own-rasters.md").read_text())
    path.write_text(next(block.text for block in page if block.text.startswith("# mine.py\n")))


def photographs(folder: Path) -> None:
    made.photographs(folder, classes=3, train=8, val=4, size=40)


def mfnet(folder: Path) -> None:
    made.mfnet(folder)


def small_mfnet(folder: Path) -> None:
    """The layout of `configs/small_segment.py:mfnet`: an own list of all three splits."""
    made.mfnet(folder)
    names = (folder / "train.txt").read_text().split()
    (folder / "train.txt").write_text("\n".join(n for n in names if not n.endswith("_flip")))


def potsdam(folder: Path) -> None:
    made.potsdam(folder, SIDE)


def vaihingen(folder: Path) -> None:
    test_data_vaihingen.drawn(folder)


def dfc2020(folder: Path) -> None:
    test_data_dfc2020.drawn(folder, test_data_dfc2020.CONTEST)


def imagenet(folder: Path) -> None:
    """As TFDS's builder leaves it: the builder itself needs TensorFlow, and `make test-prepare` runs it on archives."""
    test_data_imagenet._tfds_copy(folder, test_data_imagenet.REPAIRED, test_data_imagenet.VALIDATION)


def rgb_and_thermal(folder: Path) -> None:
    image, _ = made.scene(3, 4, "uint8", (48, 48), 6)
    Image.fromarray(image[..., :3]).save(folder / "rgb.png")
    Image.fromarray(image[..., 3]).save(folder / "thermal.png")


def pictures(folder: Path) -> None:
    for seed, name in enumerate(("one.png", "two.png")):
        Image.fromarray(made.scene(seed, 4, "uint8", (24, 32), 9)[0], "RGBA").save(folder / name)


def scenes(folder: Path) -> None:
    """Of docs/predict.md: folders of scenes, a list, an area of interest, masks."""
    for seed, name in enumerate(("scene.tif", "tiles/a.tif", "more/b.tif", "images/c.tif")):
        mask = geotiff(folder / name, seed)
    (folder / "masks").mkdir()
    inside = np.zeros(mask.shape, bool)
    inside[10:30, 10:30] = True  # district.gpkg, out of which the map of c has no class
    mask = np.where(inside, mask, 255).astype(np.uint8)
    Image.fromarray(mask).save(folder / "masks" / "c.tif")
    for name in ("scene", "a", "b", "rgb_thermal", "tiles_a"):  # maps of `maps/` are scored by name too
        Image.fromarray(mask).save(folder / "masks" / f"{name}.tif")
    (folder / "scenes.csv").write_text("images/c.tif\n")
    (folder / "pairs.csv").write_text("images/c.tif,masks/c.tif\n")
    square = [
        [503_010, 5_299_990],
        [503_030, 5_299_990],
        [503_030, 5_299_970],
        [503_010, 5_299_970],
        [503_010, 5_299_990],
    ]
    import pyogrio.raw
    import shapely

    shape = np.array([shapely.Polygon(square).wkb], object)
    pyogrio.raw.write(
        folder / "district.gpkg", geometry=shape, field_data=[], fields=[], geometry_type="Polygon", crs="EPSG:32632"
    )


def exported(folder: Path, base: Path) -> None:
    shutil.copy(base / "timm" / "model.safetensors", folder / "convnext_tiny.safetensors")
