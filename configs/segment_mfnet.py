"""MFNet with UperNet: 9 classes of street scenes in RGB + thermal, by day and by night.

Lab note
  data      784 + 392 + 393 images of 480 x 640, 4 bands. `:protocol=foreground` leaves unlabelled out of the mean,
            `:protocol=crm` counts a class that is absent from truth and prediction as 0
  recipe    500 epochs of 784 images in batches of 8, warm-up of 10 epochs, poly decay of power 0.9, random scale 0.5
            .. 1.75, crops of 480 x 640, horizontal flip: CMX and Sigma (huaaaliu/RGBX_Semantic_Segmentation,
            zifuwan/Sigma); their six scales are a range here, and Sigma trains on train + val. Rates, decay, drop
            path: each backbone's own UperNet recipe on ADE20K, see genseg/recipes/upernet.py; Swin's are also
            CMX's. No UperNet recipe for this data is published. Bands are normalised with the statistics of the training split
            Losses of others on this data: RTFNet, CMX, CMNeXt, Sigma plain cross-entropy (as here); EAEFNet 0.5 Dice + 0.5
            cross-entropy with smoothing 0.1; LASNet, GMNet cross-entropy with ENet's class weights + Lovasz + auxiliary
            The CSP paper's own fine-tuning settings (steps, batch, rates, crop, loss) are not known: nothing here is
            theirs.
  protocol  test, whole images, single scale, no flip, mIoU over 9 classes with unlabelled, one confusion matrix; by
            day and by night beside it. No choice is made on test: the score is that of the last step. To watch
            training, use --config.data.eval_split=val --config.eval.every=4900, then score test once:
            python -m genseg.score --checkpoint=runs/mfnet-csp --best --out=scores --split=test --prepared=DATA/mfnet-...
            (the folder that genseg.data.prepare prints)
  published CSP 56.9. On test: RTFNet-152 53.2, EGFNet 54.8, MTANet 56.1, GEBNet 56.2, CMX-B2 58.2, EAEFNet 58.9, CRM
            Swin-T 59.1, CMX-B4 59.7, CMNeXt-B4 59.9, Sigma-T 60.2, RSGMamba 61.1; docs/datasets.md says how they
            differ
  expected  not measured here
  cost      computed, not measured: 157 GMAC an image forward (274 with config.model.fusion=resized, as published),
            3.7e17 FLOP in all (3 x forward): 0.8 hours on one A100 at an assumed 40 % of its bfloat16 peak
  commands  CONFIG="--config=configs/segment_mfnet.py --config.data.source=ir_seg_dataset --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare mfnet --source ir_seg_dataset --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/mfnet-csp --config.init.checkpoint=runs/imagenet-csp4
            from RGB      python -m genseg.main $CONFIG --workdir=runs/mfnet-rgb --config.init.checkpoint=runs/rgb \\
                              --config.init.stem=repeat
            from scratch  python -m genseg.main $CONFIG --workdir=runs/mfnet-scratch
            evaluate      the command of a finished run again: nothing is trained, its scores are computed anew
            predict       python -m genseg.predict --checkpoint=runs/mfnet-csp --out=predictions FILES...
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.recipes import segment, upernet


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,protocol=rtfnet" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", protocol="rtfnet")
    return segment.config(
        upernet.published(chosen["backbone"]),
        data=dict(name="mfnet", protocol=chosen["protocol"], eval_split="test"),
        augment=dict(size=(480, 640), scale=(0.5, 1.75)),
        train=dict(batch_size=8, epochs=500.0, warmup_epochs=10.0),
        optim=dict(power=0.9),
        eval=dict(batch_size=16, crop=(480, 640), stride=(320, 427)),
        checkpoint=dict(every=2000),
        report=dict(panels=6),
    )
