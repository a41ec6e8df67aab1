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
# # 01 The method, and a demo
#
# What Channel Shuffling Pre-training (CSP) does to an image, and the whole chain on pictures that are **drawn by code**:
# pre-train with CSP and with plain RGB, look at both in other channel orders, fine-tune each on RGB + thermal scenes.
# The numbers show that the chain works, not how good a method is. About five minutes on two CPU cores; a GPU or TPU is
# used where there is one.

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
# ## What the network sees
#
# A photograph has three channels, the sensor that one wants a network for has n, here four. CSP repeats the photograph's
# channels up to n and puts them in random order, anew for every image. Then no channel means "red", and the network has
# to use structure instead.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import genseg
from genseg import csp
from genseg.data.sets.demo import draw_photograph

photograph = draw_photograph(label=1, hue=0.07, size=96, rng=np.random.default_rng(3))
batch = np.stack([photograph] * 3).astype(np.float32)  # [b h w 3]
orders = csp.draw_orders(jax.random.key(1), batch=3, source=3, channels=4, fill="random", per="image")
shuffled = np.asarray(csp.apply_order(batch, orders))  # [b h w 4]

figure, axes = plt.subplots(3, 5, figsize=(7, 4.4))
for row, order in enumerate(np.asarray(orders)):
    axes[row, 0].imshow(photograph)
    axes[row, 0].set_title("photograph" if row == 0 else "", fontsize=9)
    for channel in range(4):
        axes[row, channel + 1].imshow(shuffled[row, ..., channel], cmap="gray", vmin=0, vmax=255)
        axes[row, channel + 1].set_title(f"channel {channel}: {'RGB'[order[channel]]}", fontsize=9)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## Pre-train
#
# Eight kinds of structure. In training, each kind has its own hue four times out of five, so colour tempts; in validation
# hues are drawn at random. A network that leans on colour fails there.

# %%
DATA = {"data.data_dir": "data"}
pretrained = {
    "CSP, 4 channels": genseg.pretrain(genseg.load_config("demo_pretrain:objective=csp,channels=4", DATA), "runs/csp"),
    "RGB": genseg.pretrain(genseg.load_config("demo_pretrain:objective=rgb,channels=3", DATA), "runs/rgb"),
}

# %%
print(f"{'top-1, %':<18}{'fixed order':>12}{'permuted':>12}{'reversed':>12}")
for name, result in pretrained.items():
    shown = [100 * result["scores"][score] for score in ("top1", "top1_permuted", "top1_reversed")]
    print(f"{name:<18}" + "".join(f"{value:>12.1f}" for value in shown))

# %% [markdown]
# The CSP network scores the same in any channel order: nothing in it is tied to one.
#
# ## Fine-tune
#
# The targets are drawn RGB + thermal scenes, half of them by night. The CSP network's stem has four channels already; the
# RGB network's is inflated from three (`init.stem`).

# %%
runs = {
    "CSP": ("runs/csp", {}),
    "RGB, inflated": ("runs/rgb", {"init.stem": "repeat"}),
    "from scratch": (None, {}),
}
finetuned = {}
for name, (start, changes) in runs.items():
    config = genseg.load_config("demo_segment", DATA | changes)
    finetuned[name] = genseg.finetune(config, f"runs/segment {name}", start=start)

# %%
print(f"{'%, drawn scenes':<18}{'mIoU':>8}{'mF1':>8}{'OA':>8}")
for name, result in finetuned.items():
    print(f"{name:<18}" + "".join(f"{100 * result['scores'][score]:>8.1f}" for score in ("miou", "mf1", "oa")))

# %% [markdown]
# Bands, truth and prediction of a few validation scenes, as every run leaves them in its `pictures/`:

# %%
from IPython.display import display
from PIL import Image

panels = Image.open("runs/segment CSP/pictures/val_samples.png").convert("RGB")
panels.thumbnail((760, 900))
display(panels)

# %% [markdown]
# Next: [your own GeoTIFFs](02_own_rasters.ipynb), or the same from the command line: `make demo`.
