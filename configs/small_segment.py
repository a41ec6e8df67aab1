"""Fine-tuning on a small n-band data set on a laptop's CPU: `naip` (R, G, B, NIR) or `mfnet` (RGBA file = RGB + thermal).

Lab note
  data      naip: 67 + 23 + 17 aerial tiles of 256 x 256, 6 classes; mfnet: 48 + 8 + 8 images of 480 x 640, 9 classes,
            NOT the official split
  network   UperNet with narrow heads on convnext_micro
  expected  mIoU on the test split, seed 0, from CSP / RGB / scratch: naip 68.4 / 69.4 / 66.9; mfnet 16.6 / 16.3 / 16.6, of
            which only the background and people are above 0 (docs/small-runs.md)
  cost      naip 4 minutes, mfnet 15, on one core of a machine with other work
  commands  python -m genseg.main --config=configs/small_segment.py:naip --workdir=runs/naip-csp4 \\
                --config.data.source=DIR --config.init.checkpoint=runs/csp4
            (from RGB: --config.init.checkpoint=runs/rgb --config.init.stem=repeat; from scratch: no checkpoint)
"""

from ml_collections import ConfigDict

from genseg.errors import UserError
from genseg.recipes import segment

NAIP = {
    "image_pattern": "{split}/img/tile_{id}.tif",
    "mask_pattern": "{split}/mask/mask_{id}.tif",
    "bands": ("red", "green", "blue", "nir"),
    "classes": ("background", "building", "road", "bare land", "forest", "water"),
    "palette": ((128, 128, 128), (220, 40, 40), (240, 200, 60), (170, 120, 70), (20, 120, 40), (40, 90, 220)),
    "protocol": "mIoU over 6 classes including background, whole tiles of the split, single scale",
}
MFNET = {
    "image_pattern": "images/{id}.png",
    "mask_pattern": "labels/{id}.png",
    "split_lists": {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
    "bands": ("red", "green", "blue", "thermal"),
    "classes": (
        "unlabelled",
        "car",
        "person",
        "bike",
        "curve",
        "car stop",
        "guardrail",
        "colour cone",
        "bump",
    ),  # fmt: skip
    "palette": (
        (0, 0, 0),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
        (0, 0, 192),
        (128, 128, 0),
        (64, 64, 128),
        (192, 128, 128),
        (192, 64, 0),
    ),  # fmt: skip
    "protocol": "mIoU over 9 classes including unlabelled, whole images of an unofficial split, single scale",
}
DATA = {"naip": NAIP, "mfnet": MFNET}
CROP = {"naip": (128, 128), "mfnet": (192, 256)}
STEPS = {"naip": 500, "mfnet": 600}


def get_config(name: str = "naip") -> ConfigDict:
    """name: "naip" or "mfnet"."""
    if name not in DATA:
        raise UserError(f"'{name}' after the config's colon; known are {', '.join(DATA)}")
    nadir = name == "naip"  # images taken from straight above have no up
    return segment.config(
        data=dict(
            DATA[name], name="folder_segmentation", splits=("train", "val", "test"), eval_split="test", threads=1
        ),
        augment=dict(size=CROP[name], cat_max_ratio=0.95, vertical_flip=0.5 if nadir else 0.0, turns=nadir),
        # published: a head of 512, which takes 90 % of the time
        model=dict(backbone="convnext_micro", drop_path=0.1, head_channels=64, aux_channels=32),
        init=dict(ema=True),
        train=dict(batch_size=8, steps=STEPS[name], warmup_steps=50),
        # the rate was chosen on naip's val split among 1e-3 and 3e-3
        optim=dict(learning_rate=3e-3, warmup_learning_rate=5e-7, schedule="poly", layer_decay=0.9),
        eval=dict(batch_size=4, crop=CROP[name], stride=tuple(2 * side // 3 for side in CROP[name])),
        report=dict(log_every=25, panels=4),
    )
