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
# # 03 Weights of timm and Hugging Face in, fine-tune, out again
#
# A file of timm's weights becomes the backbone of a four-band segmentation network, is fine-tuned, and goes out as a model
# that transformers reads. About three minutes on two CPU cores.

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
# ## A checkpoint
#
# With `HUB = True` timm's ImageNet weights of ConvNeXt-T are fetched (114 MB, `pip install huggingface_hub`; a GPU is
# better then). Without, a small one is made on the spot: a network that is pre-trained for a minute on **drawn** pictures
# and written as timm writes its own. Scores show that the chain works, not how good the weights are.

# %%
import json
from pathlib import Path

import genseg
from genseg.exchange.__main__ import main as exchange

HUB = False
DATA = {"data.data_dir": "data"}
if HUB:
    from huggingface_hub import hf_hub_download

    BACKBONE = "convnext_tiny"
    WEIGHTS = hf_hub_download("timm/convnext_tiny.fb_in1k", "model.safetensors")
else:
    BACKBONE = "convnext_micro"
    short = {"train.epochs": 2.0, "train.warmup_epochs": 0.2, "eval.orders": ("fixed",)}
    genseg.pretrain(genseg.load_config("demo_pretrain:objective=rgb,channels=3", DATA | short), "runs/rgb")
    assert exchange(["export", "--checkpoint=runs/rgb", "--format=timm", "--output=someone/timm"]) == 0
    WEIGHTS = "someone/timm/model.safetensors"

# %%
from safetensors.numpy import load_file

foreign = load_file(WEIGHTS)
print(len(foreign), "tensors in", WEIGHTS)
for name in [*sorted(foreign)[:3], "stem.0.weight"]:
    print(f"  {name:<40} {foreign[name].shape}")

# %% [markdown]
# ## In
#
# The file has three bands, the network four: `--stem=repeat` says how the stem is made to fit, by repeating the bands' weights and
# scaling them so that responses keep their size ([models](../models.md)). Nothing is left out silently: what the file
# lacks, or has too many of, is listed.

# %%
assert exchange(
    [
        "import", f"--input={WEIGHTS}", f"--backbone={BACKBONE}", "--channels=4", "--stem=repeat", "--output=runs/imported",
    ]
) == 0  # fmt: skip

# %% [markdown]
# ## Fine-tune
#
# `runs/imported` is a start like any pre-training run.

# %%
changes = {"model.backbone": BACKBONE, "train.steps": 150}
result = genseg.finetune(genseg.load_config("demo_segment", DATA | changes), "runs/segment", start="runs/imported")
print({name: round(value, 3) for name, value in result["scores"].items() if name in ("miou", "mf1", "oa")})

# %% [markdown]
# ## Out again
#
# As Hugging Face's `UperNetForSemanticSegmentation`, with config, preprocessor config and model card; `timm`, `mmseg`,
# StableHLO and ONNX work alike (`genseg exchange export --help`).

# %%
assert exchange(["export", "--checkpoint=runs/segment", "--format=huggingface", "--output=out"]) == 0
for path in sorted(Path("out").iterdir()):
    print(f"{path.name:<26}{path.stat().st_size:>10,} bytes")
written = json.loads(Path("out/config.json").read_text())
print(
    written["architectures"], "with", written["backbone_config"]["num_channels"], "bands, classes", written["id2label"]
)

# %% [markdown]
# And back: a genseg checkpoint made of the exported file has the same weights.

# %%
assert exchange(
    ["import", "--input=out", f"--backbone={BACKBONE}", "--task=segmenter", "--output=runs/back"]
) == 0  # fmt: skip

# %%
import jax
import numpy as np

from genseg import checkpoints

first, back = (checkpoints.load_weights(run, ema=False, best=False) for run in ("runs/segment", "runs/back"))
same = jax.tree.map(np.array_equal, first.params, back.params)
print(f"{sum(jax.tree.leaves(same))} of {len(jax.tree.leaves(same))} parameters are the same to the bit")

# %% [markdown]
# Where transformers is installed, it reads the folder and gives the same scores:

# %%
if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
    import torch
    from transformers import UperNetForSemanticSegmentation

    model = UperNetForSemanticSegmentation.from_pretrained("out").eval()
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 4)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).logits.numpy()
    print("transformers reads it:", theirs.shape)
else:
    print("transformers is not installed here")
