"""LoveDA with UperNet: 7 classes of land cover in RGB aerial images, urban and rural.

Lab note
  data      2,522 + 1,669 images of 1024 x 1024, 3 bands, 0.3 m; masks of test are withheld. `:domain=urban` or `rural`
  recipe    mmsegmentation's setting of this data (configs/_base_/datasets/loveda.py): crops of 512 x 512, random scale 0.5
            .. 2, horizontal flip, batch of 16, 80,000 steps; rates, decay and drop path are each backbone's own UperNet
            recipe on ADE20K, see genseg/recipes/upernet.py. Images look straight down, so that quarter turns and a vertical
            flip would be sound too; mmsegmentation has neither
  protocol  val, whole images, single scale, no flip, mIoU over 7 classes with background; by domain beside it
  published on test, by the authors' server: FCN-8s 46.7, DeepLabV3+ 47.6, PSPNet 48.3, SegFormer 50.4, DC-Swin 50.6,
            UNetFormer 52.4. Not comparable with val
  expected  not measured here
  commands  CONFIG="--config=configs/segment_loveda.py --config.data.source=LoveDA --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare loveda --source LoveDA --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/loveda-csp --config.init.checkpoint=runs/csp3
            from scratch  python -m genseg.main $CONFIG --workdir=runs/loveda-scratch
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,domain=both" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", domain="both")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="loveda", domain=chosen["domain"]),
        augment=dict(size=(512, 512)),
        train=dict(batch_size=16, steps=80_000, warmup_steps=1500),
        eval=dict(batch_size=8, crop=(512, 512), stride=(341, 341)),
        checkpoint=dict(every=4000),
        report=dict(panels=6),
    )
