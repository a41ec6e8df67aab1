"""CSP against RGB on NAIP with 1,000 fine-tuning steps instead of 300. Written before its results, after those of
csp_small.py on NAIP.

In csp_small.py CSP's runs ended with a lower training loss than RGB's and a far lower test mIoU, nearly all of it one rare
class: water had an IoU of 0 in three of the first four CSP runs, and 69 to 88 in RGB's. If CSP networks only come to a rare
class later, since colour does not give it away to them, then the difference goes with longer schedules. Everything but the
length is csp_small.py's, and its pre-trained networks are used.

Primary comparison: mIoU on the test split of "csp" minus "rgb", 1,000 steps.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}

STUDY = {
    "name": "csp-longer",
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
        "naip_1000": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 1000}},
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
