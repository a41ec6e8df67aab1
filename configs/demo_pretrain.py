"""`make demo`, first half: CSP or RGB pre-training of a small ConvNeXt on photographs drawn by code.

Lab note
  data      demo_classification: SYNTHETIC, 8 classes; colour tempts in training and misleads in validation
  network   convnext_micro (1.9 M parameters)
  cost      about a minute on 2 CPU cores
  command   python -m genseg.main --config=configs/demo_pretrain.py:objective=csp,channels=4 --workdir=demo/csp
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import pretrain


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "objective=csp|rgb,channels=N" or "channels=(3,4,5)" for all of these at once; defaults csp and 4."""
    chosen = options(arguments, objective="csp", channels=4)
    return pretrain.config(
        data=dict(name="demo_classification", threads=1),
        augment=dict(
            size=32, eval_size=32, scale=(0.5, 1.0), interpolation="area", eval_crop_share=1.0,
            vertical_flip=0.5, rand_augment=dict(layers=0),
        ),
        csp=chosen,
        model=dict(backbone="convnext_micro"),
        mixing=dict(mixup=0.0, cutmix=0.0, prob=0.0, group=16),
        erasing=dict(prob=0.0),
        train=dict(batch_size=64, epochs=6.0, warmup_epochs=0.5),
        optim=dict(learning_rate=2e-3, min_learning_rate=1e-5, clip_norm=5.0),
        eval=dict(batch_size=200),
    )  # fmt: skip
