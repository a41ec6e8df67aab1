"""What a config would do, without training: plan, parameters, memory, FLOPs, collectives of the compiled step."""

from __future__ import annotations

import math

import jax
from ml_collections import ConfigDict

from genseg import optim, partition, report, train, tree


def dry_run(config: ConfigDict, workdir: str) -> str:
    """Compiles the step and describes it: plan, parameters, memory, FLOPs, collectives. Trains nothing."""
    run = train.setup(config, workdir)
    with partition.use_mesh(run.mesh):
        batch = next(train.device_batches(run, 0, report.Progress(0, 1, 1), train.NonFiniteWatch(run)))
        state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), run.abstract, run.sharding
        )
        compiled = run.train_step.lower(state, train.fresh_metrics(run.mesh), batch).compile()
    memory = compiled.memory_analysis()
    flops = (compiled.cost_analysis() or {}).get("flops", math.nan)
    collectives = partition.collectives(compiled.as_text())
    megabytes = {
        "arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes, "shared by arguments and outputs": memory.alias_size_in_bytes,
    }  # fmt: skip
    shapes = {name: f"{value.dtype}{list(value.shape)}" for name, value in batch.items()}
    lines = [
        f"plan: {run.plan}",
        f"batch: {shapes}",
        f"parameters:\n{tree.size_table(run.abstract.params)}",
        f"optimizer groups:\n{optim.group_table(run.optim, run.abstract.params)}",
        "memory of the step, a device: " + ", ".join(f"{k} {v / 2**20:,.1f} MiB" for k, v in megabytes.items()),
        f"FLOPs of the step, a device: {flops:.4g}",
        f"collectives of the step: {dict(collectives) or 'none'}",
    ]
    return "\n".join(lines)
