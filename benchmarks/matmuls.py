"""How fast products of matrices of a backbone's sizes are on this CPU: torch's library beside XLA's two.

    .venv-bench/bin/python benchmarks/matmuls.py              # after `make bench`; half a minute

Billions of float32 operations a second, all cores, the best of some calls: the MLPs of ConvNeXt-T and Swin-T for 8 images of
224 pixels, without gradients. "XLA, Eigen" is what programs without gradients are compiled with (`genseg/compiling.py`), "XLA" what it
takes by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import jax
import torch

from genseg import compiling, memory, partition

SHAPES = [
    (25088, 96, 384), (25088, 384, 96), (6272, 192, 768), (6272, 768, 192),
    (1568, 384, 1536), (1568, 1536, 384), (392, 768, 3072), (392, 3072, 768),
]  # fmt: skip
CALLS = 12


def rate(call: Callable[[], object], rows: int, inputs: int, outputs: int) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 2e-9 * rows * inputs * outputs / min(times)


def main() -> None:
    memory.keep_freed()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print("| rows x inputs x outputs | torch | XLA | XLA, Eigen |\n|---|--:|--:|--:|")
    told = ({}, compiling.forward_options(partition.make_mesh()))
    multiply = [jax.jit(lambda x, w: x @ w, compiler_options=options) for options in told]
    for rows, inputs, outputs in SHAPES:
        x, w = torch.ones(rows, inputs), torch.ones(inputs, outputs)
        y = torch.empty(rows, outputs)
        rates = [rate(lambda x=x, w=w, y=y: torch.matmul(x, w, out=y), rows, inputs, outputs)]
        for call in multiply:
            a, b = jax.numpy.asarray(x.numpy()), jax.numpy.asarray(w.numpy())
            rates.append(rate(lambda f=call, a=a, b=b: f(a, b).block_until_ready(), rows, inputs, outputs))
        print(f"| {rows} x {inputs} x {outputs} | " + " | ".join(f"{r:.0f}" for r in rates) + " |", flush=True)


if __name__ == "__main__":
    main()
