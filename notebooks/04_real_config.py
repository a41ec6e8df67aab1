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
# # 04 A real config on a TPU or GPU runtime, with the dry run first
#
# `configs/segment_mfnet.py` is the job as one would run it: ConvNeXt-T, UperNet of 512 channels, 500 epochs of crops of 480 x
# 640. Before hours are spent, the dry run compiles its very step and says what it needs. On a GPU or TPU runtime the job
# then trains; on a CPU the same config is cut down to two steps, which show only that it runs.

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

# %%
import jax

import genseg

ACCELERATOR = jax.default_backend() != "cpu"
print(jax.device_count(), "x", jax.devices()[0].device_kind)

# %% [markdown]
# On a GPU runtime JAX comes with `pip install "./genseg-source[cuda]"`, on a TPU with `[tpu]`; Colab's have it already.
# The line above has to name the accelerator.
#
# ## The data
#
# Set `SOURCE` to the folder of the official archive (`ir_seg_dataset`). Without it, a handful of scenes in its layout are
# **drawn by code**, and the data set's card says that it is incomplete.

# %%
from pathlib import Path

import numpy as np
from PIL import Image

from genseg.data.sets.demo import draw_scene

SOURCE = ""
if not SOURCE:
    SOURCE = "drawn_mfnet"
    for folder in ("images", "labels"):
        Path(SOURCE, folder).mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in (("train", 8), ("val", 2), ("test", 4)):
        names = []
        for index in range(count):
            names.append(f"{number:05d}{'DN'[index % 2]}")
            image, mask = draw_scene(640, index % 2 == 1, np.random.default_rng(number))
            classes = np.where(mask == 4, 1, 0).astype(np.uint8)  # vehicles are MFNet's class 1, car
            Image.fromarray(image[:480]).save(f"{SOURCE}/images/{names[-1]}.png")  # the 4th channel is thermal
            Image.fromarray(classes[:480]).save(f"{SOURCE}/labels/{names[-1]}.png")
            number += 1
        Path(SOURCE, f"{split}.txt").write_text("\n".join(names) + "\n")
JOB = {"data.source": SOURCE, "data.data_dir": "data", "data.allow_incomplete": SOURCE == "drawn_mfnet"}
config = genseg.load_config("segment_mfnet", JOB)

# %% [markdown]
# ## The dry run
#
# It reads one batch, compiles the training step for the devices at hand and describes it: schedule, parameters, learning
# rates by layer, memory, FLOPs, what is exchanged between devices. From the command line:
# `genseg dry-run --config=segment_mfnet --config.data.source=...`; with `--topology=v5e:4x4` it compiles for a TPU slice that
# is not there (pip install libtpu).

# %%
from genseg.dry_run import run as dry_run

said = dry_run.dry_run(config)
print("\n\n".join(part for part in said.split("\n\n") if not part.startswith(("config:", "optimizer groups"))))

# %% [markdown]
# On a GPU compare the total with the card's memory; too much is answered by `train.accumulation=2` (microbatches) or
# `model.remat=True`. Then the time: the FLOPs of a step times the steps, over what the chip does in a second.

# %%
steps = config.train.epochs * 784 / config.train.batch_size
print(f"the whole job: {steps:,.0f} steps")

# %% [markdown]
# ## Train
#
# On the accelerator the first 200 steps of the job (leave `train.steps` away for all of it; the same call goes on after an
# interruption). On a CPU two steps of smaller crops.

# %%
if ACCELERATOR:
    changes = {
        "train.epochs": 0.0,
        "train.steps": 200,
        "train.warmup_epochs": 0.0,
        "train.warmup_steps": 20,
        "model.dtype": "bfloat16",
    }
else:
    changes = {
        "train.epochs": 0.0, "train.steps": 2, "train.warmup_epochs": 0.0, "train.warmup_steps": 1, "train.batch_size": 2,
        "augment.size": (96, 128), "model.head_channels": 64, "model.aux_channels": 32, "eval.batch_size": 1,
        "report.log_every": 1, "report.panels": 1,
    }  # fmt: skip
result = genseg.finetune(genseg.load_config("segment_mfnet", JOB | changes), "runs/mfnet")
print(result["protocol"])
print("notes:", *result["notes"], sep="\n  ")
print(f"{result['step']} steps on {result['devices']}, {result['parameters'] / 1e6:.1f} M parameters")

# %% [markdown]
# ## What is left behind
#
# Everything is in the workdir; it can be copied elsewhere and gone on with.

# %%
for path in sorted(Path("runs/mfnet").rglob("*")):
    if path.is_file() and "checkpoints" not in path.parts:
        print(f"{path.relative_to('runs/mfnet')!s:<40}{path.stat().st_size:>10,} bytes")
