"""Time and cost of a run on a TPU slice, by arithmetic with published figures."""

from __future__ import annotations

from collections.abc import Iterable

from genseg import tree
from genseg.design import Design
from genseg.dry_run import hlo
from genseg.dry_run.chips import Chip, slices_of
from genseg.dry_run.compiling import Compiled


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


def predict(design: Design, compiled: Compiled, chip: Chip, topology: str, hosts: int) -> str:
    """Fit, time, host rate and cost on published figures, as text."""
    devices, plan = design.mesh.size, design.plan
    floor = compiled.flops / devices / chip.flops
    slices = slices_of(topology)
    moving = communication_seconds(hlo.collectives(compiled.text), devices, chip.link)
    lines = [
        f"on {topology}, from published figures (genseg/dry_run/chips.py); nothing here was measured:",
        f"  memory: fits (the compiler refuses what does not): {compiled.memory / 1e9:.2f} of {chip.memory / 1e9:.0f} GB",
        f"  least time of a step, FLOPs at the peak of {chip.flops / 1e12:.0f} TFLOP/s: {1e3 * floor:.2f} ms",
        f"  collectives at {chip.link / 1e9:.0f} GB/s, not overlapped: {1e3 * moving:.2f} ms",
    ]
    if missing := "clock" if chip.clock is None else "network" if slices > 1 and chip.network is None else "":
        return "\n".join(
            [*lines, f"  no step time is predicted: genseg/dry_run/chips.py has no figure for this chip's {missing}"]
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
