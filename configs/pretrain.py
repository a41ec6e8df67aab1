"""ImageNet-1K pre-training, 300 epochs, at the published recipes of ConvNeXt and Swin: CSP for any n, or RGB.

Lab note
  method    Channel Shuffling Pre-training: Fang et al. 2026, arXiv 2604.27704; `objective=rgb` is its baseline "IM-RGB".
            The paper says 300 epochs of ImageNet-1K and no more of its settings; these are the backbones' own:
  sources   ConvNeXt: facebookresearch/ConvNeXt main.py, TRAINING.md (Liu et al. 2022, arXiv 2201.03545, table 5);
            Swin: microsoft/Swin-Transformer config.py, configs/swin/*.yaml (Liu et al. 2021, arXiv 2103.14030, A2.1);
            their values: genseg/recipes/imagenet.py
  expected  top-1 on the 50,000 validation images at 224, RGB: ConvNeXt T 82.1, S 83.1, B 83.8 (averaged weights);
            Swin T 81.2, S 83.2, B 83.5 (published; nobody has run this file to its end yet).
            CSP: 1.4 to 3.8 points less (paper, tiny backbones)
  steps     ConvNeXt: 93,835 of 4096 images; Swin: 375,341 of 1024 (published: 93,600 and 375,300; those drop the last
            part of a batch in every epoch, here batches cross epochs and nothing is dropped)
  differs   bfloat16 computation with float32 weights, norms, softmax, logits and loss (ConvNeXt: float32; Swin: fp16 AMP;
            `--config.model.dtype=float32` for all float32); mixup pairs neighbours instead of mirrored positions
  cost      computed: 6 x 4.456 GMAC x 1.2812e6 images x 300 = 1.03e19 FLOP for ConvNeXt-T (Swin-T 1.04e19). TPU v5e: about
            134 chip-hours (docs/pods.md: predicted from the compiler's cycles, 11 % of the peak); H100 SXM (989 TFLOP/s): 14
            GPU-hours at an assumed 20 % of the bfloat16 peak. Neither was measured
  commands  python -m genseg.data.prepare imagenet2012 --source ARCHIVES --data_dir DATA
            python -m genseg.main --config=configs/pretrain.py --workdir=runs/imagenet-csp4 --config.data.data_dir=DATA
            python -m genseg.main --config=configs/pretrain.py:swin_tiny,channels=5 --workdir=runs/swin-csp5 ...
            python -m genseg.main --config=configs/pretrain.py:objective=rgb,channels=3 --workdir=runs/rgb ...
            one backbone for 3, 4 and 5 channels, at the cost of one run:
            python -m genseg.main --config=configs/pretrain.py:channels=(3,4,5) --workdir=runs/universal ...
            the same recipe on one GPU, its batch of 4096 in microbatches of 256 (or less, if that does not fit):
            ... --config.train.accumulation=16 --config.eval.batch_size=256
            another batch, with the learning rates scaled by a named rule, in microbatches that fit the memory:
            ... --config.train.batch_size=1024 --config.train.accumulation=4 --config.optim.scaling=linear
            from the smaller copy (prepared with --short_side 320), which costs the host a third less and is not quite the
            published recipe: ... --config.data.short_side=320
            plan, memory, FLOPs and collectives without training: ... --mode=dry_run
            channel orders of a finished run: ... --mode=eval
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import imagenet, pretrain


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "BACKBONE,channels=N,objective=csp|rgb"; defaults convnext_tiny, 4 and csp."""
    chosen = options(arguments, backbone="convnext_tiny", channels=4, objective="csp")
    return pretrain.config(
        imagenet.published(chosen["backbone"]),
        csp=dict(objective=chosen["objective"], channels=chosen["channels"]),
    )
