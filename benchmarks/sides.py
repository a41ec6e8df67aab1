"""genseg's and timm's sides of a `job.Job`, each a process of its own: their libraries' threads, memory and CUDA do not meet."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from job import Job

HERE = Path(__file__).resolve()


def serve(program: str, job: Job, weights: Path, compiled: bool, kept: bool) -> None:
    """The child: builds its side, then does the job as often as each line of its input says."""
    if kept:
        from genseg import memory

        memory.keep_freed()
    flops, device = 0.0, "?"
    if program == "genseg":
        import jax
        import side_genseg

        call, tensors, flops = side_genseg.build(job)
        side_genseg.write_weights(tensors, weights)
        device = jax.devices()[0].device_kind
    else:
        import side_timm
        import torch

        call = side_timm.build(job, weights, compiled=compiled)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"flops": flops, "device": device}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        answer = call(int(line))
        spent = time.perf_counter() - began
        print(json.dumps({"seconds": spent, "answer": np.asarray(answer, np.float64).tolist()}), flush=True)


class Side:
    """A child and what it `said` first: its FLOPs (genseg's alone) and device.

    program: "genseg", which writes `weights` and comes first, or "timm", which reads them. kept: it keeps freed memory
    (`genseg.memory.keep_freed`), as genseg's commands do and programs on torch do not.
    """

    def __init__(
        self, program: str, job: Job, weights: Path, *, python: str = sys.executable, compiled: bool = False, kept: bool = False
    ):  # fmt: skip
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": str(HERE.parents[1])}
        about = json.dumps([program, dataclasses.asdict(job), str(weights), compiled, kept])
        self.process = subprocess.Popen(
            [python, str(HERE), about], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.said = self._read()

    def _read(self) -> dict:
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # libraries print, too
                said = json.loads(line)
                if isinstance(said, dict):
                    return said
        raise SystemExit(f"A side ended with status {self.process.wait()}: its message is above.")

    def run(self, times: int) -> dict:
        """Does the job so often: the "seconds" that took and the last "answer"."""
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    program, job, weights, *how = json.loads(sys.argv[1])
    serve(program, Job(**job), Path(weights), *how)
