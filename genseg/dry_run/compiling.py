"""The step compiled, for devices at hand or described."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from genseg import inputs, partition, processes
from genseg.design import Design, make_design
from genseg.dry_run.chips import chip_of
from genseg.dry_run.topology import described_devices, hosts
from genseg.nets import flops
from genseg.report.step_metrics import StepMetrics


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


def compile_for(config: ConfigDict, topology: str) -> tuple[Design, Compiled, int]:
    """(design, its step compiled for a TPU slice that is not there, hosts of the slice)."""
    chip_of(topology)
    devices = described_devices(topology)
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    partition.check_batch(config.train.batch_size, mesh)
    design = make_design(config, inputs.card_without_data(config), mesh)
    compiled = compile_step(design, inputs.batch_shapes(config, design.card))
    return design, compiled, hosts(devices)


def compile_step(design: Design, shapes: dict[str, jax.ShapeDtypeStruct]) -> Compiled:
    """The training step at these sizes, compiled for the design's mesh; no array is made."""
    split, whole = partition.batch_sharding(design.mesh), partition.replicated(design.mesh)

    def placed(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)

    def everywhere(tree: Any, sharding: Any) -> Any:
        return placed(tree, jax.tree.map(lambda _: sharding, tree))

    metrics = everywhere(jax.eval_shape(StepMetrics.empty), whole)
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
