"""PST900 with UperNet: 4 kinds of objects in a tunnel, in RGB + thermal.

Lab note
  data      597 + 288 images of 720 x 1280, 4 bands (thermal: 8 bits with a gain of its own in each image)
  recipe    500 epochs of 597 images in batches of 8, warm-up of 10 epochs, poly decay of power 0.9, random scale 0.5
            .. 1.75, horizontal flip, whole images: Sigma (zifuwan/Sigma configs/config_PST900.py), whose six scales
            are a range here. Crops of 736 x 1280 hold a whole image with 16 rows of padding, since ConvNeXt wants
            multiples of 32. Rates, decay, drop path: each backbone's own UperNet recipe on ADE20K, see below. No
            UperNet recipe for this data is published. Bands are normalised with the statistics of the training split
            The CSP paper's own fine-tuning settings (steps, batch, rates, crop, loss) are not known: nothing here is
            theirs.
  protocol  test, whole images with labels at full size, single scale, no flip, mIoU over 5 classes with background.
            There is no validation split, and no choice is made on test: the score is that of the last step
  published CSP 84.22. On test: PSTNet 68.4, EGFNet 78.5, MTANet 78.6, GEBNet 81.2, EAEFNet 85.6 (at 480 x 640), CRM
            Swin-T 85.9, CACFNet 86.6, DPLNet 86.7, Sigma-T 88.6
  expected  not measured here
  cost      computed, not measured: 839 GMAC an image forward, 1.5e18 FLOP in all (3 x forward): 3.3 hours on one A100
            at an assumed 40 % of its bfloat16 peak
  commands  CONFIG="--config=configs/segment_pst900.py --config.data.source=PST900 --config.data.data_dir=DATA"
            prepare       python -m genseg.data.prepare pst900 --source PST900 --data_dir DATA
            from CSP      python -m genseg.main $CONFIG --workdir=runs/pst900-csp --config.init.checkpoint=runs/csp4
            from RGB      python -m genseg.main $CONFIG --workdir=runs/pst900-rgb --config.init.checkpoint=runs/rgb \\
                              --config.init.stem=repeat
            from scratch  python -m genseg.main $CONFIG --workdir=runs/pst900-scratch
            evaluate      the command of a finished run again: nothing is trained, its scores are computed anew
            predict       python -m genseg.predict --checkpoint=runs/pst900-csp --out=predictions FILES...
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
    """arguments: "backbone=convnext_tiny" in any order; all may be left out."""
    chosen = options(arguments, backbone="convnext_tiny")
    if chosen["backbone"] not in BACKBONES:
        raise UserError(f"'{chosen['backbone']}' after the config's colon; known are {', '.join(BACKBONES)}")
    optimiser, drop_path, layers = BACKBONES[chosen["backbone"]]

    config = ConfigDict()
    config.task = "segment"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "pst900"
    config.data.source = ""  # the download; "" = the prepared copy in data_dir
    config.data.data_dir = ""  # prepared records; "" = the user's cache folder
    config.data.thermal = "thermal"
    config.data.hole = "zero"
    config.data.allow_incomplete = False
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.skip_corrupt = 0
    config.data.threads = 0  # decoding threads of each worker; 0 = one a core, or one a worker
    config.data.workers = 0  # decoding processes; 0 = threads alone

    config.augment = ConfigDict()
    config.augment.size = (736, 1280)
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
    config.eval.batch_size = 8
    config.eval.ema = False
    config.eval.mode = "whole"  # or "slide": windows of `crop` every `stride` pixels, (height, width)
    config.eval.crop = (736, 1280)
    config.eval.stride = (490, 853)
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
