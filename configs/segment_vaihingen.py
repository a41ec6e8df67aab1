"""ISPRS Vaihingen with UperNet: land cover of a small town in infrared, red, green and height, 512-pixel patches.

Lab note
  data      16 + 17 areas as patches of 512 x 512 every 512 pixels, 4 bands (height: each area's surface model, scaled).
            `:protocol=rsp`, `aerialformer` or `mmseg` takes other labels and classes, see docs/datasets.md
  recipe    mmsegmentation's setting of this data (configs/_base_/datasets/vaihingen.py): crops of 512, random scale 0.5 .. 2,
            crops with at most 75 % of one class, horizontal flip; batch of 16, 80k steps. Rates, decay, drop path: each
            backbone's own UperNet recipe on ADE20K, see genseg/recipes/upernet.py. No photometric distortion: there is no blue
  protocol  17 test areas, whole patches, single scale, no flip, eroded labels, mF1 and mIoU over 5 of 6 classes. No choice is
            made on test: the score is that of the last step
  published by GeoSeg's README at this protocol, on IR, R, G in patches of 1024 (flips at test are not said): UNetFormer mF1
            90.3, mIoU 82.5; FT-UNetFormer 91.2, 84.0
  expected  not measured here
  commands  CONFIG="--config=configs/segment_vaihingen.py --config.data.source=Vaihingen --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare vaihingen --source Vaihingen --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/vaihingen-csp --config.init.checkpoint=runs/imagenet-csp4
            from scratch  python -m genseg.main $CONFIG --workdir=runs/vaihingen-scratch
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,protocol=geoseg" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", protocol="geoseg")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="vaihingen", protocol=chosen["protocol"], eval_split="test"),
        augment=dict(size=(512, 512), cat_max_ratio=0.75),
        train=dict(batch_size=16, steps=80_000, warmup_steps=1500),
        eval=dict(batch_size=8, crop=(512, 512), stride=(341, 341)),
        checkpoint=dict(every=4000),
        report=dict(panels=6),
    )
