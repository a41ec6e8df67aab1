"""Inference and training step of ConvNeXt-T and Swin-T beside timm's on torch, with the same weights and images.

timm: channels-last memory format, eager, and at 224 pixels `torch.compile` too. genseg's training step also keeps metrics.
Each side is a process of its own that begins as its users' do: genseg's commands have glibc keep freed memory, in huge pages,
programs on torch do not. "memory kept" is timm in a process where genseg has done so, which tells the networks apart from that.
Swin at 64 pixels is left out: where a map is smaller than a window, timm's has other weights. Its large image has 448 pixels
instead of 512, which windows of 7 divide: timm pads after it has shifted, the published code before, so that they differ.
`python benchmarks/depthwise.py` times the forms of the depthwise convolution alone.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import measure
import numpy as np
from job import Job, same
from sides import Side

JOBS = tuple(
    Job(backbone, size, batch, "float32", train)
    for backbone in ("convnext_tiny", "swin_tiny")
    for size, batch, train in (
        (64, 32, False),
        (224, 8, False),
        (512 if backbone == "convnext_tiny" else 448, 1, False),
        (64, 32, True),
        (224, 8, True),
    )
    if (backbone, size) != ("swin_tiny", 64)
)
EAGER = "timm, channels last"


def case(job: Job, weights: Path, stack: contextlib.ExitStack) -> measure.Case:
    sides = {"genseg": Side("genseg", job, weights, kept=True)}
    if importlib.util.find_spec("timm") and importlib.util.find_spec("torch"):
        sides[EAGER] = Side("timm", job, weights)
        sides[f"{EAGER}, memory kept"] = Side("timm", job, weights, kept=True)
        if job.size == 224:
            sides["timm, torch.compile"] = Side("timm", job, weights, compiled=True)
    for side in sides.values():
        stack.callback(side.close)

    def alike() -> str:
        ours, *theirs = (np.asarray(side.run(1)["answer"]) for side in sides.values())
        return "; ".join(same(ours, other, job.dtype) for other in theirs)

    paths = {name: functools.partial(side.run, 1) for name, side in sides.items()}
    reach = "1.0 of the best" if job.train else "1.2 of the best"
    return measure.Case(job.name, paths, "images/s", "wall", alike, amount=job.batch, reach=reach, rounds=7)


def cases() -> Iterator[measure.Case]:
    for job in JOBS:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            yield case(job, Path(folder) / "weights.safetensors", stack)
