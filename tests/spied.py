"""`python tests/spied.py OUT ARGUMENTS...`: genseg.main with a narrow network under the name of the demo's, which
compiles in seconds, and whose parameters are spread over devices although they are small; OUT "-", or a folder for what
each process saw, OUT/PROCESS.json:

{"order": index lists of this process's rows of the training batches, "counts": counts of each evaluation pass}

and OUT/evaluating, which is there while process 0 evaluates. CLOCK_OFFSET: seconds by which the clock is wrong.
CROSSED: processes' devices alternate in the mesh, as they may on a TPU slice.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import tiny
from jax.sharding import Mesh

from genseg import evaluate, inputs, main, nets, partition


def spy(evaluating: Path | None) -> dict:
    seen = {"order": [], "counts": []}
    train_batches, call = inputs.Inputs.train_batches, evaluate.Evaluation.__call__

    def seen_batches(self, *, start, mesh):
        for batch in train_batches(self, start=start, mesh=mesh):
            seen["order"].append(batch["index"].tolist())
            yield batch

    def seen_call(*arguments):
        if evaluating is not None and partition.is_main_process():
            evaluating.touch()
        counts = call(*arguments)
        if evaluating is not None and partition.is_main_process():
            evaluating.unlink()
        seen["counts"].append({name: value.tolist() for name, value in counts.items()})
        return counts

    inputs.Inputs.train_batches, evaluate.Evaluation.__call__ = seen_batches, seen_call
    return seen


def cross() -> None:
    make_mesh = partition.make_mesh

    def crossed(*sizes) -> Mesh:
        mesh = make_mesh(*sizes)
        flat = mesh.devices.reshape(2, -1).T  # two processes
        return Mesh(np.reshape(flat, mesh.devices.shape), mesh.axis_names, axis_types=mesh.axis_types)

    partition.make_mesh = crossed


if __name__ == "__main__":
    if "CROSSED" in os.environ:
        cross()
    real_time, offset = time.time, float(os.environ.get("CLOCK_OFFSET", "0"))
    time.time = lambda: real_time() + offset
    out = None if sys.argv[1] == "-" else Path(sys.argv[1])
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    seen = spy(out and out / "evaluating")
    nets.BACKBONES["convnext_micro"] = tiny.narrow
    partition.FSDP_FLOOR = 256
    try:
        main.run([sys.argv[0], *sys.argv[2:]])
    finally:
        if out is not None:
            (out / f"{partition.process_index()}.json").write_text(json.dumps(seen))
