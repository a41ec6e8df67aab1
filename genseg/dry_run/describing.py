"""What is known of a run before it starts, as text: plan, sizes, memory, FLOPs, collectives, cycles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from genseg import optim, tree
from genseg.config import listing
from genseg.design import Design
from genseg.dry_run import hlo
from genseg.dry_run.compiling import Compiled

DEPTH = 3  # names of a scope that are kept apart


def at_hand(device: jax.Device, count: int) -> str:
    """What the step was compiled for, and what that says of other devices."""
    line = f"COMPILED FOR the devices at hand: {count} x {device.device_kind}"
    if device.platform != "cpu":
        return line
    return (
        f"{line}\nTheir memory is not that of an accelerator: on a CPU depthwise convolutions take other forms, which hold "
        "more. --topology=v5e:16x16 compiles for a TPU slice, without one."
    )


def read_line(batch: dict[str, np.ndarray]) -> str:
    """What the one batch that was read holds: a wrong range or a single class shows here."""
    image, label = batch["image"], batch["label"]
    return (
        f"read: one batch, {len(image)} images in this process, values {image.min():g} to {image.max():g} (mean "
        f"{image.mean():.1f}), {len(np.unique(label)):,} different labels"
    )


def describe(design: Design, shapes: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
    """What needs no compiler: config, schedule, batch, parameters, optimizer groups."""
    config, plan = design.config, design.plan
    share = f", of which {config.data.train_share:g} are trained on" if config.data.train_share < 1 else ""
    arrays = ", ".join(f"{name} {x.dtype}{list(x.shape)}" for name, x in shapes.items())
    return [
        f"config:\n{listing(config)}",
        f"plan: {plan}\n"
        f"learning rate: {design.rates}\n"
        f"samples: {config.data.train_split} holds {design.card.splits[config.data.train_split]:,} images of "
        f"{design.card.name}{share}; an epoch is {plan.steps_per_epoch:.2f} batches, the run {plan.steps * plan.batch_size:,} "
        f"images\n"
        f"evaluations: {every(config.eval.every, plan.steps)} on {config.data.eval_split}, "
        f"{design.card.splits[config.data.eval_split]:,} images; checkpoints: with evaluations"
        f"{f' and every {config.checkpoint.every:,} steps' if config.checkpoint.every else ''}\n"
        f"a device: {plan.batch_size // design.mesh.size} images a step"
        f"{f', {plan.batch_size // design.mesh.size // plan.accumulation} a microbatch' if plan.accumulation > 1 else ''}\n"
        f"mesh: {dict(design.mesh.shape)}\nbatch: {arrays}",
        f"parameters:\n{tree.size_table(design.abstract.params)}",
        f"optimizer groups:\n{optim.group_table(design.optim, design.abstract.params, design.task.freezing)}",
    ]


def every(steps: int, total: int) -> str:
    """How often something happens in a run; at the end it always does."""
    return f"every {steps:,} steps and at the end, {-(-total // steps):,} in all," if steps else "at the end"


def describe_compiled(design: Design, compiled: Compiled) -> list[str]:
    """Memory, FLOPs and collectives of the compiled step."""
    state, sharding = design.abstract, design.sharding
    rows = [
        ("parameters", bytes_a_device(state.params, sharding.params)),
        ("optimizer", bytes_a_device(state.opt, sharding.opt)),
        ("averages (EMA)", bytes_a_device(state.ema, sharding.ema)),
        ("statistics, step", bytes_a_device((state.stats, state.step), (sharding.stats, sharding.step))),
    ]
    rows.append(("batch, padding", compiled.arguments - sum(n for _, n in rows)))
    rows.append(("activations and other temporaries", compiled.temporaries))
    rows.append(("program", compiled.code))
    rows.append(("outputs that reuse no input", compiled.extra_outputs))
    rows.append(("total", compiled.memory))
    table = "\n".join(f"  {name:<34} {n / 2**20:>12,.1f} MiB" for name, n in rows)
    each = compiled.flops / design.mesh.size
    return [
        f"memory of the step, a device, by the compiler:\n{table}",
        f"FLOPs of the step (matrix products and convolutions, each multiply-add two): {compiled.flops:.4g} in all, "
        f"{each:.4g} a device, {compiled.flops / design.plan.batch_size:.4g} an image",
        collective_table(hlo.collectives(compiled.text)),
    ]


def bytes_a_device(state: Any, sharding: Any) -> int:
    """Bytes that one device holds of a tree of shapes under its shardings."""
    sizes = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, state, sharding)
    return sum(jax.tree.leaves(sizes))


def collective_table(found: Iterable[hlo.Collective]) -> str:
    """Number and bytes of each kind of collective in one step, by element type, as text."""
    rows: dict[str, list[int]] = {}
    for one in found:
        row = rows.setdefault(f"{one.kind} {one.dtype}", [0, 0])
        row[0] += one.times
        row[1] += one.times * one.size
    lines = [f"  {kind:<20} {n:>5} x  {size / 2**20:>12,.3f} MiB" for kind, (n, size) in sorted(rows.items())]
    return "\n".join(["collectives of the step (bytes of the results on a device):", *(lines or ["  none"])])


def cycle_table(found: list[hlo.Cycles]) -> str:
    """The compiler's cycle estimates by scope, forward and backward, as text."""
    rows: dict[str, list[int]] = {}
    for one in found:
        row = rows.setdefault("/".join(one.scope.split("/")[:DEPTH]), [0, 0])
        row[one.backward] += one.cycles
    total = sum(map(sum, rows.values()))
    lines = [f"  {'scope':<34} {'forward':>14} {'backward':>14}  share"]
    for scope, (forward, backward) in sorted(rows.items(), key=lambda item: -sum(item[1])):
        lines.append(f"  {scope:<34} {forward:>14,} {backward:>14,} {(forward + backward) / total:6.1%}")
    lines.append(f"  {'total':<34} {total:>29,}")
    return "\n".join(["the compiler's estimate in cycles (a model, not a measurement):", *lines])
