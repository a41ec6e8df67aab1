"""From published RGB weights to a CSP backbone for n channels, in a tenth of the epochs of pre-training.

Lab note
  method    the network goes on learning ImageNet-1K from its published weights, head included, but sees shuffled channels
            (Fang et al. 2026, arXiv 2604.27704). The paper pre-trains from scratch; this shorter way is not in it
  stem      repeat: the n copies of R, G, B that CSP makes give, in the order the weights know, the response they gave
            before (exactly where 3 divides n)
  schedule  30 epochs, 2 of them warm-up, cosine to the published minimum. The peak is a quarter of the published rate for
            the batch: as high as fine-tuning on other inputs bears, low enough to keep what 300 epochs have learnt.
            No layer-wise decay: the first layers have most to learn again, and lower rates would be theirs
  sources   genseg/recipes/imagenet.py, as configs/pretrain.py; this file changes it where the lines above say so
  expected  unknown at this size: nobody has run it. In small: docs/evidence.md
  cost      a tenth of configs/pretrain.py, since steps are the same: ConvNeXt-T about 13 chip-hours of TPU v5e and 16 USD,
            Swin-T about 18 and 21 (docs/pods.md: 134 and 175 chip-hours for 300 epochs, predicted from the compiler's cycles)
  commands  python -m genseg.exchange import --input convnext_tiny.safetensors --backbone convnext_tiny --output runs/rgb
            python -m genseg.main --config=configs/convert.py --workdir=runs/convert --config.data.data_dir=DATA \\
                --config.init.checkpoint=runs/rgb
            ... --config=configs/convert.py:swin_tiny,channels=5 ...; several counts: channels=(3,4,5)
            plan, memory and time without training: ... --mode=dry_run --topology=v5e:16x16
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import imagenet, pretrain


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "BACKBONE,channels=N"; defaults convnext_tiny and 4."""
    chosen = options(arguments, backbone="convnext_tiny", channels=4)
    published = imagenet.published(chosen["backbone"])
    # 0.9999, where weights are averaged, forgets over more steps than there are to the tenth.
    averaged = dict(decay=0.999) if "ema" in published else {}
    return pretrain.config(
        published,
        csp=dict(channels=chosen["channels"]),
        init=dict(stem="repeat", head=True),
        train=dict(epochs=30.0, warmup_epochs=2.0),
        optim=dict(learning_rate=published["optim"]["learning_rate"] / 4),
        ema=averaged,
    )
