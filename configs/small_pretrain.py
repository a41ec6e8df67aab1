"""CSP or RGB pre-training of a small ConvNeXt on `tiny-imagenet-20` (or any folder of class folders), on a laptop's CPU.

Lab note
  data      64 x 64 photographs, 20 classes, 500 + 50 a class; a stand-in for ImageNet that shows the chain at work
  network   convnext_micro (1.9 M parameters)
  expected  top-1 of averaged weights, seed 0: CSP with 4 channels 47.6 (permuted 48.3), RGB 49.7 (permuted 27.8); chance
            is 5 (docs/small-runs.md)
  cost      22 minutes on one core (155 images a second); CSP and RGB run side by side on two
  commands  python -m genseg.main --config=configs/small_pretrain.py --workdir=runs/csp4 \\
                --config.data.source=DIR
            python -m genseg.main --config=configs/small_pretrain.py:objective=rgb,channels=3 --workdir=runs/rgb \\
                --config.data.source=DIR
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import pretrain


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "objective=csp|rgb,channels=N" or "channels=(3,4,5)" for all of these at once; defaults csp and 4."""
    chosen = options(arguments, objective="csp", channels=4)
    return pretrain.config(
        data=dict(name="folder_classification", threads=1),  # the network needs the other core more
        augment=dict(
            size=64, eval_size=64, scale=(0.5, 1.0), interpolation="area", eval_crop_share=1.0,
            rand_augment=dict(layers=0),  # none: it pays in long schedules only, as do mixing and erasing
        ),
        csp=chosen,
        model=dict(backbone="convnext_micro"),
        mixing=dict(mixup=0.0, cutmix=0.0, prob=0.0, group=16),
        erasing=dict(prob=0.0),
        train=dict(batch_size=64, epochs=20.0, warmup_epochs=1.0),
        optim=dict(learning_rate=1.5e-3, min_learning_rate=1e-5, clip_norm=5.0),
        ema=dict(decay=0.998, warmup=True),
        eval=dict(every=624, batch_size=200, ema=True),
        checkpoint=dict(every=312),
        report=dict(log_every=39),
    )  # fmt: skip
