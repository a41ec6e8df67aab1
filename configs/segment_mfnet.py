"""MFNet with UperNet: 9 classes of street scenes in RGB + thermal, by day and by night.

Lab note
  data      784 + 392 + 393 images of 480 x 640, 4 bands. `:protocol=foreground` leaves unlabelled out of the mean,
            `:protocol=crm` counts a class that is absent from truth and prediction as 0
  recipe    500 epochs of 784 images in batches of 8, warm-up of 10 epochs, poly decay of power 0.9, random scale 0.5
            .. 1.75, crops of 480 x 640, horizontal flip: CMX and Sigma (huaaaliu/RGBX_Semantic_Segmentation,
            zifuwan/Sigma); their six scales are a range here, and Sigma trains on train + val. Rates, decay, drop
            path: each backbone's own UperNet recipe on ADE20K, see below; Swin's are also CMX's. No UperNet recipe
            for this data is published. Bands are normalised with the statistics of the training split
            The CSP paper's own fine-tuning settings (steps, batch, rates, crop, loss) are not known: nothing here is
            theirs.
  protocol  test, whole images, single scale, no flip, mIoU over 9 classes with unlabelled, one confusion matrix; by
            day and by night beside it. No choice is made on test: the score is that of the last step. To watch
            training, use --config.data.eval_split=val --config.eval.every=4900, then evaluate on test once
  published CSP 56.9. On test: RTFNet-152 53.2, EGFNet 54.8, MTANet 56.1, GEBNet 56.2, CMX-B2 58.2, EAEFNet 58.9, CRM
            Swin-T 59.1, CMX-B4 59.7, CMNeXt-B4 59.9, Sigma-T 60.2, RSGMamba 61.1; docs/datasets.md says how they
            differ
  expected  not measured here
  cost      computed, not measured: 274 GMAC an image forward, 6.4e17 FLOP in all (3 x forward): 1.4 hours on one A100
            at an assumed 40 % of its bfloat16 peak
  commands  CONFIG="--config=configs/segment_mfnet.py --config.data.source=ir_seg_dataset --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare mfnet --source ir_seg_dataset --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/mfnet-csp --config.init.checkpoint=runs/csp4
            from RGB      python -m genseg.main $CONFIG --workdir=runs/mfnet-rgb --config.init.checkpoint=runs/rgb \\
                              --config.init.stem=repeat
            from scratch  python -m genseg.main $CONFIG --workdir=runs/mfnet-scratch
            evaluate      the command of a finished run again: nothing is trained, its scores are computed anew
            predict       python -m genseg.predict --checkpoint=runs/mfnet-csp --out=predictions FILES...
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.errors import UserError

# UperNet fine-tuning as published for each backbone, on ADE20K with crops of 512, batch 16 and 160k steps.
# facebookresearch/ConvNeXt semantic_segmentation/configs/convnext and mmcv_custom/layer_decay_optimizer_constructor.py:
CONVNEXT = {
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "no_decay": (r".*/(bias|scale|gamma)",),
    "layer_decay": 0.9,
}
# SwinTransformer/Swin-Transformer-Semantic-Segmentation configs/swin: biases of linear layers and the heads' BatchNorm
# are decayed.
SWIN = {
    "learning_rate": 6e-5,
    "weight_decay": 0.01,
    "no_decay": (r"backbone/.*norm\d?/(bias|scale)", r"norms/.*", r".*/relative_position_bias_table"),
    "layer_decay": 1.0,
}
# drop path and, for the layer-wise decay, the number of layers
BACKBONES = {
    "convnext_tiny": (CONVNEXT, 0.4, 6),
    "convnext_small": (CONVNEXT, 0.3, 12),
    "convnext_base": (CONVNEXT, 0.4, 12),
    "convnext_large": (CONVNEXT, 0.4, 12),
    "swin_tiny": (SWIN, 0.3, 12),
    "swin_small": (SWIN, 0.3, 12),
    "swin_base": (SWIN, 0.3, 12),
}


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "backbone=convnext_tiny,protocol=rtfnet" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny", protocol="rtfnet")
    if chosen["backbone"] not in BACKBONES:
        raise UserError(f"'{chosen['backbone']}' after the config's colon; known are {', '.join(BACKBONES)}")
    optimiser, drop_path, layers = BACKBONES[chosen["backbone"]]

    config = ConfigDict()
    config.task = "segment"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mfnet"
    config.data.source = ""  # the download; "" = the prepared copy in data_dir
    config.data.data_dir = ""  # prepared records; "" = the user's cache folder
    config.data.train_on = "train"  # or "train+val", as Sigma and a fork of CMX
    config.data.protocol = chosen["protocol"]
    config.data.allow_incomplete = False
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.skip_corrupt = 0
    config.data.threads = 0  # decoding threads of each worker; 0 = one a core, or one a worker
    config.data.workers = 0  # decoding processes; 0 = threads alone

    config.augment = ConfigDict()
    config.augment.size = (480, 640)
    config.augment.scale = (0.5, 1.75)
    config.augment.cat_max_ratio = 1.0
    config.augment.horizontal_flip = 0.5
    config.augment.vertical_flip = 0.0
    config.augment.turns = False
    config.augment.photometric = False
    config.augment.eval_multiple = 32

    config.model = ConfigDict()
    config.model.backbone = chosen["backbone"]
    config.model.drop_path = drop_path
    config.model.dtype = "bfloat16"  # published: ConvNeXt mixed precision, Swin float32
    config.model.remat = False  # True halves the memory of activations and costs a third more time
    config.model.head_channels = 512
    config.model.aux_channels = 256
    config.model.dropout = 0.1

    config.init = ConfigDict()
    config.init.checkpoint = ""  # a pre-training workdir; "" = from scratch
    config.init.ema = False  # ConvNeXt was fine-tuned from raw weights; for the paper it is not known
    config.init.best = False
    config.init.stem = (
        "exact"  # how a stem of other channels is made to fit: exact, universal, repeat, mean, zero, random
    )

    config.loss = ConfigDict()
    config.loss.smoothing = 0.0
    config.loss.aux_weight = 0.4

    config.train = ConfigDict()
    config.train.batch_size = 8
    config.train.epochs = 500.0
    config.train.steps = 0
    config.train.warmup_epochs = 10.0
    config.train.warmup_steps = 0
    config.train.accumulation = 1

    config.optim = ConfigDict()
    config.optim.scaling = "none"
    config.optim.scaling_batch = 0
    config.optim.learning_rate = optimiser["learning_rate"]
    config.optim.min_learning_rate = 0.0
    config.optim.warmup_learning_rate = 1e-6 * optimiser["learning_rate"]
    config.optim.schedule = "poly"
    config.optim.power = 0.9
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = optimiser["weight_decay"]
    config.optim.no_decay = optimiser["no_decay"]
    config.optim.clip_norm = 0.0
    config.optim.layer_decay = optimiser["layer_decay"]
    config.optim.layer_decay_layers = layers

    config.ema = ConfigDict()
    config.ema.decay = 0.0
    config.ema.warmup = False

    config.eval = ConfigDict()
    config.eval.every = 0  # steps; 0 = only at the end
    config.eval.batch_size = 16
    config.eval.ema = False
    config.eval.mode = "whole"  # or "slide": windows of `crop` every `stride` pixels, (height, width)
    config.eval.crop = (480, 640)
    config.eval.stride = (320, 427)
    config.eval.blend = "uniform"  # or "hann"
    config.eval.flip = False  # True also sees each image mirrored, and takes the mean
    config.eval.scales = (1.0,)  # several see each image at each scale, and take the mean

    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 2000
    config.checkpoint.keep = 1
    config.checkpoint.dir = ""  # another place than the workdir, such as gs://bucket/run
    config.checkpoint.on_error = "stop"  # or "continue" training when a checkpoint cannot be saved
    config.checkpoint.allow_changes = ""  # keys, separated by commas, that a run may be resumed with other values of

    config.report = ConfigDict()
    config.report.log_every = 50
    config.report.panels = 6  # images drawn with bands, truth and prediction
    return config
