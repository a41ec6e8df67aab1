"""The dry run: what `python -m genseg.main --mode=dry_run` prints."""

from __future__ import annotations

from ml_collections import ConfigDict

from genseg import inputs
from genseg.design import setup
from genseg.dry_run import hlo
from genseg.dry_run.chips import chip_of
from genseg.dry_run.compiling import compile_for, compile_step
from genseg.dry_run.describing import at_hand, cycle_table, describe, describe_compiled, read_line
from genseg.dry_run.predicting import predict


def dry_run(config: ConfigDict) -> str:
    """Compiles the step for the devices at hand and describes it. Reads one batch, trains nothing, and writes nothing
    but the prepared data where `config.data.source` names raw files that have not been prepared yet."""
    run = setup(config, workdir="")
    batch = run.data.first_batch(run.mesh)
    shapes = inputs.batch_shapes(config, run.card)
    compiled = compile_step(run, shapes)
    sections = [*describe(run, shapes), read_line(batch), *describe_compiled(run, compiled)]
    return "\n\n".join([at_hand(run.mesh.devices.ravel()[0], run.mesh.size), *sections])


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
