"""What of CSP's relatives is worth having? Each switch of config.csp alone, in the cheap frame. Written before its results.

The frame is "convert_5" of conversion.py: RGB networks go on as CSP with 4 channels for a fifth of the 8 epochs. Each start
here is that with one switch on, from the same RGB networks, so that a difference is the switch's. Search is on the
validation tiles of NAIP; what leads there is to be confirmed on MFNet's test images with fresh seeds, and until then is no
result.

Primary comparison: mIoU on NAIP's validation split of "mix" minus "plain".
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
    "name": "objectives",
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
    "arms": {
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        **{name: {"start": START[name], "set": {"init.stem": "exact"}} for name in SWITCHES},
    },
    "targets": {
        "naip_val": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 300, "data.eval_split": "val"},
        },
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "mix", "than": "plain"},
}
