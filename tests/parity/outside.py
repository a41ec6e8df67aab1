"""Loads what genseg exports in other libraries: `python tests/parity/outside.py [--image PHOTO]`; one line a check, exit status
1 on a failure.

Needs torch, transformers, timm, jax2onnx and onnxruntime beside genseg. Checked are timm.create_model(in_chans=n) and
transformers' from_pretrained on exported folders (same outputs as genseg, and for UperNet the same class map of a photograph
given as --image, else of noise), the round trip timm -> genseg -> timm bit by bit, and ONNX in onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from common import relative
from live import BOUND, CASES, build, randomise, reference, saved_tensors, without_torchvision
from safetensors.numpy import load_file, save_file

from genseg import exchange, nets
from genseg.exchange import programs


def saved(case, folder: Path):
    """A network with the reference's random weights, and its export in `folder`."""
    net, params, stats = build(case)
    model = reference(case, params)
    randomise(model, case.seed)
    save_file(saved_tensors(case, model), folder / "model.safetensors")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), (params, stats))
    params, stats, _ = exchange.adopt(*zeros, str(folder))
    classes = [f"class {i}" for i in range(case.classes)]
    save_file(
        exchange.export(params, stats, case.backbone, case.library), folder / "model.safetensors", {"format": "pt"}
    )
    config = exchange.config(params, case.backbone, case.library, classes)
    (folder / "config.json").write_text(json.dumps(config))
    return net, params, stats, config


def timm_loads(name: str) -> tuple[str, float]:
    case, timm = CASES[name], without_torchvision()
    with tempfile.TemporaryDirectory() as folder:
        net, params, stats, config = saved(case, Path(folder))
        extra = {"img_size": case.size} if "swin" in name else {}
        model = timm.create_model(
            config["architecture"], **config["model_args"], **extra, checkpoint_path=f"{folder}/model.safetensors"
        )
    image = np.random.default_rng(0).normal(size=(1, *case.size, case.channels)).astype("f4")
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).numpy()
    found = jax.jit(partial(net.apply, train=False))(params, stats, image)[0]
    return f"{case.name}: timm.create_model(in_chans={case.channels}) loads the export", relative(found, expected)


def timm_round_trip(name: str) -> tuple[str, float]:
    case = CASES[name]
    _, params, stats = build(case)
    model = reference(case, params)
    randomise(model, 0)
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": model.state_dict()}, f"{folder}/model.pth")
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), (params, stats))
        params, stats, _ = exchange.adopt(*zeros, f"{folder}/model.pth")
        save_file(exchange.export(params, stats, case.backbone, "timm"), f"{folder}/back.safetensors")
        after = load_file(f"{folder}/back.safetensors")
    before = {k: v for k, v in before.items() if k in after or not exchange.names.IDLE.fullmatch(k)}
    equal = before.keys() == after.keys() and all(np.array_equal(before[k], after[k]) for k in after)
    return f"{case.name}: timm -> .pth -> genseg -> timm, bit by bit", 0.0 if equal else 1.0


def transformers_load(name: str, picture: str | None) -> tuple[str, float]:
    case = CASES[name]
    size = case.size
    if picture:
        from PIL import Image

        with Image.open(picture) as opened:
            rgb = np.asarray(opened.convert("RGB").resize((size[1], size[0])), "f4")[None]
        image = (np.concatenate([rgb, rgb], -1)[..., : case.channels] - 120) / 58
    else:
        image = np.random.default_rng(0).normal(size=(1, *size, case.channels))
    image = image.astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        net, params, stats, config = saved(case, Path(folder))
        kind = getattr(transformers, config["architectures"][0])
        model, loading = kind.from_pretrained(folder, output_loading_info=True)
    found = jax.jit(partial(net.apply, train=False))(params, stats, image)[0]
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).logits.numpy()
    idle = [k for k in loading["missing_keys"] if not exchange.names.IDLE.fullmatch(k)]
    if idle or loading["unexpected_keys"]:
        return f"{case.name}: keys {idle[:2]} {list(loading['unexpected_keys'])[:2]} do not fit", 1.0
    if case.kind == "classifier":
        return f"{case.name}: from_pretrained loads the export", relative(found, expected)
    full = nets.resizing.resize(found["logits"], *size)
    expected = expected.transpose(0, 2, 3, 1)
    agree = float((np.asarray(full).argmax(-1) == expected.argmax(-1)).mean())
    classes = len(np.unique(expected.argmax(-1)))
    what = f"class maps agree on {agree:.2%} of the pixels, {classes} classes"
    return f"{case.name}: from_pretrained loads the export, {what}", relative(full, expected) if agree > 0.9999 else 1.0


def onnx_runs(name: str) -> tuple[str, float]:
    import onnxruntime

    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        _, params, stats, _ = saved(case, Path(folder))
    net = build(case, fusion="resized")[0]  # as exports are made
    run = programs.program(net, params, stats, [1.0] * case.channels, [2.0] * case.channels)
    image = np.random.default_rng(0).normal(size=(1, *case.size, case.channels)).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        programs.to_onnx(run, case.channels, case.size, f"{folder}/net.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", options)
        found = session.run(None, {session.get_inputs()[0].name: image})[0]
    return f"{case.name}: ONNX in onnxruntime", relative(found, np.asarray(jax.jit(run)(image)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="photograph for the class maps")
    picture = parser.parse_args().image
    logging.disable(logging.WARNING)
    checks = [
        *(partial(timm_round_trip, name) for name in ("convnext-timm", "atto-timm", "swin-timm")),
        *(partial(timm_loads, name) for name in ("convnext-timm", "atto-timm", "swin-timm")),
        *(
            partial(transformers_load, name, picture)
            for name in ("convnext", "swin", "upernet-convnext", "upernet-swin")
        ),
        *(partial(onnx_runs, name) for name in ("upernet-convnext", "upernet-swin")),
    ]
    failed = 0
    for check in checks:
        text, difference = check()
        failed += not difference < BOUND
        print(f"{'ok  ' if difference < BOUND else 'FAIL'} {text}: {difference:.1e}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
