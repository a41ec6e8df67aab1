"""Tiny files in true layouts, drawn by code so that the repository stays small."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from genseg.data.files import codec


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


def colours(mask: np.ndarray, palette: list[tuple[int, int, int]]) -> np.ndarray:
    """Ids [h w] to colours [h w 3]."""
    return np.array(palette, np.uint8)[mask]


def save_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(codec.encode_png(pixels))


def zipped(folder: Path, archive: Path, flat: bool = False) -> None:
    """Packs a folder, or flat what is in it, and removes it."""
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, path.relative_to(folder if flat else folder.parent))
    shutil.rmtree(folder)


def isaid(root: Path, layout: str = "devkit") -> Path:
    """Scenes of 16 classes, one of them grey, with the instance map beside; layout "devkit", "mmseg" or "mmseg_zip"."""
    from genseg.data.sets.isaid import CLASSES

    palette = list(CLASSES.values())
    for split, names in (("train", ("P0000", "P0001", "P0002")), ("val", ("P0003",))):
        for i, name in enumerate(names):
            size = ((40, 72), (100, 36), (20, 90))[i]
            image, mask = scene(int(name[1:]), 3, "uint8", size, 16)
            where = root / split / "images" / ("" if layout == "devkit" else "images")
            save_png(where / f"{name}.png", image[..., 0] if i == 1 else image)
            masks = where if layout == "devkit" else root / split / "Semantic_masks" / "images"
            save_png(masks / f"{name}_instance_color_RGB.png", colours(mask, palette))
            save_png(where / f"{name}_instance_id_RGB.png", colours((mask > 0) * 1, [(0, 0, 0), (7, 8, 9)]))
        if layout == "mmseg_zip":
            zipped(root / split / "images" / "images", root / split / "images" / "part1.zip")
            zipped(root / split / "Semantic_masks" / "images", root / split / "Semantic_masks" / "images.zip")
    return root


def mfnet(root: Path, layout: str = "official") -> Path:
    """8 pairs by day and night with lists, whose train.txt also names a mirrored copy that is not there. The official
    archive also holds coloured labels and further lists."""
    lists = {"train": ["00001D", "00002N", "00001D_flip", "00003D"], "val": ["00004N", "00005D"], "test": ["00006D"]}
    lists["test"] += ["00007N", "00008D"]
    root.mkdir(parents=True)
    for split, names in lists.items():
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            if name.endswith("_flip"):
                continue
            image, mask = scene(int(name[:5]), 4, "uint8", (24, 32), 9)
            image[..., 3] = 255 - image[..., 3]
            if layout == "official":
                save_png(root / "images" / f"{name}.png", image)
                save_png(root / "visual" / f"{name}.png", np.full_like(image[..., :3], 9))
                (root / "black_list.txt").write_text("00099D\n")
            elif layout == "separated":
                save_png(root / "seperated_images" / f"{name}_rgb.png", image[..., :3])
                save_png(root / "seperated_images" / f"{name}_th.png", image[..., 3])
            else:
                colour, thermal = {"cmx": ("RGB", "Modal"), "sigma": ("RGB", "Thermal"), "cmnext": ("rgb", "ther")}[
                    layout
                ]
                save_png(root / colour / f"{name}.png", image[..., :3])
                save_png(root / thermal / f"{name}.png", np.repeat(image[..., 3:], 3, 2))
            save_png(root / {"cmx": "Label", "sigma": "Label"}.get(layout, "labels") / f"{name}.png", mask)
    return root


def pst900(root: Path, three: bool = False, layout: str = "official") -> Path:
    """Two training images and one test image with names of the official lists; thermal has a hole of zeros, and depth
    files lie beside."""
    from genseg.data.sets import published_names

    for split, count in (("train", 2), ("test", 1)):
        for i, name in enumerate(published_names.PST900[split][:count]):
            image, mask = scene(i, 4, "uint8", (18, 32), 5)
            image[:5, :, 3] = 0
            save_png(root / split / "rgb" / f"{name}.png", image[..., :3])
            save_png(
                root / split / "thermal" / f"{name}.png", np.repeat(image[..., 3:], 3, 2) if three else image[..., 3]
            )
            save_png(root / split / "thermal_raw" / f"{name}.png", image[..., 3].astype(np.uint16) * 100)
            save_png(root / split / "depth" / f"{name}.png", np.full((18, 32), 2560, np.uint16))
            save_png(root / split / "labels" / f"{name}.png", mask)
    if layout == "sigma":  # one folder a kind for both splits
        for old, new in (("rgb", "RGB"), ("thermal", "Thermal"), ("labels", "Label")):
            (root / new).mkdir()
            for path in list(root.glob(f"*/{old}/*.png")):
                path.rename(root / new / path.name)
        for split in ("train", "test"):
            shutil.rmtree(root / split)
    return root


def potsdam(root: Path, size: int, tiles: tuple[str, ...] = ("2_10", "4_12", "6_7", "3_13")) -> Path:
    """Tiles in the official folders. 4_12's labels went through lossy coding, 6_7's cars are (252, 255, 0), the heights
    of 3_13 are a column short, heights are zero-padded in name and JPEG in form, one of them in colour; `ownapproach`
    heights are empty, and point clouds lie beside them."""
    from genseg.data.sets.potsdam import CLASSES

    palette = list(CLASSES.values())
    folders = ("1_DSM", "1_DSM_normalisation", "4_Ortho_RGBIR/4_Ortho_RGBIR", "5_Labels_all", "5_Labels_all_noBoundary")
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, tile in enumerate(tiles):
        image, mask = scene(number, 4, "uint8", (size, size), 6)
        padded = "_".join(f"{int(n):02d}" for n in tile.split("_"))
        height = np.linspace(30, 60, size * size, dtype=np.float32).reshape(size, size)
        above = np.full((size, size), 40 + number, np.uint8)
        if tile == "3_13":
            height, above = height[:, :-1], above[:, :-1]
        tifffile.imwrite(root / folders[0] / f"dsm_potsdam_{padded}.tif", height)
        name = root / folders[1] / f"dsm_potsdam_{padded}_normalized_lastools.jpg"
        coded = above[..., None] if tile != "4_12" else np.repeat(above[..., None], 3, axis=2)
        name.write_bytes(simplejpeg.encode_jpeg(coded, 95, "GRAY" if tile != "4_12" else "RGB"))
        name.with_suffix(".laz").write_bytes(b"LASF")
        (root / folders[1] / f"dsm_potsdam_{padded}_normalized_ownapproach.jpg").write_bytes(b"")
        tifffile.imwrite(
            root / folders[2] / f"top_potsdam_{tile}_RGBIR.tif", image, photometric="rgb", extrasamples=["unassalpha"]
        )
        label = colours(mask, palette)
        if tile == "6_7":
            label[(label == (255, 255, 0)).all(2)] = (252, 255, 0)
        eroded = label.copy()
        eroded[::4] = 0
        for folder, suffix, colour in ((folders[3], "label", label), (folders[4], "label_noBoundary", eroded)):
            if tile == "4_12":
                noise = np.random.default_rng(0).integers(0, 40, label.shape, dtype=np.uint8)
                colour = np.where(colour > 127, colour - noise, colour + noise)
            tifffile.imwrite(root / folder / f"top_potsdam_{tile}_{suffix}.tif", colour, photometric="rgb")
    return root


def georeferenced(path: Path, pixels: np.ndarray, west: float, north: float, scale: float = 1.0) -> None:
    """A GeoTIFF [h w c] or [h w] whose upper left corner lies at (west, north), `scale` map units a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    planar = {"planarconfig": "contig"} if pixels.ndim == 3 else {}
    tifffile.imwrite(
        path, pixels, photometric="minisblack", **planar,
        extratags=[(33550, "d", 3, (scale, scale, 0.0), True), (33922, "d", 6, (0, 0, 0, west, north, 0), True)],
    )  # fmt: skip
