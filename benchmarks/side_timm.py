"""timm's side of a `job.Job`, on torch: needs torch, timm and safetensors, not genseg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from job import CLASSES, DECAY, MEAN, RATE, SMOOTHING, STD, Job
from safetensors.torch import load_file


def build(job: Job, weights: Path, *, compiled: bool) -> Callable[[int], np.ndarray]:
    """call(n) as in `side_genseg.build`; channels last, bfloat16 by autocast with float32 weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, extra = job.backbone, {}
    if name.startswith("swin"):
        name, extra = f"{name}_patch4_window7_224", {"img_size": job.size}
    model = timm.create_model(name, num_classes=CLASSES, drop_path_rate=0.0, **extra)  # Swin has 0.1 of its own
    missing, unknown = model.load_state_dict(load_file(weights), strict=False)
    buffers = dict(model.named_buffers())
    assert not unknown and all(key in buffers for key in missing), (missing, unknown)
    model = model.to(device, memory_format=torch.channels_last).train(job.train)
    image, label = job.data()
    pixels = (image / 255.0 - MEAN) / STD
    pixels = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
    label = torch.from_numpy(label).long().to(device)
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY) if job.train else None
    autocast = torch.autocast(device, torch.bfloat16, enabled=job.dtype == "bfloat16")

    def step() -> torch.Tensor:
        with autocast:
            logits = forward(pixels)
        loss = torch.nn.functional.cross_entropy(logits.float(), label, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def infer() -> torch.Tensor:
        with autocast:
            return forward(pixels).float()

    def call(times: int) -> np.ndarray:
        for _ in range(times):
            out = step() if job.train else infer()
        return out.cpu().numpy()

    return call
