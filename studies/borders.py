"""Are borders of CSP networks blurred, and does a loss mend it? Written before any of its results.

Starts and targets are those of csp_small.py, so that its pre-trained networks serve here too. "rgb" against "csp" at equal
heads says what of the blur is CSP's: that of logits at stride 4 is in both. Each further arm is "csp" with one term beside
cross-entropy, or in its place.

Primary comparison, one a target: mIoU of "csp_boundary_f1" minus "csp": a loss for borders must not cost mIoU. What is asked
of borders, boundary F1 and Boundary IoU at 1, 3 and 5 pixels, is reported for the same pairs, over pairs alone. All else is
secondary.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
CSP = {"init.stem": "exact"}


def beside(term: str, weight: float = 0.5) -> dict:
    return {"start": "csp", "set": CSP | {f"loss.{term}.weight": weight}}


STUDY = {
    "name": "borders",
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
        "csp_dice": beside("dice"),
        "csp_active": beside("active_boundary"),
        "csp_border_ce": {
            "start": "csp",
            "set": CSP | {"loss.cross_entropy.weight": 0.0, "loss.border_cross_entropy.weight": 1.0},
        },
        "csp_hard": {"start": "csp", "set": CSP | {"loss.cross_entropy.weight": 0.0, "loss.hard_pixels.weight": 1.0}},
        "csp_focal": {"start": "csp", "set": CSP | {"loss.cross_entropy.weight": 0.0, "loss.focal.weight": 1.0}},
    },
    "targets": {
        "naip": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 300}},
        "mfnet": {"config": "configs/small_segment.py:mfnet", "source": "mfnet", "set": {"train.steps": 300}},
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp_boundary_f1", "than": "csp"},
}
