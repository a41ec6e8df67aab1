"""conversion.py on NAIP with 1,000 fine-tuning steps instead of 300. Written before any of its results.

csp_longer.py found that 300 steps measure above all whether a network has come to one rare class yet. So the curve of
conversion.py, from RGB weights to CSP in 1/10, 1/5 and 1/2 of the epochs, is asked for here at the length at which RGB and CSP
could not be told apart. One fine-tuning run from each pre-trained network: independent pairs before many. All else, and the
pre-trained networks, are conversion.py's.

Primary comparison: mIoU on the test split of "convert_5" (1/5) minus "csp" (from scratch), 1,000 steps.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}


def convert(share: float) -> dict:
    changed = {
        "train.epochs": 8.0 * share, "train.warmup_epochs": 0.4 * share, "optim.learning_rate": 1.5e-3 / 4,
        "init.stem": "repeat", "init.head": True, "init.ema": True,
    }  # fmt: skip
    return {
        "config": "configs/small_pretrain.py:objective=csp,channels=4",
        "set": SMALL | changed,
        "seeds": (0, 1, 2),
        "after": "rgb",
    }


STUDY = {
    "name": "conversion-longer",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
        "convert_10": convert(0.1),
        "convert_5": convert(0.2),
        "convert_2": convert(0.5),
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        "csp": {"start": "csp", "set": {"init.stem": "exact"}},
        "convert_10": {"start": "convert_10", "set": {"init.stem": "exact"}},
        "convert_5": {"start": "convert_5", "set": {"init.stem": "exact"}},
        "convert_2": {"start": "convert_2", "set": {"init.stem": "exact"}},
        "none": {"start": None, "set": {}},
    },
    "targets": {
        "naip_1000": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 1000}},
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "convert_5", "than": "csp"},
}
