"""What each term beside or in place of cross-entropy does to borders and to mIoU, on CSP networks, on NAIP with 1,000
fine-tuning steps. Written before any of its results.

Six pairs, two fine-tuning runs from each of three pre-trained networks, for cross-entropy alone ("csp") and for
"csp_boundary_f1", the term whose definition is nearest to the score that is asked about. The other six have one run each, from
network s0, as a first look; the one with the highest boundary F1 at 3 pixels among them then has the five other pairs, and its
interval is over those five alone, because the first chose it.

Primary comparison: mIoU on the test split of "csp_boundary_f1" minus "csp", six pairs: a loss for borders must not cost mIoU. What
is asked of borders is boundary F1 at 3 pixels of the same pairs. A term becomes advice if the interval of that lies above 0 and
the interval of mIoU does not lie below 0.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
CSP = {"init.stem": "exact"}


def beside(term: str) -> dict:
    return {"start": "csp", "set": CSP | {f"loss.{term}.weight": 0.5}}


def instead(term: str) -> dict:
    return {"start": "csp", "set": CSP | {"loss.cross_entropy.weight": 0.0, f"loss.{term}.weight": 1.0}}


STUDY = {
    "name": "losses",
    "pretrain": {
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "csp": {"start": "csp", "set": CSP},
        "csp_boundary_f1": beside("boundary_f1"),
        "csp_lovasz": beside("lovasz"),
        "csp_dice": beside("dice"),
        "csp_active": beside("active_boundary"),
        "csp_border_ce": instead("border_cross_entropy"),
        "csp_hard": instead("hard_pixels"),
        "csp_focal": instead("focal"),
    },
    "targets": {
        "naip_1000": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 1000}},
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp_boundary_f1", "than": "csp"},
}
