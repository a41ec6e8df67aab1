"""From published RGB weights to a CSP backbone for n channels, in a tenth of the epochs of pre-training.

Lab note
  method    the network goes on learning ImageNet-1K from its published weights, head included, but sees shuffled channels
            (Fang et al. 2026, arXiv 2604.27704). The paper pre-trains from scratch; this shorter way is not in it
  stem      repeat: the n copies of R, G, B that CSP makes give, in the order the weights know, the response they gave
            before (exactly where 3 divides n)
  schedule  30 epochs, 2 of them warm-up, cosine to the published minimum. The peak is a quarter of the published rate for
            the batch: as high as fine-tuning on other inputs bears, low enough to keep what 300 epochs have learnt.
            No layer-wise decay: the first layers have most to learn again, and lower rates would be theirs
  sources   as configs/pretrain.py, which this file changes where the lines above say so. Drop path as there
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
from genseg.errors import UserError
from genseg.recipes import pretrain

# configs/pretrain.py's, whose text has the sources.
DROP_PATH = {
    "convnext_tiny": 0.1,
    "convnext_small": 0.4,
    "convnext_base": 0.5,
    "convnext_large": 0.5,
    "swin_tiny": 0.2,
    "swin_small": 0.3,
    "swin_base": 0.5,
}
CONVNEXT = dict(
    train=dict(batch_size=4096),
    optim=dict(scaling_batch=4096, learning_rate=1e-3, min_learning_rate=1e-6),
    ema=dict(decay=0.999),  # 0.9999 forgets over more steps than there are to the tenth
    eval=dict(every=3128, ema=True),  # steps: 10 epochs
    checkpoint=dict(every=313),
)
SWIN = dict(
    train=dict(batch_size=1024),
    optim=dict(  # a quarter of 5e-4 for 512 images
        scaling="linear", scaling_batch=512, learning_rate=1.25e-4, min_learning_rate=5e-6, warmup_learning_rate=5e-7,
        no_decay=(r".*/(bias|scale|relative_position_bias_table)",), clip_norm=5.0,
    ),
    eval=dict(every=12511),
    checkpoint=dict(every=1251),
)  # fmt: skip


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "BACKBONE,channels=N"; defaults convnext_tiny and 4."""
    chosen = options(arguments, backbone="convnext_tiny", channels=4)
    backbone = chosen["backbone"]
    if backbone not in DROP_PATH:
        raise UserError(f"no published recipe for '{backbone}'; there is one for {', '.join(DROP_PATH)}")
    return pretrain.config(
        SWIN if backbone.startswith("swin") else CONVNEXT,
        data=dict(name="imagenet2012", eval_split="validation"),
        augment=dict(size=224, eval_size=224),
        csp=dict(channels=chosen["channels"]),
        model=dict(backbone=backbone, drop_path=DROP_PATH[backbone], dtype="bfloat16"),
        init=dict(stem="repeat", head=True),
        train=dict(epochs=30.0, warmup_epochs=2.0),
        eval=dict(batch_size=1024),
        checkpoint=dict(keep=2),
    )
