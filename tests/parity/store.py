"""Writes tests/data/reference.npz: outputs and gradients of transformers' networks for the weights of `tiny.py`.

`python tests/parity/store.py` in an environment with torch and transformers; the versions are stored with the numbers. Read by
tests/nets/test_stored.py, which needs neither.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tiny
import torch
import transformers
from live import channels_last
from safetensors.numpy import load_file, save_file

from genseg import exchange
from genseg.exchange import names

TARGET = Path(__file__).parents[1] / "data" / "reference.npz"


def stored(name: str) -> dict[str, np.ndarray]:
    backbone, kind, _ = tiny.CASES[name]
    _, params, stats, image = tiny.network(name)
    config = exchange.config(params, backbone, "huggingface", [str(i) for i in range(tiny.CLASSES)])
    with tempfile.TemporaryDirectory() as folder:
        save_file(exchange.export(params, stats, backbone, "huggingface"), f"{folder}/model.safetensors", {"format": "pt"})
        settings = transformers.AutoConfig.for_model(**config)
        model = getattr(transformers, config["architectures"][0]).from_pretrained(folder, config=settings).eval()
    pixels = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    result = {}
    if kind == "classifier":
        logits = model(pixels).logits
        result["logits"] = channels_last(logits)
        logits.square().mean().backward()
    else:
        maps = model.backbone(pixels).feature_maps
        result["logits"] = channels_last(model.decode_head(maps))
        model.decode_head.train(), model.auxiliary_head.train()
        result["training logits"] = channels_last(model.decode_head(maps))
        aux = model.auxiliary_head(maps)
        result["aux"] = channels_last(aux)
        aux.square().mean().backward()
    entries = names.table("huggingface", names.shape_of(params))
    tensors = on_disk(model)
    result |= {e.path: e.load(tensors[e.keys[0]]) for e in entries if e.path.startswith("stats/")}
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.zeros_like(value) if value.grad is None else value.grad)
    tensors = on_disk(model)
    gradients = {
        e.path.removeprefix("params/"): e.load(*(tensors[k] for k in e.keys))
        for e in entries
        if e.path.startswith("params/")
    }
    return result | tiny.sampled(gradients)


def on_disk(model: torch.nn.Module) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


if __name__ == "__main__":
    numbers = {f"{name}:{key}": value for name in tiny.CASES for key, value in stored(name).items()}
    numbers["versions"] = np.array([f"torch {torch.__version__}", f"transformers {transformers.__version__}"])
    np.savez_compressed(TARGET, **numbers)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, {', '.join(numbers['versions'])}")
