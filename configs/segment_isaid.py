"""iSAID with UperNet: 16 classes in aerial RGB images, 896-pixel patches of DOTA scenes.

Lab note
  data      33,978 + 11,644 patches of 896 x 896 every 512 pixels (mmsegmentation); RGB, so that CSP is only a
            permutation. `:protocol=rsp` takes the 33,620 + 11,533 patches of PFNet, RSP and RVSA (small scenes
            resized, not padded)
  recipe    80k steps of 8 images, crops of 896, warm-up of 1500 steps, poly decay of power 1: RSP's UperNet runs on
            this data (ViTAE-Transformer/RSP), the closest published protocol. Random scale 0.5 .. 2, crops with at
            most 75 % of one class, horizontal flip, photometric distortion: mmsegmentation's
            configs/_base_/datasets/isaid.py, which RSP's config has too. Rates, decay, drop path: each backbone's own
            UperNet recipe on ADE20K, see genseg/recipes/upernet.py. Images are normalised with the statistics of the
            training split, not of ImageNet.
            Losses of others on this data: RSP, RVSA, mmsegmentation plain cross-entropy, auxiliary head x 0.4 (as here);
            PFNet hard pixels (OHEM), edges x 25, auxiliary x 0.4, classes drawn evenly for half of the crops
            The CSP paper's own fine-tuning settings (steps, batch, rates, crop, loss) are not known: nothing here is
            theirs.
  protocol  val, whole patches, single scale, no flip, mIoU over 16 classes with background. RSP's and RVSA's numbers
            were taken with flips: add --config.eval.flip=True to compare with those. No choice is made on val: the
            score is that of the last step
  published CSP 67.4 (backbone and patches not known). UperNet at RSP's protocol: RSP Swin-T 64.1, ViTAEv2-S 64.3,
            RVSA ViTAE-B 64.5; mmsegmentation's: FCN-HR48 67.8, DeepLabV3+-R50 67.1. More in docs/datasets.md
  expected  not measured here
  cost      computed, not measured: 424 GMAC an image forward (715 with config.model.fusion=resized, as published),
            1.6e18 FLOP in all (3 x forward): 3.6 hours on one A100 at an assumed 40 % of its bfloat16 peak;
            one evaluation 1.0e16 FLOP
  commands  CONFIG="--config=configs/segment_isaid.py --config.data.source=iSAID --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare isaid --source iSAID --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/isaid-csp --config.init.checkpoint=runs/csp3
            from RGB      python -m genseg.main $CONFIG --workdir=runs/isaid-rgb --config.init.checkpoint=runs/rgb \\
                              --config.init.stem=repeat
            from scratch  python -m genseg.main $CONFIG --workdir=runs/isaid-scratch
            evaluate      the command of a finished run again: nothing is trained, its scores are computed anew
            predict       python -m genseg.predict --checkpoint=runs/isaid-csp --out=predictions FILES...
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,protocol=mmseg" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", protocol="mmseg")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="isaid", protocol=chosen["protocol"], eval_split="val"),  # masks of test are withheld
        augment=dict(size=(896, 896), cat_max_ratio=0.75, photometric=True),
        train=dict(batch_size=8, steps=80_000, warmup_steps=1500),
        eval=dict(every=16_000, batch_size=16, crop=(896, 896), stride=(512, 512)),
        checkpoint=dict(every=2000),
        report=dict(panels=6),
    )
