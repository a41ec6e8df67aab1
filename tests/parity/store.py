"""Writes tests/data/reference.npz: transformers' outputs and gradients in float64 for the networks of `common.py`.

`python tests/parity/store.py` in an environment with torch and transformers; the versions are stored with the numbers. Read by
tests/nets/test_stored.py, which needs neither.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import common
import live
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from genseg import exchange

TARGET = Path(__file__).parents[1] / "data" / "reference.npz"


def stored(name: str) -> dict[str, np.ndarray]:
    """Of a segmenter the numbers of training, and the logits of evaluation."""
    backbone, kind, (batch, *size, channels) = common.CASES[name]
    _, params, stats, image = common.network(name)
    case = live.Case(backbone, size, kind, "huggingface", channels, common.CLASSES, batch)
    empty = live.reference(case, params)
    with tempfile.TemporaryDirectory() as folder:
        save_file(
            exchange.export(params, stats, backbone, "huggingface"), f"{folder}/model.safetensors", {"format": "pt"}
        )
        model = type(empty).from_pretrained(folder, config=empty.config).double()
    found = {"evaluation": live.torch_results(case, model, params, image).outputs["logits"].astype(np.float32)}
    result = live.torch_results(replace(case, train=kind == "segmenter"), model, params, image)
    found |= {f"outputs/{path}": value for path, value in result.outputs.items()}
    return found | {f"gradients/{path}": value for path, value in common.sampled(result.gradients).items()}


if __name__ == "__main__":
    numbers = {f"{name}:{key}": value for name in common.CASES for key, value in stored(name).items()}
    numbers["versions"] = np.array([f"torch {torch.__version__}", f"transformers {transformers.__version__}"])
    np.savez_compressed(TARGET, **numbers)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, {', '.join(numbers['versions'])}")
