"""At which learning rate does each start fine-tune best? On the validation split of NAIP alone. Written before its results.

The rate of small_segment.py (3e-3) was chosen for 500 steps without regard to the start, and two of the first three CSP runs
of csp_small.py collapsed at it. Here each of RGB and CSP takes three rates in 300 and 900 steps, pre-training seed 0, two
fine-tuning seeds; the mean of a start's two validation scores picks its rate and length for later studies. Test tiles are
not looked at.

Primary comparison: CSP at 1e-3 minus CSP at 3e-3, 300 steps.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}
STEM = {"rgb": "repeat", "csp": "exact"}


def arm(start: str, rate: float, steps: int) -> dict:
    return {"start": start, "set": {"init.stem": STEM[start], "optim.learning_rate": rate, "train.steps": steps}}


STUDY = {
    "name": "rates",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0,)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0,)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        f"{start}_{rate:.0e}_{steps}": arm(start, rate, steps)
        for steps in (300, 900)
        for rate in (3e-3, 1e-3, 3e-4)
        for start in ("csp", "rgb")
    },
    "targets": {
        "naip_val": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"data.eval_split": "val"}}
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp_1e-03_300", "than": "csp_3e-03_300"},
}
