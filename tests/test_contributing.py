"""CONTRIBUTING.md: the data set that it writes out is added to a copy of genseg, prepared, and trained on."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

CONFIG = """
from genseg.recipes import segment, upernet

def get_config(arguments=""):
    return segment.config(
        upernet.published("convnext_tiny"),
        dict(model=dict(backbone="convnext_micro", head_channels=16, aux_channels=16)),
        data=dict(name="orchards"), augment=dict(size=(32, 32), scale=(1.0, 2.0)),
        train=dict(batch_size=2, epochs=0.0, steps=2, warmup_epochs=0.0), eval=dict(batch_size=2, crop=(32, 32), stride=(32, 32)),
    )
"""


BATCH = """
from genseg import inputs, partition
from genseg.config import load_file
config = load_file("orchards.py").unlock()
config.data.source, config.data.data_dir = "raw", "data"
opened = inputs.open_inputs(config)
batch = opened.first_batch(partition.make_mesh(-1, 1))
print(opened.card.describe(), batch["image"].shape, sorted(set(batch["label"].ravel().tolist())))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """genseg with what the text lists added to it, and raw files of the data set."""
    root = tmp_path_factory.mktemp("contributing")
    shutil.copytree(tiny.ROOT / "genseg", root / "genseg", ignore=shutil.ignore_patterns("__pycache__"))
    text = (tiny.ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["genseg/data/sets/orchards.py", "genseg/data/__init__.py"]
    for name, code in blocks:
        with (root / name).open("a") as file:
            file.write(code)
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / "raw" / split / kind).mkdir(parents=True)
        for i in range(count):
            mask = rng.integers(0, 2, (40, 40), np.uint8)
            image = np.dstack([rng.integers(0, 255, (40, 40, 3), np.uint8), 200 * mask])
            Image.fromarray(image, "RGBA").save(root / "raw" / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / "raw" / split / "masks" / f"{i}.png")
    (root / "orchards.py").write_text(CONFIG)
    return root


def run(copy, *command):
    alone = {"XLA_FLAGS": "", "XDG_CACHE_HOME": str(copy / "cache"), "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, capture_output=True, text=True, env=os.environ | alone
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_data_set_is_added_by_what_the_text_lists(copy):
    said = run(copy, "-m", "genseg.data.prepare", "orchards", "--source", "raw", "--data_dir", "data")
    assert "nir" in said and "Orchards, mIoU over 2 classes" in said
    said = run(copy, "-c", BATCH)
    assert "(2, 32, 32, 4)" in said and "[0, 1]" in said


@pytest.mark.slow
def test_it_is_trained_on(copy):
    run(copy, "-m", "genseg.main", "--config=orchards.py", "--workdir=run", "--config.data.source=raw")
    result = json.loads((copy / "run" / "result.json").read_text())
    assert result["data"] == "orchards" and result["step"] == 2 and 0 <= result["scores"]["miou"] <= 1
