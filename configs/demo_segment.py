"""`make demo`, second half: fine-tuning on RGB + thermal scenes drawn by code.

Lab note
  data      demo_segmentation: SYNTHETIC, 80 + 80 scenes of 64 x 64 pixels by day and night, 4 bands, 5 classes
  network   UperNet with narrow heads on convnext_micro
  cost      under a minute on 2 CPU cores
  command   python -m genseg.main --config=configs/demo_segment.py --workdir=demo/segment-csp \
                --config.init.checkpoint=demo/csp
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.task = "segment"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "demo_segmentation"
    config.data.data_dir = ""
    config.data.train_images = 80
    config.data.val_images = 80
    config.data.size = 64
    config.data.seed = 0
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.skip_corrupt = 0
    config.data.threads = 1
    config.data.workers = 0

    config.augment = ConfigDict()
    config.augment.size = (64, 64)
    config.augment.scale = (0.75, 1.5)
    config.augment.cat_max_ratio = 1.0
    config.augment.horizontal_flip = 0.5
    config.augment.vertical_flip = 0.5
    config.augment.turns = True
    config.augment.photometric = False
    config.augment.eval_multiple = 32

    config.model = ConfigDict()
    config.model.backbone = "convnext_micro"
    config.model.drop_path = 0.1
    config.model.dtype = "float32"
    config.model.remat = False
    config.model.head_channels = 32
    config.model.aux_channels = 16
    config.model.dropout = 0.1

    config.init = ConfigDict()
    config.init.checkpoint = ""  # a pre-training workdir; "" = from scratch
    config.init.ema = False
    config.init.best = False
    config.init.stem = (
        "exact"  # how a stem of other channels is made to fit: exact, universal, repeat, mean, zero, random
    )

    config.loss = ConfigDict()
    config.loss.smoothing = 0.0
    config.loss.aux_weight = 0.4

    config.train = ConfigDict()
    config.train.batch_size = 8
    config.train.epochs = 0.0
    config.train.steps = 300
    config.train.warmup_epochs = 0.0
    config.train.warmup_steps = 20
    config.train.accumulation = 1

    config.optim = ConfigDict()
    config.optim.scaling = "none"
    config.optim.scaling_batch = 0
    config.optim.learning_rate = 4e-3
    config.optim.min_learning_rate = 0.0
    config.optim.warmup_learning_rate = 5e-7
    config.optim.schedule = "poly"
    config.optim.power = 1.0
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.no_decay = (r".*/(bias|scale|gamma)",)
    config.optim.clip_norm = 0.0
    config.optim.layer_decay = 0.9
    config.optim.layer_decay_layers = 6

    config.ema = ConfigDict()
    config.ema.decay = 0.0
    config.ema.warmup = False

    config.eval = ConfigDict()
    config.eval.every = 0  # steps; 0 = only at the end
    config.eval.batch_size = 20
    config.eval.ema = False
    config.eval.mode = "whole"  # or "slide": windows of `crop` every `stride` pixels, (height, width)
    config.eval.crop = (64, 64)
    config.eval.stride = (32, 32)
    config.eval.blend = "uniform"  # or "hann"
    config.eval.flip = False  # True also sees each image mirrored, and takes the mean
    config.eval.scales = (1.0,)  # several see each image at each scale, and take the mean

    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 0
    config.checkpoint.keep = 1
    config.checkpoint.dir = ""  # another place than the workdir, such as gs://bucket/run
    config.checkpoint.on_error = "stop"  # or "continue" training when a checkpoint cannot be saved
    config.checkpoint.allow_changes = ""  # keys, separated by commas, that a run may be resumed with other values of

    config.report = ConfigDict()
    config.report.log_every = 25
    config.report.panels = 4  # test images drawn with bands, truth and prediction
    return config
