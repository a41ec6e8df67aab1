"""Inference and training step of ConvNeXt-T and Swin-T beside timm's on torch, with the same weights and images.

timm: channels-last memory format, eager, and at 224 pixels `torch.compile` too. genseg's training step also keeps metrics.
Swin at 64 pixels is left out: where a map is smaller than a window, timm's has other weights. Its large image has 448 pixels
instead of 512, which windows of 7 divide: timm pads after it has shifted, the published code before, so that they differ.
`python benchmarks/depthwise.py` times the forms of the depthwise convolution alone.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import measure
import numpy as np
import side_genseg
from job import Job, same

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
NOTES: list[str] = []


def case(job: Job, folder: Path) -> measure.Case:
    ours, weights, _ = side_genseg.build(job)
    answers, paths = {}, {}
    sides = {"genseg": ours}
    if importlib.util.find_spec("timm") and importlib.util.find_spec("torch"):
        import side_timm

        side_genseg.write_weights(weights, folder / "weights.safetensors")
        sides["timm, channels last"] = side_timm.build(job, folder / "weights.safetensors", compiled=False)
        if job.size == 224:
            sides["timm, torch.compile"] = side_timm.build(job, folder / "weights.safetensors", compiled=True)

    def alike() -> str:
        answers.update({name: np.asarray(call(1)) for name, call in sides.items()})
        ours, *theirs = answers.values()
        return "; ".join(same(ours, other, job.dtype) for other in theirs)

    for name, call in sides.items():
        paths[name] = functools.partial(call, 1)
    reach = "1.0 of the best" if job.train else "1.2 of the best"
    return measure.Case(job.name, paths, "images/s", "wall", alike, amount=job.batch, reach=reach, rounds=7)


def cases() -> Iterator[measure.Case]:
    with tempfile.TemporaryDirectory() as folder:
        for job in JOBS:
            yield case(job, Path(folder))
            jax.clear_caches()
