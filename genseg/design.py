"""What a config, a card and a mesh determine: task, plan, optimizer, shapes and the jitted step."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from genseg import checkpoints, inputs, memory, optim, partition, recipes, tasks
from genseg import state as states
from genseg.config import section, to_json
from genseg.data.batches.class_pixels import class_pixels
from genseg.data.batches.sampling import shared_out
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.losses.class_weights import class_weights
from genseg.plan import Plan, make_plan
from genseg.step import make_train_step

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Design:
    """All that a config, a card and a mesh determine. No data is opened and no array made: the mesh may be of devices
    that are not there (`genseg.dry_run`)."""

    config: ConfigDict
    card: DatasetCard
    mesh: Mesh
    task: tasks.Task
    plan: Plan
    optim: optim.OptimSettings
    optimizer: optax.GradientTransformation
    abstract: states.TrainState
    sharding: states.TrainState
    train_step: Callable

    @property
    def rates(self) -> str:
        """The learning rates, in a line."""
        given = section(optim.OptimSettings, self.config.optim, "optim")
        return optim.describe_rates(given, self.plan.batch_size, self.plan.steps, self.plan.warmup_steps)


@dataclasses.dataclass(frozen=True)
class Setup(Design):
    """A design with its data and its workdir; nothing is trained or written yet."""

    workdir: Path
    data: inputs.Inputs

    @property
    def meta(self) -> dict[str, Any]:
        return {
            "config": to_json(self.config),
            "card": self.card.to_json(),
            "contents": dict(self.data.contents),
            "versions": checkpoints.versions(),
            "revision": checkpoints.revision(),
        }


def make_design(config: ConfigDict, card: DatasetCard, mesh: Mesh) -> Design:
    """Builds task, optimizer and step. Raises UserError for whatever does not fit together."""
    task = tasks.build(config, card, mesh.devices.flat[0].platform)
    examples = shared_out(card.splits[config.data.train_split], config.data.train_share)
    the_plan = make_plan(config, examples, mesh.size)
    settings = optim.scaled(section(optim.OptimSettings, config.optim, "optim"), config.train.batch_size)
    schedule = optim.learning_rate(settings, the_plan.steps, the_plan.warmup_steps)
    abstract_params, _ = jax.eval_shape(task.net.init, jax.random.key(0))
    optimizer = optim.build(settings, abstract_params, schedule, task.freezing)
    use_ema = config.ema.decay > 0
    abstract = jax.eval_shape(lambda key: states.init(task.net, key, optimizer, ema=use_ema), jax.random.key(0))
    sharding = partition.tree_sharding(mesh, abstract)
    step = make_train_step(
        task, optimizer, schedule, accumulation=the_plan.accumulation, ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup, seed=config.seed,
    )  # fmt: skip
    jitted = jax.jit(step, out_shardings=(sharding, partition.replicated(mesh)), donate_argnums=(0,))
    return Design(config, card, mesh, task, the_plan, settings, optimizer, abstract, sharding, jitted)


def refuse_too_large_batches(config: ConfigDict, card: DatasetCard) -> None:
    """Raises UserError if a batch of training or evaluation, images alone, is more than this machine's memory."""
    shapes = inputs.batch_shapes(config, card)
    size = sum(math.prod(s.shape) * s.dtype.itemsize for s in shapes.values()) / jax.process_count()
    memory.refuse_beyond(
        size,
        f"a batch of {config.train.batch_size} images (config.train.batch_size, config.augment.size)",
        "lower them",
    )
    if config.task == "segment" and config.eval.mode == "slide":
        size = config.eval.batch_size * math.prod(config.eval.crop) * (4 * card.channels + 4 * len(card.classes))
        memory.refuse_beyond(
            size / jax.process_count(), f"a batch of {config.eval.batch_size} windows of {config.eval.crop}",
            "lower config.eval.batch_size or config.eval.crop",
        )  # fmt: skip


def _with_class_weights(config: ConfigDict, data: inputs.Inputs) -> ConfigDict:
    """The config with the numbers that config.loss.class_rule stands for, so that they are stored with the run.

    Raises UserError where other numbers are given beside the rule.
    """
    if config.task != "segment" or config.loss.class_rule == "none":
        return config
    pixels = class_pixels(data.train_split, config.data.threads, config.data.skip_corrupt)
    rule, given = config.loss.class_rule, tuple(config.loss.class_weights)
    weights = tuple(float(f"{w:.6g}") for w in class_weights(rule, pixels, beta=config.loss.class_beta))
    if given and given != weights:
        raise UserError(
            f"config.loss.class_weights {given} are not those of the class_rule '{rule}' {weights}; give one of the two"
        )
    table = ", ".join(f"{name} {weight:g}" for name, weight in zip(data.card.classes, weights, strict=True))
    logger.info("class weights by the rule '%s' from %d training pixels: %s", rule, pixels.sum(), table)
    config = ConfigDict(config.to_dict())
    config.loss.class_weights = weights
    return config.lock()


def setup(config: ConfigDict, workdir: str) -> Setup:
    """The design for the devices at hand, and its data. Raises UserError for whatever does not fit together."""
    config = recipes.complete(config)
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    partition.check_batch(config.train.batch_size, mesh)
    partition.check_batch(config.eval.batch_size, mesh)
    data = inputs.open_inputs(config)
    logger.info("%s", data.card.describe())
    refuse_too_large_batches(config, data.card)
    config = _with_class_weights(config, data)
    return Setup(**vars(make_design(config, data.card, mesh)), workdir=Path(workdir), data=data)
