"""Is CSP to be had from an RGB network in a tenth to a half of the epochs? Written before any of its results.

RGB networks of csp_small.py go on as CSP with 4 channels, head kept, stem by `repeat`, at a quarter of the rate, for 1/10,
1/5 and 1/2 of the 8 epochs that CSP from scratch has. As fair in epochs as it gets for who has RGB weights already; who has
none pays for both. Runs of csp_small.py on the same folder serve here too.

Primary comparison, one a target: mIoU of "convert_5" (1/5) minus "csp" (from scratch).
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
    "name": "conversion",
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
    },
    "targets": {
        "naip": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 300}},
        "mfnet": {"config": "configs/small_segment.py:mfnet", "source": "mfnet", "set": {"train.steps": 300}},
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "convert_5", "than": "csp"},
}
