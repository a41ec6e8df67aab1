"""objectives.py with 1,000 fine-tuning steps instead of 300, one run from each pre-trained network. Written before any of its
results, and for conversion_longer.py's reason: at 300 steps a score says above all whether a rare class was found yet.

Frame, switches and pre-trained networks are objectives.py's: RGB networks go on as CSP with 4 channels for a fifth of the
8 epochs, with one switch of config.csp on. The search is on NAIP's validation tiles; what leads here is no result until it
is confirmed on another target with fresh seeds.

Primary comparison: mIoU on NAIP's validation split of "mix" minus "plain", 1,000 steps.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
RGB = {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)}
CONVERT = SMALL | {
    "train.epochs": 8.0 * 0.2, "train.warmup_epochs": 0.4 * 0.2, "optim.learning_rate": 1.5e-3 / 4, "init.stem": "repeat",
    "init.head": True, "init.ema": True,
}  # fmt: skip
SWITCHES = {
    "plain": {},
    "mix": {"csp.mix": 0.3},
    "local": {"csp.local": 0.5},
    "curve": {"csp.curve": 1.0},
    "invert": {"csp.invert": 0.25},
    "drop": {"csp.drop": True},
}
START = {name: "convert_5" if name == "plain" else f"convert_5_{name}" for name in SWITCHES}

STUDY = {
    "name": "objectives-longer",
    "pretrain": {
        "rgb": RGB,
        **{
            START[name]: {
                "config": "configs/small_pretrain.py:objective=csp,channels=4",
                "set": CONVERT | switch,
                "seeds": (0, 1, 2),
                "after": "rgb",
            }
            for name, switch in SWITCHES.items()
        },
    },
    "pretrain_source": "imagenet100",
    "arms": {name: {"start": START[name], "set": {"init.stem": "exact"}} for name in SWITCHES},
    "targets": {
        "naip_val_1000": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 1000, "data.eval_split": "val"},
        },
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "mix", "than": "plain"},
}
