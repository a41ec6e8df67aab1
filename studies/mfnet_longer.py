"""CSP against RGB on MFNet with 1,000 fine-tuning steps instead of 300. Written before its results, after three pairs of
csp_small.py on MFNet.

After 300 steps these networks know background, cars and people alone (13 to 15 mIoU), so that the target said nothing. More
steps in the same time: crops of 128 x 128 instead of 192 x 256, as many pixels a step as on NAIP. Scores are of whole images
as before. Everything else is csp_small.py's, and its pre-trained networks are used.

Primary comparison: mIoU on the 50 test images of "csp" minus "rgb", six pairs, two from each pre-trained network.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}

STUDY = {
    "name": "mfnet-longer",
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
        "mfnet_1000": {
            "config": "configs/small_segment.py:mfnet",
            "source": "mfnet",
            "set": {"train.steps": 1000, "augment.size": (128, 128)},
        },
    },
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
