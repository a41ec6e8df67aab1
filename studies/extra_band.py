"""What each start makes of the extra band alone: NIR of NAIP, thermal of MFNet, no visible band. Written before any of its
results.

Here the claim of CSP is at its barest: a network that cannot lean on colour, fine-tuned on a band that ImageNet does not
have. Both stems are rewritten for one channel by the rule "mean", which keeps the response to equal bands. Pre-trained
networks are csp_small.py's, one fine-tuning run from each; steps and crops are csp_longer.py's and mfnet_longer.py's.

Primary comparison, one a target: mIoU on the test split of "csp" minus "rgb", 1,000 steps.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}

STUDY = {
    "name": "extra-band",
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
    },
    "pretrain_source": "imagenet100",
    "arms": {
        "rgb": {"start": "rgb", "set": {"init.stem": "mean"}},
        "csp": {"start": "csp", "set": {"init.stem": "mean"}},
    },
    "targets": {
        "naip_nir": {
            "config": "configs/small_segment.py:naip",
            "source": "naip",
            "set": {"train.steps": 1000, "data.only_bands": ("nir",)},
        },
        "mfnet_thermal": {
            "config": "configs/small_segment.py:mfnet",
            "source": "mfnet",
            "set": {"train.steps": 1000, "augment.size": (128, 128), "data.only_bands": ("thermal",)},
        },
    },
    "seeds": (0,),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
