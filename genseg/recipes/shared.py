"""The keys that both tasks have."""

from __future__ import annotations

from dataclasses import dataclass

from genseg.keys import DIFFERENT, FILLED, ONES_UP, PATTERN, SPAN, above, at_least, each, key, one_of, within

STEM_RULES = ("exact", "universal", "repeat", "mean", "zero", "random")
"""genseg/nets/stem.py has what each does."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """config.data, beside the keys of the data set that `name` names (see its entry in `genseg.data.DATASETS`)."""

    name: str = key(..., "data set: a key of genseg.data.DATASETS", FILLED)
    data_dir: str = key("", "prepared records; '' = the user's cache folder, ~/.cache/genseg")
    train_split: str = key("train", "split to train on", FILLED)
    train_share: float = key(
        1.0, "share of its records that are trained on, the same for every seed; a smaller share is part of a larger one",
        within(0, 1, above=True), before=1.0,
    )  # fmt: skip
    eval_split: str = key("val", "split to score", FILLED)
    skip_corrupt: int = key(0, "records that may fail to decode before a process stops the run", at_least(0))
    threads: int = key(0, "decoding threads of each worker; 0 = one a core, or one a worker", at_least(0))
    workers: int = key(
        0, "decoding processes; 0 = threads alone. A host of many cores wants about one a core", at_least(0)
    )


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Switches of config.csp that both tasks have, all off by default: see genseg/bands.py."""

    local: float = key(
        0.0, "share of images with rectangles in which each band has its own gain; 0 = none", within(0, 1), before=0.0
    )
    curve: float = key(0.0, "c of a curve x^(2^U(-c, c)) for each band; 0 = none", within(0, 4), before=0.0)
    invert: float = key(0.0, "share of bands that are seen as their negative", within(0, 1), before=0.0)
    drop: bool = key(False, "keep a random number of the bands, rescaled; the others are 0", before=False)

    @property
    def on(self) -> bool:
        """Whether anything but `drop` is: what acts on values before they are normalised."""
        return self.local > 0 or self.curve > 0 or self.invert > 0


@dataclass(frozen=True, kw_only=True)
class Model:
    """config.model: the backbone."""

    backbone: str = key(..., "a key of genseg.nets.BACKBONES", FILLED)
    drop_path: float = key(0.0, "rate of the last block; it rises linearly from 0", within(0, 1, below=True))
    dtype: str = key(
        "float32", "of activations; weights, norms, softmax, logits and loss are float32", one_of("float32", "bfloat16")
    )
    remat: bool = key(False, "compute activations again in the backward pass: half their memory, a third more time")
    attention: str = key(
        "auto", "form of Swin's attention, equal up to rounding (docs/pods.md): rows; columns; auto: columns on TPU",
        one_of("auto", "rows", "columns"), before="auto",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Init:
    """config.init: where the backbone's weights come from."""

    checkpoint: str = key("", "a pre-training workdir or a step's folder; '' = from scratch")
    ema: bool = key(False, "take its averaged weights instead of the raw ones")
    best: bool = key(False, "take its best checkpoint instead of the latest")
    head: bool = key(False, "take its classifier too, to go on with the same classes", before=False)
    stem: str = key(
        "exact", "how a stem of other channels (mean: of any) is made to fit; exact: it must fit as it is (genseg/nets/stem.py)",
        one_of(*STEM_RULES),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Train:
    """config.train: length in epochs or in steps, one of each pair is 0."""

    batch_size: int = key(..., "images of a step, over all devices", at_least(1))
    epochs: float = key(0.0, "length in epochs of the training split", at_least(0))
    steps: int = key(0, "length in steps", at_least(0))
    warmup_epochs: float = key(0.0, "linear warm-up in epochs", at_least(0))
    warmup_steps: int = key(0, "linear warm-up in steps", at_least(0))
    patience: int = key(
        0, "evaluations after the best score (the later one of equals) after which training stops, if eval.every is set; 0 = never", at_least(0),
        before=0,
    )  # fmt: skip
    accumulation: int = key(1, "microbatches that a step is computed in, one after the other", at_least(1))


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """config.optim: AdamW. The three learning rates are for a global batch of `scaling_batch`."""

    scaling: str = key(
        "none", "factor on the learning rates: (batch / scaling_batch) ** 1 with linear (Goyal et al. 2017, arXiv "
        "1706.02677) or ** 1/2 with sqrt (Malladi et al. 2022, arXiv 2205.10287, for Adam); none takes them as they are",
        one_of("none", "linear", "sqrt"),
    )  # fmt: skip
    scaling_batch: int = key(0, "batch that the learning rates are given for", at_least(0))
    learning_rate: float = key(..., "peak", at_least(0))
    min_learning_rate: float = key(0.0, "where the schedule ends", at_least(0))
    warmup_learning_rate: float = key(0.0, "where the linear warm-up starts", at_least(0))
    schedule: str = key("cosine", "over the steps after the warm-up", one_of("cosine", "poly"))
    power: float = key(1.0, "exponent of schedule poly", above(0))
    b1: float = key(0.9, "AdamW's beta 1", within(0, 1, below=True))
    b2: float = key(0.999, "AdamW's beta 2", within(0, 1, below=True))
    eps: float = key(1e-8, "AdamW's epsilon", above(0))
    weight_decay: float = key(0.05, "decoupled, on every parameter that no pattern of no_decay matches", at_least(0))
    no_decay: tuple[str, ...] = key(
        (r".*/(bias|scale|gamma)",),
        "regular expressions for the whole paths of parameters that are not decayed",
        each(PATTERN),
    )
    clip_norm: float = key(0.0, "limit of the gradient's global norm; 0 = none", at_least(0))
    clip_value: float = key(
        0.0, "limit of each element of the gradient, before that of the norm; 0 = none", at_least(0), before=0.0
    )
    layer_decay: float = key(
        1.0, "factor on the learning rate per layer, stage by stage; 1 = none", within(0, 1, above=True)
    )
    layer_decay_layers: int = key(6, "number of layers it is counted over: ConvNeXt T 6, S B L 12", at_least(1))


@dataclass(frozen=True, kw_only=True)
class Ema:
    """config.ema: averages of parameters and BatchNorm statistics."""

    decay: float = key(0.0, "weight of the old average in each step; 0 = no averages", within(0, 1, below=True))
    warmup: bool = key(False, "start with a smaller decay: at most (1 + step) / (10 + step)")


@dataclass(frozen=True, kw_only=True)
class Eval:
    """config.eval: when and how the evaluation split is scored."""

    every: int = key(0, "steps between evaluations; 0 = only at the end", at_least(0))
    batch_size: int = key(..., "images, or windows, of an evaluation step, over all devices", at_least(1))
    ema: bool = key(False, "score the averaged weights on the way; at the end both are scored")


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """config.mesh: devices in two axes, whose product is their number; -1 = what the other axis leaves."""

    data: int = key(-1, "over which only the batch is spread", ONES_UP)
    fsdp: int = key(1, "over which parameters, optimizer and averages are spread too", ONES_UP)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """config.checkpoint: see docs/resume.md."""

    every: int = key(0, "steps between saves; 0 = only with evaluations", at_least(0))
    keep: int = key(1, "how many of the latest are kept, beside the best", at_least(1))
    dir: str = key("", "another place than the workdir, such as gs://bucket/run")
    on_error: str = key("stop", "or go on training, when a checkpoint cannot be saved", one_of("stop", "continue"))
    allow_changes: str = key("", "keys, separated by commas, that a run may be resumed with other values of")


@dataclass(frozen=True, kw_only=True)
class Report:
    """config.report: the log and the pictures."""

    log_every: int = key(50, "steps between lines; where a broken loss is noticed", at_least(1))
    panels: int = key(
        0,
        "evaluation images drawn with bands, truth and prediction, and then the best, median and worst too",
        at_least(0),
    )
    trackers: tuple[str, ...] = key(
        (), "services that scores and pictures are sent to as well, if installed (pip install 'genseg[trackers]')",
        each(one_of("wandb", "mlflow")), DIFFERENT, before=(),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Profile:
    """config.profile: see docs/performance.md."""

    steps: str = key("", "FIRST:LAST, steps whose trace is written to the workdir; '' = none", SPAN, before="")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sections whose keys are the same in both tasks; each task's own stand in its class."""

    seed: int = key(0, "of initial weights and of everything random in training", at_least(0))
    data: Data
    init: Init
    train: Train
    optim: OptimSettings
    ema: Ema
    mesh: Mesh
    checkpoint: Checkpoint
    report: Report
    profile: Profile
