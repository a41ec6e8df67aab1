"""ImageNet-1K pre-training, 300 epochs, at the published recipes of ConvNeXt and Swin: CSP for any n, or RGB.

Lab note
  method    Channel Shuffling Pre-training: Fang et al. 2026, arXiv 2604.27704; `objective=rgb` is its baseline "IM-RGB".
            The paper says 300 epochs of ImageNet-1K and no more of its settings; these are the backbones' own:
  sources   ConvNeXt: facebookresearch/ConvNeXt main.py, TRAINING.md (Liu et al. 2022, arXiv 2201.03545, table 5);
            Swin: microsoft/Swin-Transformer config.py, configs/swin/*.yaml (Liu et al. 2021, arXiv 2103.14030, A2.1)
  expected  top-1 on the 50,000 validation images at 224, RGB: ConvNeXt T 82.1, S 83.1, B 83.8 (averaged weights);
            Swin T 81.2, S 83.2, B 83.5 (published; nobody has run this file to its end yet).
            CSP: 1.4 to 3.8 points less (paper, tiny backbones)
  steps     ConvNeXt: 93,835 of 4096 images; Swin: 375,341 of 1024 (published: 93,600 and 375,300; those drop the last
            part of a batch in every epoch, here batches cross epochs and nothing is dropped)
  differs   bfloat16 computation with float32 weights, norms, softmax, logits and loss (ConvNeXt: float32; Swin: fp16 AMP;
            `--config.model.dtype=float32` for all float32); mixup pairs neighbours instead of mirrored positions
  cost      computed: 6 x 4.456 GMAC x 1.2812e6 images x 300 = 1.03e19 FLOP for ConvNeXt-T (Swin-T 1.04e19). At an
            assumed 20 % of the bfloat16 peak: TPU v5e (197 TFLOP/s) 72 chip-hours, H100 SXM (989 TFLOP/s) 14 GPU-hours
  commands  python -m genseg.data.prepare imagenet2012 --source ARCHIVES --data_dir DATA
            python -m genseg.main --config=configs/pretrain.py --workdir=runs/csp4 --config.data.data_dir=DATA
            python -m genseg.main --config=configs/pretrain.py:swin_tiny,channels=5 --workdir=runs/swin-csp5 ...
            python -m genseg.main --config=configs/pretrain.py:objective=rgb,channels=3 --workdir=runs/rgb ...
            one backbone for 3, 4 and 5 channels, at the cost of one run:
            python -m genseg.main --config=configs/pretrain.py:channels=(3,4,5) --workdir=runs/universal ...
            another batch, with the learning rates scaled by a named rule, in microbatches that fit the memory:
            ... --config.train.batch_size=1024 --config.train.accumulation=4 --config.optim.scaling=linear
            from the smaller copy (prepared with --short_side 320), which costs the host a third less and is not quite the
            published recipe: ... --config.data.short_side=320
            plan, memory, FLOPs and collectives without training: ... --mode=dry_run
            channel orders of a finished run: ... --mode=eval
"""

from ml_collections import ConfigDict

from genseg.config import options
from genseg.errors import UserError

# Drop path of the last block: ConvNeXt TRAINING.md, Swin configs/swin/swin_*_patch4_window7_224.yaml.
DROP_PATH = {
    "convnext_tiny": 0.1,
    "convnext_small": 0.4,
    "convnext_base": 0.5,
    "convnext_large": 0.5,
    "swin_tiny": 0.2,
    "swin_small": 0.3,
    "swin_base": 0.5,
}


def get_config(arguments: str = "") -> ConfigDict:
    """arguments: "BACKBONE,channels=N,objective=csp|rgb"; defaults convnext_tiny, 4 and csp."""
    chosen = options(arguments, backbone="convnext_tiny", channels=4, objective="csp")
    if chosen["backbone"] not in DROP_PATH:
        raise UserError(f"no published recipe for '{chosen['backbone']}'; there is one for {', '.join(DROP_PATH)}")
    swin = chosen["backbone"].startswith("swin")

    config = ConfigDict()
    config.task = "pretrain"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "imagenet2012"
    config.data.source = ""  # the archives, or a TFDS folder, to prepare from; "" = data_dir holds it prepared
    config.data.data_dir = ""  # prepared records; "" = the user's cache folder
    config.data.short_side = 0  # the original files, as published; 320 = the copy that decodes faster
    config.data.quality = 90
    config.data.partial = False
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.skip_corrupt = 0
    config.data.threads = 0  # decoding threads of each worker; 0 = one a core, or one a worker
    config.data.workers = 0  # decoding processes; 0 = threads alone. A host of many cores wants about one a core

    config.augment = ConfigDict()
    config.augment.size = 224
    config.augment.eval_size = 224
    config.augment.scale = (0.08, 1.0)
    config.augment.ratio = (3 / 4, 4 / 3)
    config.augment.interpolation = "bicubic"  # Pillow's, as published; "area" costs the host less
    config.augment.horizontal_flip = 0.5
    config.augment.vertical_flip = 0.0
    config.augment.rand_augment = ConfigDict()  # timm's rand-m9-mstd0.5-inc1
    config.augment.rand_augment.layers = 2
    config.augment.rand_augment.magnitude = 9.0
    config.augment.rand_augment.magnitude_std = 0.5
    config.augment.rand_augment.prob = 0.5
    config.augment.eval_crop_share = 0.875  # shorter side 256, central 224

    config.csp = ConfigDict()
    config.csp.objective = chosen["objective"]
    config.csp.channels = chosen["channels"]
    config.csp.fill = "random"
    config.csp.per = "image"

    config.model = ConfigDict()
    config.model.backbone = chosen["backbone"]
    config.model.drop_path = DROP_PATH[chosen["backbone"]]
    config.model.dtype = "bfloat16"
    config.model.remat = False
    config.model.head_init_scale = 1.0

    config.init = ConfigDict()
    config.init.checkpoint = ""
    config.init.ema = False
    config.init.best = False
    config.init.stem = "exact"

    config.mixing = ConfigDict()
    config.mixing.mixup = 0.8
    config.mixing.cutmix = 1.0
    config.mixing.prob = 1.0
    config.mixing.switch_prob = 0.5
    config.mixing.group = 128  # images that share a draw: the batch of one of the published runs' GPUs

    config.erasing = ConfigDict()
    config.erasing.prob = 0.25
    config.erasing.min_area = 0.02
    config.erasing.max_area = 1 / 3
    config.erasing.min_aspect = 0.3
    config.erasing.tries = 10

    config.loss = ConfigDict()
    config.loss.smoothing = 0.1

    config.train = ConfigDict()
    config.train.batch_size = 1024 if swin else 4096
    config.train.epochs = 300.0
    config.train.steps = 0
    config.train.warmup_epochs = 20.0
    config.train.warmup_steps = 0
    config.train.accumulation = 1

    config.optim = ConfigDict()
    if swin:  # published as rates for 512 images and multiplied by batch / 512
        config.optim.scaling = "linear"
        config.optim.scaling_batch = 512
        config.optim.learning_rate = 5e-4
        config.optim.min_learning_rate = 5e-6
        config.optim.warmup_learning_rate = 5e-7
    else:
        config.optim.scaling = "none"
        config.optim.scaling_batch = 4096
        config.optim.learning_rate = 4e-3
        config.optim.min_learning_rate = 1e-6
        config.optim.warmup_learning_rate = 0.0
    config.optim.schedule = "cosine"
    config.optim.power = 1.0
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.no_decay = (r".*/(bias|scale|relative_position_bias_table)",) if swin else (r".*/(bias|scale|gamma)",)
    config.optim.clip_norm = 5.0 if swin else 0.0
    config.optim.layer_decay = 1.0
    config.optim.layer_decay_layers = 6

    config.ema = ConfigDict()
    config.ema.decay = 0.0 if swin else 0.9999
    config.ema.warmup = False

    config.eval = ConfigDict()
    config.eval.every = 12511 if swin else 3128  # steps: 10 epochs; 0 = only at the end
    config.eval.batch_size = 1024
    config.eval.ema = not swin  # which weights are scored; at the end both are
    config.eval.orders = ("fixed", "permuted", "reversed")
    config.eval.permutations = 1  # random orders of each image that "permuted" is averaged over

    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1251 if swin else 313  # steps: one epoch; 0 = only with evaluations
    config.checkpoint.keep = 2
    config.checkpoint.dir = ""  # another place than the workdir, such as gs://bucket/run
    config.checkpoint.on_error = "stop"  # or "continue" training when a checkpoint cannot be saved
    config.checkpoint.allow_changes = ""  # keys, separated by commas, that a run may be resumed with other values of

    config.report = ConfigDict()
    config.report.log_every = 50
    config.report.panels = 0
    return config
