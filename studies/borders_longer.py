"""borders.py on NAIP with 1,000 fine-tuning steps instead of 300, one run from each pre-trained network, and the terms that
act on outlines themselves first. Written before any of its results, and for csp_longer.py's reason: at 300 steps a score
says above all whether a rare class was found yet.

Primary comparison: mIoU of "csp_boundary_f1" minus "csp", 1,000 steps: a loss for borders must not cost mIoU. What is asked of
borders, boundary F1 and Boundary IoU at 1, 3 and 5 pixels, is reported for the same pairs.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
CSP = {"init.stem": "exact"}


def beside(term: str, weight: float = 0.5) -> dict:
    return {"start": "csp", "set": CSP | {f"loss.{term}.weight": weight}}


STUDY = {
    "name": "borders-longer",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        "csp": {"start": "csp", "set": CSP},
        "csp_boundary_f1": beside("boundary_f1"),
        "csp_lovasz": beside("lovasz"),
        "csp_active": beside("active_boundary"),
    },
    "targets": {
        "naip_1000": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 1000}},
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "csp_boundary_f1", "than": "csp"},
}
