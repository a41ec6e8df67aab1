"""Everything that names devices: mesh, sharding, process start and host synchronisation. What the processes of a job
tell each other without a device is in `processes`."""

from __future__ import annotations

import atexit
import dataclasses
import importlib.util
import math
import os
import re
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genseg import processes
from genseg.errors import TryAgain, UserError

BATCH_AXES = ("data", "fsdp")
JOIN_SECONDS = 50  # for all processes of a job to meet
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
    slices = len({getattr(device, "slice_index", None) for device in found})
    if slices == 1:
        return jax.make_mesh(tuple(sizes), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=found)
    if sizes[0] % slices:
        raise UserError(
            f"mesh data={sizes[0]} does not divide over {slices} TPU slices; make it a multiple of {slices}: between slices "
            "only gradients travel, parameters are spread (fsdp) inside a slice"
        )
    within = mesh_utils.create_hybrid_device_mesh((sizes[0] // slices, sizes[1]), (slices, 1), found)
    return Mesh(within, BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


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


def blocks(mesh: Mesh) -> tuple[int, ...]:
    """Which of the `mesh.size` equal blocks of a global batch's rows lie on this process's devices, in rising order.

    A mesh follows the wires: on a TPU slice a process's devices do not stand side by side in it. Were each process to read
    a run of rows, a record's row, and with it what is drawn for it, would depend on the slice.
    """
    return tuple(i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index())


def to_global(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch, those of its `blocks` one after the other -> global arrays split over all devices."""
    sharding, devices = batch_sharding(mesh), [mesh.devices.flat[i] for i in blocks(mesh)]

    def spread(rows: np.ndarray) -> jax.Array:
        shape = (len(rows) // len(devices) * mesh.size, *rows.shape[1:])
        parts = [
            jax.device_put(part, device) for part, device in zip(np.split(rows, len(devices)), devices, strict=True)
        ]
        return jax.make_array_from_single_device_arrays(shape, sharding, parts)

    return {k: spread(v) for k, v in batch.items()}


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


@dataclasses.dataclass(frozen=True)
class Job:
    """This process's place in a job of several. coordinator: host:port of process 0. local_devices: None = all."""

    coordinator: str
    count: int
    index: int
    local_devices: tuple[int, ...] | None


def start(compiled: Path) -> None:
    """Joins the processes of a job, and keeps compiled programs in the folder `compiled`.

    Every process runs the same command. How many there are is read from the environment, never guessed:

    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...), all three;
      where set they count, whatever else is set.
    SLURM, tasks started by srun: SLURM_NTASKS, SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NODELIST and SLURM_JOB_ID. One
      task a node sees all its GPUs; of several tasks a node each takes one.
    Cloud TPU: on GKE (XPK, JobSet) TPU_WORKER_HOSTNAMES, with several slices MEGASCALE_NUM_SLICES; on TPU VMs the
      machine's metadata server (address in GCE_METADATA_IP, if set; TPU_SKIP_MDS_QUERY keeps from asking it).
    JAX_LOCAL_DEVICE_IDS ("0,1") restricts the devices of this process. JAX_COMPILATION_CACHE_DIR, where set, replaces
    the folder `compiled`.

    A process that has not met all others after JOIN_SECONDS ends with one sentence and status 75. From then on each
    watches the others: see `genseg.processes`. Raises UserError for variables that are missing or contradict each other.
    """
    environment = os.environ
    if "JAX_COMPILATION_CACHE_DIR" not in environment:  # a restart, or a second run of one config, compiles nothing
        jax.config.update("jax_compilation_cache_dir", str(compiled))
    job = job_of(environment)
    if job is not None:
        _join(
            f"{job.count} processes (this is process {job.index}, the coordinator {job.coordinator})",
            coordinator_address=job.coordinator, num_processes=job.count, process_id=job.index,
            local_device_ids=job.local_devices, cluster_detection_method="deactivate",
        )  # fmt: skip
    elif is_tpu_pod(environment):
        _join("the hosts of this TPU pod")
    if process_count() > 1:
        processes.check_count(process_count() if job is None else job.count)
        processes.watch()
        atexit.register(processes.finish)  # runs before JAX's own, which waits for all processes


def job_of(environment: Mapping[str, str]) -> Job | None:
    """What JAX_* or SLURM_* variables say, or None. Raises UserError where they are incomplete or impossible."""

    def integer(name):
        try:
            return int(environment[name])
        except ValueError:
            raise UserError(f"{name} is '{environment[name]}'; set it to a whole number") from None

    said = environment.get("JAX_LOCAL_DEVICE_IDS", "")
    if not re.fullmatch(r"[\d, ]*", said, re.ASCII):
        raise UserError(f"JAX_LOCAL_DEVICE_IDS is '{said}'; give numbers of devices such as 0,1")
    devices = tuple(int(i) for i in said.split(",") if i.strip()) or None
    explicit = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    slurm = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
    if explicit[0] in environment:
        names, mend = explicit, "set all three"
    elif environment.get("SLURM_NTASKS") and integer("SLURM_NTASKS") > 1 and "SLURM_PROCID" in environment:
        names, mend = slurm, "start the tasks with srun, or set SLURM_NTASKS=1 for a single process"
    else:
        return None
    if missing := [name for name in names if name not in environment]:
        raise UserError(f"{names[0]} is set but {' and '.join(missing)} is not; {mend}")
    if names is explicit:
        job = Job(environment[names[0]], integer(names[1]), integer(names[2]), devices)
        port = re.fullmatch(r".+:(\d{1,5})", job.coordinator, re.ASCII)
        if not port or not 0 < int(port[1]) < 65536:
            raise UserError(f"{names[0]} is '{job.coordinator}'; give host:port of process 0")
    else:
        # node001 of "node001", "node001,x", "node[001-015],x" and "node[001,007-015]"; JAX's choice of a port.
        nodes = re.match(r"([^,\[]+)(?:\[([^],-]+))?", environment[names[3]])
        if nodes is None:
            raise UserError(
                f"{names[3]} is '{environment[names[3]]}'; start the tasks with srun, which lists the nodes there"
            )
        prefix, first = nodes.groups()
        port = 61440 + integer(names[4]) % 4096
        count = next((name for name in ("SLURM_STEP_NUM_NODES", "SLURM_NNODES") if environment.get(name)), None)
        nodes = integer(count) if count else 1
        shared = integer(names[0]) > nodes and len(environment.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")) > 1
        devices = devices or ((integer(names[2]),) if shared else None)
        job = Job(f"{prefix}{first or ''}:{port}", integer(names[0]), integer(names[1]), devices)
    if not 0 <= job.index < job.count:
        raise UserError(f"{names[2] if names is explicit else names[1]} is {job.index} but the processes are {job.count}; "
                        f"number them 0 to {job.count - 1}")  # fmt: skip
    return job


def is_tpu_pod(environment: Mapping[str, str]) -> bool:
    """Whether this machine is one of several hosts of a TPU slice, or of several slices."""
    slices = environment.get("MEGASCALE_NUM_SLICES") or "1"
    if not (slices.isascii() and slices.isdigit()):
        raise UserError(f"MEGASCALE_NUM_SLICES is '{slices}'; set it to a whole number")
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or int(slices) > 1:
        return True
    platforms = environment.get("JAX_PLATFORMS", "")
    if (platforms and "tpu" not in platforms) or "TPU_SKIP_MDS_QUERY" in environment:
        return False
    if importlib.util.find_spec("libtpu") is None:
        return False
    host = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    address = f"http://{host}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    try:
        request = urllib.request.Request(address, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=3) as answer:
            return "," in answer.read().decode()
    except OSError:  # not a Cloud TPU VM
        return False


def _join(whom: str, **how: Any) -> None:
    """jax.distributed.initialize, ended by one sentence instead of an abort when it does not come about."""
    late = f"not all of {whom} have met within {JOIN_SECONDS} s; start all of them, or correct their number"
    timer = threading.Timer(JOIN_SECONDS, lambda: processes.leave(TryAgain(late)))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(initialization_timeout=4 * JOIN_SECONDS, **how)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this job do not find each other: {' '.join(str(error).split())}") from None
    finally:
        timer.cancel()
