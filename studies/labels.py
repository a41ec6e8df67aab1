"""CSP against RGB on NAIP with fewer labels, and with a frozen backbone under a linear head. Written before any of its results.

A start should matter most where fine-tuning can change least: 25 and 5 % of the 67 training tiles (16 and 3 tiles, the same for
every seed), and no change to the backbone at all. 1,000 steps, one run from each of csp_small.py's pre-trained networks; the
partners with all labels and everything fine-tuned are csp_longer.py's.

Primary comparison, one a target: mIoU on the test split of "csp" minus "rgb".
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}

STUDY = {
    "name": "labels",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        "csp": {"start": "csp", "set": {"init.stem": "exact"}},
    },
    "targets": {
        "naip_25": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 1000, "data.train_share": 0.25},
        },
        "naip_5": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 1000, "data.train_share": 0.05},
        },
        "naip_linear": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 1000, "model.freeze": "backbone", "model.head": "linear", "loss.aux_weight": 0.0},
        },
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
