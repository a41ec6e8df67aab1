"""DFC2020 with UperNet: 8 classes of land cover in all 13 bands of Sentinel-2, 10 m a pixel.

Lab note
  data      986 + 5,128 images of 256 x 256, 13 bands of 16 bits, seven regions of the world. `:split=reversed` trains on the
            larger part; bands are chosen by `--config.data.bands`, Sentinel-1's vv and vh among them
  recipe    none is published for UperNet: 20,000 steps of 16, random scale 0.5 .. 2, both flips and quarter turns (images
            have no up); rates, decay, drop path are each backbone's own UperNet recipe on ADE20K, see
            genseg/recipes/upernet.py. Bands are normalised with the statistics of the training part
  protocol  the contest's test part, whole images, single scale, no flip; average accuracy (mAcc) over 8 classes, as the
            contest ranked, and mIoU. No choice is made on test: the score is that of the last step
  published average accuracy on test: 57.5 (winner of track 1, without these training labels), 61.4 (winner of track 2, with
            them); docs/datasets.md has the sources
  expected  not measured here
  commands  CONFIG="--config=configs/segment_dfc2020.py --config.data.source=DFC2020 --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare dfc2020 --source DFC2020 --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/dfc-csp --config.init.checkpoint=runs/csp13
            from scratch  python -m genseg.main $CONFIG --workdir=runs/dfc-scratch
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,split=contest" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", split="contest")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="dfc2020", split=chosen["split"], eval_split="test"),
        augment=dict(size=(256, 256), vertical_flip=0.5, turns=True),
        train=dict(batch_size=16, steps=20_000, warmup_steps=1500),
        eval=dict(batch_size=16, crop=(256, 256), stride=(171, 171)),
        checkpoint=dict(every=2000),
        report=dict(panels=6),
    )
