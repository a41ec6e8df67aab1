"""PST900 with UperNet: 4 kinds of objects in a tunnel, in RGB + thermal.

Lab note
  data      597 + 288 images of 720 x 1280, 4 bands (thermal: 8 bits with a gain of its own in each image)
  recipe    500 epochs of 597 images in batches of 8, warm-up of 10 epochs, poly decay of power 0.9, random scale 0.5
            .. 1.75, horizontal flip, whole images: Sigma (zifuwan/Sigma configs/config_PST900.py), whose six scales
            are a range here. Crops of 736 x 1280 hold a whole image with 16 rows of padding, since ConvNeXt wants
            multiples of 32. Rates, decay, drop path: each backbone's own UperNet recipe on ADE20K, see
            genseg/recipes/upernet.py. No UperNet recipe for this data is published. Bands are normalised with the statistics of the training split
            Losses of others on this data: Sigma plain cross-entropy (as here); EAEFNet 0.4 Dice + 0.5 smoothed
            cross-entropy; LASNet ENet's class weights; PSTNet's are computed over training and test labels
            The CSP paper's own fine-tuning settings (steps, batch, rates, crop, loss) are not known: nothing here is
            theirs.
  protocol  test, whole images with labels at full size, single scale, no flip, mIoU over 5 classes with background.
            There is no validation split, and no choice is made on test: the score is that of the last step
  published CSP 84.22. On test: PSTNet 68.4, EGFNet 78.5, MTANet 78.6, GEBNet 81.2, EAEFNet 85.6 (at 480 x 640), CRM
            Swin-T 85.9, CACFNet 86.6, DPLNet 86.7, Sigma-T 88.6
  expected  not measured here
  cost      computed, not measured: 501 GMAC an image forward (839 with config.model.fusion=resized, as published),
            9.0e17 FLOP in all (3 x forward): 2 hours on one A100 at an assumed 40 % of its bfloat16 peak
  commands  CONFIG="--config=configs/segment_pst900.py --config.data.source=PST900 --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare pst900 --source PST900 --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/pst900-csp --config.init.checkpoint=runs/imagenet-csp4
            from RGB      python -m genseg.main $CONFIG --workdir=runs/pst900-rgb --config.init.checkpoint=runs/rgb \\
                              --config.init.stem=repeat
            from scratch  python -m genseg.main $CONFIG --workdir=runs/pst900-scratch
            evaluate      the command of a finished run again: nothing is trained, its scores are computed anew
            predict       python -m genseg.predict --checkpoint=runs/pst900-csp --out=predictions FILES...
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="pst900", eval_split="test"),
        augment=dict(size=(736, 1280), scale=(0.5, 1.75)),
        train=dict(batch_size=8, epochs=500.0, warmup_epochs=10.0),
        optim=dict(power=0.9),
        eval=dict(batch_size=8, crop=(736, 1280), stride=(490, 853)),
        checkpoint=dict(every=2000),
        report=dict(panels=6),
    )
