"""Tiny files in true layouts, drawn by code so that the repository stays small."""

from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from genseg.data import codec


def photographs(root: Path, classes: int = 3, train: int = 6, val: int = 3, size: int = 20) -> Path:
    """An ImageFolder tree of JPEGs and PNGs; in each class the second training image is grey."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / split / f"class_{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(60 + 60 * label, 20, (size, size + 4, 3)), 0, 255).astype(np.uint8)
                if i == 1:
                    Image.fromarray(pixels[..., 0]).save(folder / f"{i}.JPEG", format="JPEG")
                elif i == 2:
                    Image.fromarray(pixels).save(folder / f"{i}.png")
                else:
                    (folder / f"{i}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=90))
    return root


def scene(seed: int, bands: int, dtype: str, size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An image [h w c] whose every pixel tells its class: class k has values around 20 + 20 * k, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, classes, (size[0] // 4 + 1, size[1] // 4 + 1)), np.ones((4, 4), int))
    mask = mask[: size[0], : size[1]].astype(np.uint8)
    image = (20 + 20 * mask[..., None] + rng.integers(0, 10, (*size, bands))).astype(dtype)
    return image, mask


def tiles(
    root: Path, bands: int = 4, dtype: str = "uint8", count: int = 3, size: tuple[int, int] = (24, 24), classes: int = 3
) -> Path:
    """NAIP-like tiles: {split}/img/tile_<n>.tif and {split}/mask/mask_<n>.tif."""
    for number, split in enumerate(("train", "val", "test")):
        for kind in ("img", "mask"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, mask = scene(100 * number + i, bands, dtype, size, classes)
            (root / split / "img" / f"tile_{i}.tif").write_bytes(codec.encode_tiff(image))
            tifffile.imwrite(root / split / "mask" / f"mask_{i}.tif", mask)
    return root
