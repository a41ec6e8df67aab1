"""CSP or RGB pre-training of a small ConvNeXt on `tiny-imagenet-20` (or any folder of class folders), on a laptop's CPU.

Lab note
  data      64 x 64 photographs, 20 classes, 500 + 50 a class; a stand-in for ImageNet that shows the chain at work
  network   convnext_micro (1.9 M parameters)
  expected  top-1 of averaged weights, seed 0: CSP with 4 channels 47.6 (permuted 48.3), RGB 49.7 (permuted 27.8); chance
            is 5 (docs/small-runs.md)
  cost      22 minutes on one core (155 images a second); CSP and RGB run side by side on two
  commands  python -m genseg.main --config=configs/small_pretrain.py --workdir=runs/csp4 \\
                --config.data.source=DIR
            python -m genseg.main --config=configs/small_pretrain.py:objective=rgb,channels=3 --workdir=runs/rgb \\
                --config.data.source=DIR
"""

from ml_collections import ConfigDict

from genseg.config import options


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "objective=csp|rgb,channels=N" or "channels=(3,4,5)" for all of these at once; defaults csp and 4."""
    chosen = options(arguments, objective="csp", channels=4)

    config = ConfigDict()
    config.task = "pretrain"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "folder_classification"
    config.data.source = ""  # the folder that holds train/ and val/
    config.data.data_dir = ""  # prepared records; "" = the user's cache folder
    config.data.splits = ("train", "val")
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.skip_corrupt = 0
    config.data.threads = 1  # decoding threads; the network needs the other core more
    config.data.workers = 0

    config.augment = ConfigDict()
    config.augment.size = 64
    config.augment.eval_size = 64
    config.augment.scale = (0.5, 1.0)
    config.augment.ratio = (3 / 4, 4 / 3)
    config.augment.interpolation = "area"  # OpenCV; "bicubic" (Pillow) is what published scores use, and slower
    config.augment.horizontal_flip = 0.5
    config.augment.vertical_flip = 0.0
    config.augment.rand_augment = ConfigDict()
    config.augment.rand_augment.layers = 0  # none: it pays in long schedules only
    config.augment.rand_augment.magnitude = 9.0
    config.augment.rand_augment.magnitude_std = 0.5
    config.augment.rand_augment.prob = 0.5
    config.augment.eval_crop_share = 1.0

    config.csp = ConfigDict()
    config.csp.objective = chosen["objective"]
    config.csp.channels = chosen["channels"]
    config.csp.fill = "random"
    config.csp.per = "image"

    config.model = ConfigDict()
    config.model.backbone = "convnext_micro"
    config.model.drop_path = 0.0
    config.model.dtype = "float32"
    config.model.remat = False
    config.model.head_init_scale = 1.0

    config.init = ConfigDict()
    config.init.checkpoint = ""
    config.init.ema = False
    config.init.best = False
    config.init.stem = "exact"

    config.mixing = ConfigDict()
    config.mixing.mixup = 0.0  # mixing pays in long schedules only
    config.mixing.cutmix = 0.0
    config.mixing.prob = 0.0
    config.mixing.switch_prob = 0.5
    config.mixing.group = 16

    config.erasing = ConfigDict()
    config.erasing.prob = 0.0
    config.erasing.min_area = 0.02
    config.erasing.max_area = 1 / 3
    config.erasing.min_aspect = 0.3
    config.erasing.tries = 10

    config.loss = ConfigDict()
    config.loss.smoothing = 0.1

    config.train = ConfigDict()
    config.train.batch_size = 64
    config.train.epochs = 20.0
    config.train.steps = 0
    config.train.warmup_epochs = 1.0
    config.train.warmup_steps = 0
    config.train.accumulation = 1

    config.optim = ConfigDict()
    config.optim.scaling = "none"
    config.optim.scaling_batch = 0
    config.optim.learning_rate = 1.5e-3
    config.optim.min_learning_rate = 1e-5
    config.optim.warmup_learning_rate = 0.0
    config.optim.schedule = "cosine"
    config.optim.power = 1.0
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.no_decay = (r".*/(bias|scale|gamma)",)
    config.optim.clip_norm = 5.0
    config.optim.layer_decay = 1.0
    config.optim.layer_decay_layers = 6

    config.ema = ConfigDict()
    config.ema.decay = 0.998
    config.ema.warmup = True

    config.eval = ConfigDict()
    config.eval.every = 624  # steps; 0 = only at the end
    config.eval.batch_size = 200
    config.eval.ema = True
    config.eval.orders = ("fixed", "permuted", "reversed")
    config.eval.permutations = 1  # random orders of each image that "permuted" is averaged over

    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 312  # steps; 0 = only with evaluations
    config.checkpoint.keep = 1
    config.checkpoint.dir = ""  # another place than the workdir, such as gs://bucket/run
    config.checkpoint.on_error = "stop"  # or "continue" training when a checkpoint cannot be saved
    config.checkpoint.allow_changes = ""  # keys, separated by commas, that a run may be resumed with other values of

    config.report = ConfigDict()
    config.report.log_every = 39
    config.report.panels = 0
    return config
