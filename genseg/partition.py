"""Everything that names devices: mesh, sharding, process start and host synchronisation. No other file does."""

from __future__ import annotations

import collections
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genseg.errors import UserError

BATCH_AXES = ("data", "fsdp")
FSDP_FLOOR = 2**14  # leaves with fewer elements stay replicated: gathering them costs more latency than memory saved


def make_mesh(data: int = -1, fsdp: int = 1, found: Sequence[jax.Device] | None = None) -> Mesh:
    """The (data, fsdp) mesh over all devices, or over those in `found`; one of the sizes may be -1, "what is left".

    Raises UserError when the sizes do not multiply to the number of devices.
    """
    found = jax.devices() if found is None else found
    devices = len(found)
    sizes = [data, fsdp]
    if sizes.count(-1) > 1 or any(s == 0 or s < -1 for s in sizes):
        raise UserError(f"mesh sizes are data={data}, fsdp={fsdp}; each must be positive, and one of them may be -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = devices // -math.prod(sizes)
    if math.prod(sizes) != devices:
        raise UserError(f"mesh data={data} x fsdp={fsdp} does not cover the {devices} devices; set one of them to -1")
    # Auto axes: with the Explicit default of jax.make_mesh, window reshapes and bincounts refuse to trace.
    # Sizes are positional because their keyword changed its name between JAX releases.
    return jax.make_mesh(tuple(sizes), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=found)


def described_devices(topology: str) -> Sequence[jax.Device]:
    """Stand-ins for the chips of a TPU slice such as "v5e:16x16": programs compile for them and cannot run.

    Raises: UserError if the TPU compiler (libtpu) is not installed or knows no such slice.
    """
    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    except Exception as error:  # libtpu and its absence report in several types
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the TPU compiler has no slice '{topology}' ({reason}); install genseg[tpu], and choose a shape that the "
            "chip's documentation lists, of at least one host"
        ) from None


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError unless the global batch divides evenly over devices."""
    if batch_size < 1 or batch_size % mesh.size:
        low = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(
            f"batch size {batch_size} is not divisible by the {mesh.size} devices; use a multiple such as {low}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def tree_sharding(mesh: Mesh, tree: Any) -> Any:
    """Sharding at rest of parameters, optimizer and EMA: each leaf split on its largest dimension that fsdp divides.

    Small leaves, and leaves that nothing divides, stay replicated. `tree` holds arrays or ShapeDtypeStructs.
    """
    fsdp = mesh.shape["fsdp"]

    def leaf_sharding(leaf):
        if fsdp > 1 and math.prod(leaf.shape) >= FSDP_FLOOR:
            for dim in sorted(range(len(leaf.shape)), key=lambda d: -leaf.shape[d]):
                if leaf.shape[dim] % fsdp == 0:
                    return NamedSharding(mesh, PartitionSpec(*[None] * dim, "fsdp"))
        return replicated(mesh)

    return jax.tree.map(leaf_sharding, tree)


def gathered(tree: Any) -> Any:
    """Inside jit: whole copies of sharded parameters, made at the top of the loss.

    Left to itself XLA propagates the parameters' sharding into convolutions and rematerialises activations instead.
    """
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def split_batch(tree: Any) -> Any:
    """Inside jit: the first axis of each leaf split over all devices."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES)), tree)


def to_global(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch -> global arrays split over all devices."""
    sharding = batch_sharding(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def to_host(tree: Any) -> Any:
    """Arrays that are whole on every device -> NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def local_mesh() -> Mesh:
    """The mesh over this process's devices alone, for work that processes do each at its own pace."""
    devices = np.array(jax.local_devices()).reshape(-1, 1)
    return Mesh(devices, BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


def to_local(tree: Any, mesh: Mesh, local: Mesh) -> Any:
    """Arrays on `mesh`, sharded or not -> whole copies on every device of `local`. Every process must take part."""
    whole = jax.jit(lambda t: t, out_shardings=replicated(mesh))(tree)
    return replicate(jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), whole), local)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """NumPy arrays -> whole copies on every device of `mesh`."""
    return jax.device_put(tree, replicated(mesh))


def sum_over_processes(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums of int64 arrays over all processes, which all have the same names and shapes."""
    if jax.process_count() == 1:
        return counts
    from jax.experimental import multihost_utils

    # JAX would cut int64 to int32: halves travel as they are.
    halves = {k: np.ascontiguousarray(v, np.int64).view(np.uint32) for k, v in counts.items()}
    gathered_halves = multihost_utils.process_allgather(halves)
    return {k: np.ascontiguousarray(v).view(np.int64).sum(0) for k, v in gathered_halves.items()}


def use_mesh(mesh: Mesh):
    """Context in which bare PartitionSpecs refer to `mesh`."""
    return jax.set_mesh(mesh)


def process_index() -> int:
    return jax.process_index()


def process_count() -> int:
    return jax.process_count()


def is_main_process() -> bool:
    """True in the one process that writes files other than checkpoints."""
    return jax.process_index() == 0


def collectives(hlo: str) -> collections.Counter:
    """How often each collective operation occurs in a compiled program's text."""
    names = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    return collections.Counter(re.findall(rf"= .*? ({names})(?:-start)?\(", hlo))


def start(compiled: Path) -> None:
    """Joins the processes of a multi-host job, and keeps compiled programs in the folder `compiled`.

    JAX_COMPILATION_CACHE_DIR, where set, names another folder.

    A job of several processes is recognised by JAX_COORDINATOR_ADDRESS (with JAX_NUM_PROCESSES and JAX_PROCESS_ID), by
    a cluster manager that jax.distributed knows (SLURM with more than one task, a TPU pod), never guessed.
    """
    environment = os.environ
    if "JAX_COMPILATION_CACHE_DIR" not in environment:  # a restart, or a second run of one config, compiles nothing
        jax.config.update("jax_compilation_cache_dir", str(compiled))
    explicit = "JAX_COORDINATOR_ADDRESS" in environment
    slurm = int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment
    tpu_pod = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    if explicit:
        missing = [k for k in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if k not in environment]
        if missing:
            raise UserError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} is not; set all three")
        jax.distributed.initialize(
            environment["JAX_COORDINATOR_ADDRESS"],
            num_processes=int(environment["JAX_NUM_PROCESSES"]),
            process_id=int(environment["JAX_PROCESS_ID"]),
            initialization_timeout=60,
        )
    elif slurm or tpu_pod:
        jax.distributed.initialize(initialization_timeout=60)
