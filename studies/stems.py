"""Every way from an RGB stem to four bands, on NAIP: the stem rules, and a learned 1 x 1 convolution of the bands to three
channels before the RGB network ("project", after LC-Net). Written before any of its results.

1,000 steps, one run from each of csp_small.py's RGB networks; csp_longer.py's pairs took "repeat".

Primary comparison: mIoU on the test split of "project" minus "repeat".
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
RULES = ("repeat", "mean", "zero", "random")

STUDY = {
    "name": "stems",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "project": {"start": "rgb", "set": {"init.stem": "exact", "model.project": 3}},
        **{rule: {"start": "rgb", "set": {"init.stem": rule}} for rule in RULES},
    },
    "targets": {
        "naip_stems": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 1000}},
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "project", "than": "repeat"},
}
