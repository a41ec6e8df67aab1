"""Fine-tuning on a small n-band data set on a laptop's CPU: `naip` (R, G, B, NIR) or `mfnet` (RGBA file = RGB + thermal).

Lab note
  data      naip: 67 + 23 + 17 aerial tiles of 256 x 256, 6 classes; mfnet: 48 + 8 + 8 images of 480 x 640, 9 classes,
            NOT the official split
  network   UperNet with narrow heads on convnext_micro
  expected  mIoU on the test split, seed 0, from CSP / RGB / scratch: naip 68.4 / 69.4 / 66.9; mfnet 16.6 / 16.3 / 16.6, of
            which only the background and people are above 0 (docs/small-runs.md)
  cost      naip 4 minutes, mfnet 15, on one core of a machine with other work
  commands  python -m genseg.main --config=configs/small_segment.py:naip --workdir=runs/naip-csp4 \\
                --config.data.source=DIR --config.init.checkpoint=runs/csp4
            (from RGB: --config.init.checkpoint=runs/rgb --config.init.stem=repeat; from scratch: no checkpoint)
"""

from ml_collections import ConfigDict

NAIP = {
    "image_pattern": "{split}/img/tile_{id}.tif",
    "mask_pattern": "{split}/mask/mask_{id}.tif",
    "splits": ("train", "val", "test"),
    "split_lists": {},
    "bands": ("red", "green", "blue", "nir"),
    "classes": ("background", "building", "road", "bare land", "forest", "water"),
    "palette": ((128, 128, 128), (220, 40, 40), (240, 200, 60), (170, 120, 70), (20, 120, 40), (40, 90, 220)),
    "protocol": "mIoU over 6 classes including background, whole tiles of the split, single scale",
}
MFNET = {
    "image_pattern": "images/{id}.png",
    "mask_pattern": "labels/{id}.png",
    "splits": ("train", "val", "test"),
    "split_lists": {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
    "bands": ("red", "green", "blue", "thermal"),
    "classes": (
        "unlabelled",
        "car",
        "person",
        "bike",
        "curve",
        "car stop",
        "guardrail",
        "colour cone",
        "bump",
    ),  # fmt: skip
    "palette": (
        (0, 0, 0),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
        (0, 0, 192),
        (128, 128, 0),
        (64, 64, 128),
        (192, 128, 128),
        (192, 64, 0),
    ),  # fmt: skip
    "protocol": "mIoU over 9 classes including unlabelled, whole images of an unofficial split, single scale",
}
DATA = {"naip": NAIP, "mfnet": MFNET}
CROP = {"naip": (128, 128), "mfnet": (192, 256)}
STEPS = {"naip": 500, "mfnet": 600}


def get_config(name: str = "naip") -> ConfigDict:
    """name: "naip" or "mfnet"."""
    if name not in DATA:
        raise KeyError(f"'{name}' after the config's colon; known are {', '.join(DATA)}")

    config = ConfigDict()
    config.task = "segment"
    config.seed = 0

    config.data = ConfigDict(DATA[name])
    config.data.name = "folder_segmentation"
    config.data.source = ""  # the data set's folder
    config.data.data_dir = ""  # prepared records; "" = the user's cache folder
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.ignore_label = 255
    config.data.scored = ()  # all
    config.data.split_blocks = {}
    config.data.class_table = ""
    config.data.mask_colours = False
    config.data.patch = 0  # whole images
    config.data.stride = 0
    config.data.skip_corrupt = 0
    config.data.threads = 1
    config.data.workers = 0

    config.augment = ConfigDict()
    config.augment.size = CROP[name]
    config.augment.scale = (0.5, 2.0)
    config.augment.cat_max_ratio = 0.95
    config.augment.horizontal_flip = 0.5
    config.augment.vertical_flip = 0.5 if name == "naip" else 0.0
    config.augment.turns = name == "naip"  # nadir images have no up
    config.augment.photometric = False
    config.augment.eval_multiple = 32

    config.model = ConfigDict()
    config.model.backbone = "convnext_micro"
    config.model.drop_path = 0.1
    config.model.dtype = "float32"
    config.model.remat = False
    config.model.head_channels = 64  # published: 512, which takes 90 % of the time
    config.model.aux_channels = 32
    config.model.dropout = 0.1

    config.init = ConfigDict()
    config.init.checkpoint = ""  # a pre-training workdir; "" = from scratch
    config.init.ema = True
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
    config.train.steps = STEPS[name]
    config.train.warmup_epochs = 0.0
    config.train.warmup_steps = 50
    config.train.accumulation = 1

    config.optim = ConfigDict()
    config.optim.scaling = "none"
    config.optim.scaling_batch = 0
    config.optim.learning_rate = 3e-3  # chosen on naip's val split among 1e-3 and 3e-3
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
    config.eval.batch_size = 4
    config.eval.ema = False
    config.eval.mode = "whole"  # or "slide": windows of `crop` every `stride` pixels, (height, width)
    config.eval.crop = CROP[name]
    config.eval.stride = tuple(2 * side // 3 for side in CROP[name])
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
