"""Images a second and share of the chip's peak, genseg beside timm eager and torch.compile: bfloat16, channels last, same batch.

    make bench-gpu                                   # sets up both environments; ConvNeXt-T and Swin-T at 224 pixels
    make bench-gpu ARGS="--batch 64 --peak 312e12"
    make bench-gpu ARGS="--size 32 --batch 2"        # small enough for a CPU, to see that it runs

Each side is a process of its own, since JAX and torch bring CUDA libraries of different versions: genseg in the environment that
runs this script, timm in that of --peers. Both keep their data on the device. They work turn by turn; before that their first
answers, from the same weights and images, are compared. FLOPs are genseg's matrix products and convolutions, for both; where
the chip's peak is not known the share is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from job import Job, same
from sides import Side

# Dense bfloat16 FLOP/s as published (NVIDIA's data sheets: H100/H200 SXM, A100, L40S, L4).
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
PATHS = ("genseg", "timm, eager", "timm, torch.compile")


def compared(job: Job, peers: str, rounds: int, seconds: float) -> Iterator[str]:
    """Lines of the table: images a second by each path."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        weights = Path(folder) / "weights.safetensors"
        sides = {}
        for path in PATHS:
            python = sys.executable if path == "genseg" else peers
            sides[path] = Side(
                path.split(",")[0],
                job,
                weights,
                python=python,
                compiled=path.endswith("compile"),
                kept=path == "genseg",
            )
            stack.callback(sides[path].close)
        first = {path: np.asarray(side.run(1)["answer"]) for path, side in sides.items()}
        apart = [same(first["genseg"], first[path], job.dtype) for path in PATHS[1:]]
        for side in sides.values():
            side.run(2)
        one = max(side.run(1)["seconds"] for side in sides.values())
        times = max(1, int(seconds / one))
        rates: dict[str, list[float]] = {path: [] for path in PATHS}
        for _ in range(rounds):
            for path, side in sides.items():
                rates[path].append(times * job.batch / side.run(times)["seconds"])
        said = sides["genseg"].said
        best = max(statistics.median(rates[path]) for path in PATHS[1:])
        device = said["device"]
        # "L4" is in "L40S": the longest name that fits.
        peak = OPTIONS.peak or PEAKS.get(max((n for n in PEAKS if n in device), key=len, default=""), 0.0)
        for path, found in rates.items():
            middle = statistics.median(found)
            share = f"{100 * middle * said['flops'] / job.batch / peak:.1f} %" if peak else "-"
            ratio = f"{middle / best:.2f} of the best of timm" if path == "genseg" else ""
            what = job.name if path == "genseg" else ""
            yield f"| {what} | {path} | {middle:.1f} | {min(found):.1f} | {max(found):.1f} | {share} | {ratio} |"
        yield f"<!-- first answers of {job.name}, on {device}: {', '.join(apart)} -->"


def main() -> None:
    print(
        "| what | by | images/s, median | lowest | highest | of the peak | genseg |\n|---|---|--:|--:|--:|--:|---|",
        flush=True,
    )
    for backbone in OPTIONS.backbones:
        for train in (False, True):
            job = Job(backbone, OPTIONS.size, OPTIONS.batch, OPTIONS.dtype, train)
            for line in compared(job, OPTIONS.peers, OPTIONS.rounds, OPTIONS.seconds):
                print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="the Python that has torch and timm")
    parser.add_argument("--backbones", nargs="+", default=["convnext_tiny", "swin_tiny"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the slowest path in a round")
    parser.add_argument("--peak", type=float, default=0.0, help="the chip's dense FLOP/s, where PEAKS lacks it")
    OPTIONS = parser.parse_args()
    main()
