"""AdamW with learning-rate schedule, layer-wise decay and decay groups, from plain settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from genseg import tree
from genseg.errors import UserError
from genseg.freezing import NOTHING_FROZEN, Freezing
from genseg.recipes.shared import OptimSettings

SCALING_POWERS = {"linear": 1.0, "sqrt": 0.5}


def scaled(settings: OptimSettings, batch_size: int) -> OptimSettings:
    """The settings whose learning rates hold for a global batch of `batch_size`, by the rule that `scaling` names.

    Raises UserError for a rule without `scaling_batch`.
    """
    if settings.scaling == "none":
        return settings
    if settings.scaling_batch < 1:
        raise UserError(
            f"config.optim.scaling '{settings.scaling}' needs the batch that the learning rates are for: set "
            "config.optim.scaling_batch"
        )
    factor = (batch_size / settings.scaling_batch) ** SCALING_POWERS[settings.scaling]
    return dataclasses.replace(
        settings, scaling="none", learning_rate=settings.learning_rate * factor,
        min_learning_rate=settings.min_learning_rate * factor,
        warmup_learning_rate=settings.warmup_learning_rate * factor,
    )  # fmt: skip


def describe_rates(settings: OptimSettings, batch_size: int, steps: int, warmup_steps: int) -> str:
    """One line: the learning rates of a run with global batches of `batch_size`, and the rule that they come from.

    settings: as in the config, before `scaled`.
    """
    used = scaled(settings, batch_size)
    start = f"{used.warmup_learning_rate:.4g} rising to " if warmup_steps else ""
    rise = f" over {warmup_steps:,} steps" if warmup_steps else ""
    if settings.scaling == "none":
        rule = f"as given, whatever the batch (rule 'none'; here {batch_size})"
    else:
        factor = (batch_size / settings.scaling_batch) ** SCALING_POWERS[settings.scaling]
        rule = f"given for batches of {settings.scaling_batch}, x {factor:.4g} for {batch_size} by the rule '{settings.scaling}'"
    return (
        f"{start}{used.learning_rate:.4g}{rise}, then {settings.schedule} to {used.min_learning_rate:.4g} at step {steps:,}; "
        f"{rule}"
    )


def learning_rate(settings: OptimSettings, steps: int, warmup_steps: int) -> optax.Schedule:
    """step -> learning rate; step 0 is the first update.

    Linear from `warmup_learning_rate` over `warmup_steps`, then cosine or polynomial to `min_learning_rate` at `steps`.
    """
    if warmup_steps >= steps:
        raise UserError(
            f"the warm-up of {warmup_steps} steps does not fit in {steps} training steps; give config.train.warmup_steps (or "
            "warmup_epochs) less, or train longer"
        )
    if settings.schedule not in ("cosine", "poly"):
        raise UserError(f"config.optim.schedule is '{settings.schedule}'; it must be 'cosine' or 'poly'")
    peak, low = settings.learning_rate, settings.min_learning_rate

    def main(step):
        done = jnp.clip(step / (steps - warmup_steps), 0.0, 1.0)
        share = 0.5 * (1 + jnp.cos(jnp.pi * done)) if settings.schedule == "cosine" else (1 - done) ** settings.power
        return low + (peak - low) * share

    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(settings.warmup_learning_rate, peak, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def layer_factor(path: str, decay: float, layers: int) -> float:
    """Learning-rate factor of a parameter, stage-wise: decay ** (layers + 1 - id).

    id 0: backbone stem and all downsampling layers; id i + 1: backbone stage i; id layers + 1: everything else.
    ConvNeXt-T (layers 6): 0.4783; 0.5314, 0.5905, 0.6561, 0.7290; 1.0.
    """
    if re.match(r"backbone/(stem|stages/\d+/downsample)/", path):
        layer = 0
    elif match := re.match(r"backbone/stages/(\d+)/blocks/", path):
        layer = int(match[1]) + 1
    else:
        layer = layers + 1
    return decay ** (layers + 1 - layer)


def decays(path: str, no_decay: Sequence[str]) -> bool:
    """Whether weight decay applies to the parameter at `path`."""
    return not any(re.fullmatch(pattern, path) for pattern in no_decay)


def build(
    settings: OptimSettings, params: tree.Tree, schedule: optax.Schedule, freezing: Freezing = NOTHING_FROZEN
) -> optax.GradientTransformation:
    """The transformation for parameters of this structure (arrays or ShapeDtypeStructs).

    What `freezing` never trains is not decayed; its gradients are 0 (see `tasks.Segment`). What is trained later has its
    moments kept from the first step on, so that its first updates are no larger than others.

    Raises UserError when a pattern of `no_decay` matches no parameter: it was written for another network.
    """
    paths = [path for path, _ in tree.items(params)]
    for pattern in settings.no_decay:
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise UserError(f"config.optim.no_decay pattern '{pattern}' matches no parameter; remove or correct it")
    factors = tree.map_paths(lambda p, _: layer_factor(p, settings.layer_decay, settings.layer_decay_layers), params)
    mask = tree.map_paths(lambda p, _: decays(p, settings.no_decay) and not freezing.never_trained(p), params)
    steps = []
    if settings.clip_value:
        steps.append(optax.clip(settings.clip_value))
    if settings.clip_norm:
        steps.append(optax.clip_by_global_norm(settings.clip_norm))
    steps.append(optax.scale_by_adam(settings.b1, settings.b2, settings.eps))
    steps.append(optax.add_decayed_weights(settings.weight_decay, mask))
    if settings.layer_decay != 1.0:
        steps.append(optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors)))
    steps.append(optax.scale_by_learning_rate(schedule))
    if freezing.thaw_every and freezing.upto != "none":
        steps.append(_thawing(tree.map_paths(lambda p, _: freezing.first_step(p), params)))
    return optax.chain(*steps)


def _thawing(first_steps: tree.Tree) -> optax.GradientTransformation:
    """No updates of a parameter before its first step."""

    def update(updates, state, params=None):
        count = state.count
        held = jax.tree.map(lambda u, first: jnp.where(count >= first, u, jnp.zeros_like(u)), updates, first_steps)
        return held, optax.ScaleByScheduleState(optax.safe_increment(count))

    return optax.GradientTransformation(lambda _: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update)


def group_table(settings: OptimSettings, params: tree.Tree, freezing: Freezing = NOTHING_FROZEN) -> str:
    """Groups of parameters with their learning-rate factor (0: frozen) and weight decay, as text."""
    groups: dict[tuple[float, float], int] = {}
    for path, leaf in tree.items(params):
        fixed = freezing.never_trained(path)
        factor = 0.0 if fixed else layer_factor(path, settings.layer_decay, settings.layer_decay_layers)
        key = (factor, settings.weight_decay if decays(path, settings.no_decay) and not fixed else 0.0)
        groups[key] = groups.get(key, 0) + int(jnp.size(leaf) if hasattr(leaf, "size") else 0)
    lines = [f"{'lr factor':>10} {'decay':>8} {'parameters':>13}"]
    lines += [f"{f:>10.4f} {d:>8.4g} {n:>13,}" for (f, d), n in sorted(groups.items())]
    return "\n".join(lines)
