"""Is CSP the better start for images that are not RGB? At the size of a machine with two cores.

Written before any of its results. Pre-training: 100 ImageNet classes of 64 x 64 photographs (50,000 + 5,000 images) seen
at 32 pixels for 8 epochs by `convnext_micro`, three seeds for each of the two starts that are compared. Fine-tuning: two
seeds from each pre-trained network, six pairs a target.

Primary comparison, one a target: mIoU on the test split of "csp" minus "rgb", all bands fine-tuned, all labels. Everything
else in here is secondary, and said to be so in the report.
"""

SMALL = {"augment.size": 32, "augment.eval_size": 32, "train.epochs": 8.0, "eval.every": 0}

STUDY = {
    "name": "csp-small",
    # What a start is: a config file with its arguments, what is set beside it, and the seeds that are trained.
    "pretrain": {
        "rgb": {"config": "configs/small_pretrain.py:objective=rgb,channels=3", "set": SMALL, "seeds": (0, 1, 2)},
        "csp": {"config": "configs/small_pretrain.py:objective=csp,channels=4", "set": SMALL, "seeds": (0, 1, 2)},
        "universal": {
            "config": "configs/small_pretrain.py:objective=csp,channels=(3,4,5)",
            "set": SMALL,
            "seeds": (0, 1, 2),
        },
    },
    "pretrain_source": "imagenet100",  # a name; --source imagenet100=FOLDER says where it lies
    # What fine-tuning starts from: a start and the rule by which its stem is made to fit.
    "arms": {
        "none": {"start": None, "set": {}},
        "rgb": {"start": "rgb", "set": {"init.stem": "repeat"}},
        "csp": {"start": "csp", "set": {"init.stem": "exact"}},
        "universal": {"start": "universal", "set": {"init.stem": "universal"}},
    },
    "targets": {
        "naip": {"config": "configs/small_segment.py:naip", "source": "naip", "set": {"train.steps": 300}},
        "mfnet": {"config": "configs/small_segment.py:mfnet", "source": "mfnet", "set": {"train.steps": 300}},
    },
    # Of fine-tuning, from every pre-trained network; "none" takes as many as the others have pairs.
    "seeds": (0, 1),
    "primary": {"score": "miou", "better": "csp", "than": "rgb"},
}
