# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Your own GeoTIFFs: from a folder to a map
#
# A folder of four-band GeoTIFF tiles with masks becomes a trained network, and a scene that it has never seen becomes a
# map in place, with areas and polygons. The scenes are **drawn by code** so that this runs anywhere; put your folder in
# the place of `TILES` and your scene in that of `SCENE`. About five minutes on two CPU cores.

# %% [markdown]
# ## Install
#
# Where genseg is installed the cell does nothing, and in a clone it installs that. Elsewhere, as on Colab, edit `REPOSITORY` first:
# it is a placeholder.

# %%
import importlib.util
import subprocess
import sys
from pathlib import Path

# EDIT THIS outside of a clone, on Colab for instance: a placeholder for the address of your copy of genseg.
REPOSITORY = "https://github.com/my-account/genseg.git"
if importlib.util.find_spec("genseg") is None:
    clones = [str(p) for p in (Path.cwd(), *Path.cwd().parents) if (p / "genseg" / "recipes").is_dir()]
    source = clones[0] if clones else "./genseg-source"
    if not clones:
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, "genseg-source"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %% [markdown]
# ## A folder of tiles
#
# What genseg needs: images, one mask for each with class numbers 0, 1, 2 ..., and which of them are for training. The
# simplest layout is `TILES/{train,val}/images/NAME.tif` beside `TILES/{train,val}/masks/NAME.tif`.

# %%
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin

CLASSES = ("field", "forest", "water", "building", "road")
PALETTE = ((214, 190, 120), (38, 110, 50), (50, 110, 200), (200, 60, 50), (110, 110, 115))
# Reflectance of red, green, blue and near infrared, of each class
LIGHT = np.array(
    [
        [0.14, 0.14, 0.09, 0.30],
        [0.03, 0.06, 0.03, 0.38],
        [0.03, 0.05, 0.08, 0.02],
        [0.30, 0.24, 0.22, 0.30],
        [0.18, 0.18, 0.18, 0.22],
    ]
)


def smooth(shape, cell, rng):
    """Noise without edges, about -1 .. 1, float [h w]."""
    coarse = rng.normal(size=(shape[0] // cell + 2, shape[1] // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (shape[1] + cell, shape[0] + cell), interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]


def draw_land(height, width, seed):
    """A landscape: reflectance times 10,000 as uint16 [4 h w], and its classes uint8 [h w]."""
    rng = np.random.default_rng(seed)
    shape = (height, width)
    classes = np.where(smooth(shape, 72, rng) > 0.35, 1, 0).astype(np.uint8)
    column = np.arange(width)
    river = height * (0.5 + 0.22 * np.sin(column / width * 5 + rng.uniform(0, 6))) + 6 * np.sin(column / 23)
    classes[np.abs(np.arange(height)[:, None] - river) < 11 + 4 * np.sin(column / 61)] = 2
    parcels = np.round(3 * smooth(shape, 40, rng))  # fields of their own greenness
    for _ in range(max(3, width // 90)):
        corner, angle = rng.uniform(0, 1, 2) * (width, height), rng.choice([0.2, 1.77]) + rng.normal(0, 0.1)
        along = np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(np.int32(corner + side * 3 * width * along).tolist()) for side in (-1, 1)]
        for place in rng.uniform(-0.6, 0.6, 14):
            centre = corner + place * width * along + rng.choice([-13, 13]) * along[::-1] * (1, -1)
            size = rng.uniform(9, 17, 2).tolist()
            box = cv2.boxPoints((tuple(centre.tolist()), size, float(np.degrees(angle))))
            cv2.fillPoly(classes, [np.int32(box)], 3)
        cv2.line(classes, *ends, 4, 6)
    light = LIGHT[classes]  # [h w 4]
    light[classes == 0] += 0.03 * parcels[classes == 0, None] * (-1, -0.3, -0.5, 2.5)
    light = light * (1 + 0.1 * smooth(shape, 3, rng)[..., None]) + rng.normal(0, 0.012, light.shape)
    return np.clip(light * 10000, 1, 10000).astype(np.uint16).transpose(2, 0, 1), classes


def write(path, bands, west, north):
    """A GeoTIFF [bands h w] with pixels of one metre, in UTM zone 32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    place = dict(crs="EPSG:32632", transform=from_origin(west, north, 1, 1))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=bands.dtype,
        compress="deflate",
        **place,
    ) as file:
        file.write(bands)
        if count == 4:
            file.descriptions = ("red", "green", "blue", "nir")


TILES, SIDE = Path("tiles"), 128
land, truth = draw_land(512, 768, seed=1)
for top in range(0, 512, SIDE):
    for left in range(0, 768, SIDE):
        split = "train" if left < 512 else "val"  # the east is for validation; four tiles touch it
        rows, columns, name = slice(top, top + SIDE), slice(left, left + SIDE), f"tile_{top}_{left}.tif"
        write(TILES / split / "images" / name, land[:, rows, columns], 500000 + left, 5200000 - top)
        write(TILES / split / "masks" / name, truth[None, rows, columns], 500000 + left, 5200000 - top)
SCENE = Path("scene.tif")
new_land, new_truth = draw_land(384, 576, seed=8)  # elsewhere, and of a size of its own
write(SCENE, new_land, 510000, 5210000)
write(Path("truth/scene.tif"), new_truth[None], 510000, 5210000)
print(len(list(TILES.glob("train/images/*"))), "tiles to train on,", len(list(TILES.glob("val/images/*"))), "to score")

# %% [markdown]
# ## Look before training
#
# The config file says what the data are and how long to train. Any key it does not set has its default
# (docs/config.md lists them all).

# %%
CONFIG = f"""
from genseg.recipes import segment

def get_config():
    return segment.config(
        data=dict(
            name="folder_segmentation", source="tiles", data_dir="data", threads=1,
            image_pattern="{{split}}/images/{{id}}.tif", mask_pattern="{{split}}/masks/{{id}}.tif",
            bands=("red", "green", "blue", "nir"),
            classes={CLASSES},
            palette={PALETTE},
        ),
        augment=dict(size=(96, 96), scale=(0.75, 1.5), vertical_flip=0.5, turns=True),  # no up from straight above
        model=dict(backbone="convnext_micro", drop_path=0.1, head_channels=32, aux_channels=16),
        train=dict(batch_size=8, steps=240, warmup_steps=20),
        optim=dict(learning_rate=4e-3, schedule="poly", layer_decay=0.9),
        loss=dict(class_rule="sqrt_inverse"),  # a seldom class weighs more
        eval=dict(batch_size=4, mode="slide", crop=(96, 96), stride=(48, 48), blend="hann"),  # as the map is made
        checkpoint=dict(every=40),
        report=dict(log_every=40, panels=3),
    )
"""
Path("mine.py").write_text(CONFIG)

from IPython.display import display
from PIL import Image

import genseg
from genseg.data import show


def look(path, width=700):
    """A picture at no more than so many pixels across."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 2 * width))
    display(picture)


assert show.main(
    [
        "folder_segmentation", "--source=tiles", "--data_dir=data", "--output=sheet.png", "--count=3",
        "--image_pattern={split}/images/{id}.tif", "--mask_pattern={split}/masks/{id}.tif",
        "--bands=('red', 'green', 'blue', 'nir')", f"--classes={CLASSES}", f"--palette={PALETTE}",
    ]
) == 0  # fmt: skip
look("sheet.png")

# %% [markdown]
# A wrong band order, a shifted mask or a wrong palette would be seen here.
#
# ## Train
#
# From random weights. `start="runs/csp4"` would begin at a pre-trained backbone
# ([01](01_method.ipynb), [03](03_weights.ipynb)). The same call again goes on where a stopped one was, at its last save: one every
# `checkpoint.every` steps, here 40. By default there are none but with evaluations, and of these one, at the end.
#
# Classes that few pixels have are what so few steps miss first, and `loss.class_rule` is for them: left out, no pixel of the
# scene below became water or building (IoU 0), and the river came out as road.

# %%
result = genseg.finetune(genseg.load_config("mine.py"), "runs/mine")
print({name: round(value, 3) for name, value in result["scores"].items() if name in ("miou", "mf1", "oa")})
print(result["protocol"])

# %%
look("runs/mine/pictures/val_samples.png")

# %% [markdown]
# ## A map of a new scene
#
# A window slides over the scene, whatever its size. The map is a Cloud Optimised GeoTIFF in the scene's place and
# projection; QGIS shows it with names and colours.

# %%
(made,) = genseg.draw_maps("runs/mine", [SCENE], "maps", polygons=True, smallest=20)
with rasterio.open(made) as file:
    drawn = file.read(1)
    print(made, drawn.shape, file.crs, file.bounds)
print(sorted(path.name for path in Path("maps").iterdir()))
print(Path("maps/scene_areas.csv").read_text())

# %%
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap

colours = ListedColormap(np.array(PALETTE) / 255)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6))
axes[0].imshow(np.clip(new_land[[3, 0, 1]].transpose(1, 2, 0) / 4500, 0, 1))
axes[0].set_title("the scene (NIR, red, green)", fontsize=9)
for axis, ids, title in ((axes[1], drawn, "the map"), (axes[2], new_truth, "what was drawn")):
    shown = axis.imshow(ids, cmap=colours, vmin=-0.5, vmax=len(CLASSES) - 0.5, interpolation="nearest")
    axis.set_title(title, fontsize=9)
bar = figure.colorbar(shown, ax=axes, ticks=range(len(CLASSES)), fraction=0.02)
bar.ax.set_yticklabels(CLASSES, fontsize=8)
for axis in axes:
    axis.axis("off")

# %% [markdown]
# 240 steps from random weights find all five classes; buildings and roads, which are small and thin, the least well. More steps
# (`steps=1000`) and a pre-trained start are what to try next.
#
# ## How good is it?
#
# Where a scene has a mask, `genseg score` counts; here on the new scene, with the map that is there.

# %%
from genseg.score.__main__ import main as score

assert score(["--maps", "--out", "scores", "--masks", "truth/", str(made)]) == 0
agreement = float((drawn == new_truth).mean())
print(f"{100 * agreement:.1f} % of the scene's pixels have the class that was drawn")

# %% [markdown]
# The same from the command line, from this folder:
#
# ```
# genseg train --config=mine.py --workdir=runs/mine
# genseg predict --checkpoint=runs/mine --out=maps --polygons --smallest=20 scene.tif
# ```
