"""What a config would do, without training: schedule, sizes, and what the compiler says of the step.

On the devices at hand one batch is read and the step compiled. For a TPU slice (`topology`) nothing is read and no TPU
is needed: libtpu compiles the same step, at its true sizes, for chips that are only described.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genseg import flops, hlo, inputs, optim, partition, processes, report, train, tree
from genseg.chips import Chip, chip_of, slices_of
from genseg.config import listing

DEPTH = 3  # names of a scope that are kept apart


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step: bytes a device by purpose, the text of its program, and FLOPs (all devices together)."""

    arguments: int
    temporaries: int
    code: int
    extra_outputs: int
    text: str
    flops: float

    @property
    def memory(self) -> int:
        """Bytes that a device needs to run the step, beside what the run-time system takes."""
        return self.arguments + self.temporaries + self.code + self.extra_outputs


def dry_run(config: ConfigDict) -> str:
    """Compiles the step for the devices at hand and describes it. Reads one batch, trains nothing, and writes nothing
    but the prepared data where `config.data.source` names raw files that have not been prepared yet."""
    run = train.setup(config, workdir="")
    batch = run.data.first_batch(run.mesh)
    shapes = inputs.batch_shapes(config, run.card)
    compiled = compile_step(run, shapes)
    sections = [*describe(run, shapes), read_line(batch), *describe_compiled(run, compiled)]
    return "\n\n".join([at_hand(run.mesh.devices.ravel()[0], run.mesh.size), *sections])


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


def dry_run_for(config: ConfigDict, topology: str) -> str:
    """Compiles the step for a TPU slice such as "v5e:16x16" and predicts time and cost. Needs libtpu, no TPU, no data."""
    design, compiled, hosts = compile_for(config, topology)
    sections = [
        f"COMPILED FOR {topology}: {design.mesh.size} chips on {hosts} hosts, described to the compiler, not there",
        *describe(design, inputs.batch_shapes(config, design.card)),
        *describe_compiled(design, compiled),
        cycle_table(hlo.cycles(compiled.text)),
        predict(design, compiled, chip_of(topology), topology, hosts),
    ]
    return "\n\n".join(sections)


def compile_for(config: ConfigDict, topology: str) -> tuple[train.Design, Compiled, int]:
    """(design, its step compiled for a TPU slice that is not there, hosts of the slice)."""
    chip_of(topology)
    devices = partition.described_devices(topology)
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    partition.check_batch(config.train.batch_size, mesh)
    design = train.design(config, inputs.card_without_data(config), mesh)
    compiled = compile_step(design, inputs.batch_shapes(config, design.card))
    return design, compiled, partition.hosts(devices)


def compile_step(design: train.Design, shapes: dict[str, jax.ShapeDtypeStruct]) -> Compiled:
    """The training step at these sizes, compiled for the design's mesh; no array is made."""
    split, whole = partition.batch_sharding(design.mesh), partition.replicated(design.mesh)

    def placed(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)

    def everywhere(tree: Any, sharding: Any) -> Any:
        return placed(tree, jax.tree.map(lambda _: sharding, tree))

    metrics = everywhere(jax.eval_shape(report.StepMetrics.empty), whole)
    arguments = (placed(design.abstract, design.sharding), metrics, everywhere(shapes, split))
    with partition.use_mesh(design.mesh):
        traced = design.train_step.trace(*arguments)
        try:
            compiled = traced.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            raise processes.out_of_memory(error) or error from None
    memory = compiled.memory_analysis()
    return Compiled(
        arguments=memory.argument_size_in_bytes, temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        extra_outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes, text=compiled.as_text(),
        flops=flops.of(traced.jaxpr.jaxpr),
    )  # fmt: skip


def describe(design: train.Design, shapes: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
    """What needs no compiler: config, schedule, batch, parameters, optimizer groups."""
    config, plan = design.config, design.plan
    arrays = ", ".join(f"{name} {x.dtype}{list(x.shape)}" for name, x in shapes.items())
    return [
        f"config:\n{listing(config)}",
        f"plan: {plan}\n"
        f"learning rate: {design.rates}\n"
        f"samples: {config.data.train_split} holds {design.card.splits[config.data.train_split]:,} images of "
        f"{design.card.name}; an epoch is {plan.steps_per_epoch:.2f} batches, the run {plan.steps * plan.batch_size:,} "
        f"images\n"
        f"evaluations: {every(config.eval.every, plan.steps)} on {config.data.eval_split}, "
        f"{design.card.splits[config.data.eval_split]:,} images; checkpoints: with evaluations"
        f"{f' and every {config.checkpoint.every:,} steps' if config.checkpoint.every else ''}\n"
        f"a device: {plan.batch_size // design.mesh.size} images a step"
        f"{f', {plan.batch_size // design.mesh.size // plan.accumulation} a microbatch' if plan.accumulation > 1 else ''}\n"
        f"mesh: {dict(design.mesh.shape)}\nbatch: {arrays}",
        f"parameters:\n{tree.size_table(design.abstract.params)}",
        f"optimizer groups:\n{optim.group_table(design.optim, design.abstract.params)}",
    ]


def every(steps: int, total: int) -> str:
    """How often something happens in a run; at the end it always does."""
    return f"every {steps:,} steps and at the end, {-(-total // steps):,} in all," if steps else "at the end"


def describe_compiled(design: train.Design, compiled: Compiled) -> list[str]:
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


def communication_seconds(found: Iterable[hlo.Collective], devices: int, link: float) -> float:
    """Time of all collectives at full link speed, none of it hidden behind computation.

    An all-reduce sends 2 (n - 1) / n of its bytes from every device, any other kind (n - 1) / n.
    """
    sent = sum((2 if c.kind == "all-reduce" else 1) * c.times * c.size for c in found)
    return sent * (devices - 1) / devices / link


def between_slices_seconds(size: float, slices: int, chips: int, network: float) -> float:
    """Time in which `slices` slices of `chips` chips each add up `size` bytes of gradients over the data centre's network.

    Inside a slice the sum is made first, so that each chip sends its 1 / chips of it: an all-reduce among the slices.
    """
    return 2 * (slices - 1) / slices * size / chips / network


def predict(design: train.Design, compiled: Compiled, chip: Chip, topology: str, hosts: int) -> str:
    """Fit, time, host rate and cost on published figures, as text."""
    devices, plan = design.mesh.size, design.plan
    floor = compiled.flops / devices / chip.flops
    slices = slices_of(topology)
    moving = communication_seconds(hlo.collectives(compiled.text), devices, chip.link)
    lines = [
        f"on {topology}, from published figures (genseg/chips.py); nothing here was measured:",
        f"  memory: fits (the compiler refuses what does not): {compiled.memory / 1e9:.2f} of {chip.memory / 1e9:.0f} GB",
        f"  least time of a step, FLOPs at the peak of {chip.flops / 1e12:.0f} TFLOP/s: {1e3 * floor:.2f} ms",
        f"  collectives at {chip.link / 1e9:.0f} GB/s, not overlapped: {1e3 * moving:.2f} ms",
    ]
    if missing := "clock" if chip.clock is None else "network" if slices > 1 and chip.network is None else "":
        return "\n".join(
            [*lines, f"  no step time is predicted: genseg/chips.py has no figure for this chip's {missing}"]
        )
    if slices > 1:
        between = between_slices_seconds(
            4 * tree.count(design.abstract.params), slices, devices // slices, chip.network
        )
        lines.append(f"  gradients between {slices} slices at {chip.network / 1e9:.3g} GB/s: {1e3 * between:.2f} ms")
        moving += between
    computing = sum(c.cycles for c in hlo.cycles(compiled.text)) / chip.clock
    seconds = computing + moving
    hours, images = plan.steps * seconds / 3600, plan.batch_size / seconds
    lines += [
        f"  compiler's cycles at {chip.clock / 1e9:.2f} GHz: {1e3 * computing:.2f} ms",
        f"  predicted step: {1e3 * seconds:.2f} ms, {floor / seconds:.0%} of the peak, {images:,.0f} images/s",
        f"  host input needed: {images / hosts:,.0f} images/s a host ({hosts} hosts, {plan.batch_size // hosts} images "
        "each a step)",
        f"  whole run: {plan.steps:,} steps in {hours:,.1f} hours, {hours * devices:,.0f} chip-hours, without "
        "evaluations, saves and restarts",
    ]
    if chip.price is not None:
        lines.append(f"  cost at {chip.price:.2f} USD a chip-hour, list price: {hours * devices * chip.price:,.0f} USD")
    return "\n".join(lines)
