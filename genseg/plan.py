"""How long a run is: epochs, steps, warm-up, accumulation."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from genseg.errors import UserError


@dataclasses.dataclass(frozen=True)
class Plan:
    """Schedule arithmetic, in optimizer steps."""

    steps: int
    warmup_steps: int
    steps_per_epoch: float
    batch_size: int
    accumulation: int

    def __str__(self) -> str:
        parts = f" (in {self.accumulation} microbatches of {self.batch_size // self.accumulation})"
        return (
            f"{self.steps:,} steps of {self.batch_size} images{parts if self.accumulation > 1 else ''}, "
            f"{self.steps_per_epoch:.2f} steps an epoch, {self.steps / self.steps_per_epoch:.2f} epochs; the first "
            f"{self.warmup_steps:,} steps are warm-up"
        )


def make_plan(config: ConfigDict, examples: int, devices: int) -> Plan:
    """Epochs, steps, warm-up and accumulation of `config.train` for a split of `examples` images.

    The length is given in epochs or in steps, warm-up likewise: exactly one of each pair is not 0 (warm-up: at most
    one). Raises UserError when they contradict each other or the batch does not divide.
    """
    train = config.train
    if (train.epochs > 0) == (train.steps > 0):
        raise UserError("give the length of training by config.train.epochs or config.train.steps; set the other to 0")
    if train.warmup_epochs > 0 and train.warmup_steps > 0:
        raise UserError("give the warm-up by config.train.warmup_epochs or config.train.warmup_steps, not by both")
    if train.accumulation < 1 or train.batch_size % (train.accumulation * devices):
        raise UserError(
            f"config.train.batch_size {train.batch_size} is not divisible by {train.accumulation} microbatches on "
            f"{devices} devices; use a multiple of {max(train.accumulation, 1) * devices}"
        )
    # A fraction of an epoch is dropped once in the whole run, not once an epoch: batches cross epoch borders.
    per_epoch = examples / train.batch_size
    steps = train.steps or int(train.epochs * examples / train.batch_size)
    if steps < 1:
        raise UserError(f"{train.epochs} epochs of {examples} images are less than one batch of {train.batch_size}")
    warmup = train.warmup_steps or int(train.warmup_epochs * examples / train.batch_size)
    return Plan(steps, warmup, per_epoch, train.batch_size, train.accumulation)
