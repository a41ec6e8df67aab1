"""Milliseconds of a training step on the device at hand, ours beside timm's on torch, in one process and turn by turn.

    python benchmarks/train_step.py                                       # ConvNeXt-T, 224 pixels
    python benchmarks/train_step.py --backbone swin_tiny --batch 8
    pip install torch timm                                                # the peers; without them only ours is timed

Both take a batch that lies in the device's memory already. timm's step is what its train.py does with it: forward, soft
cross-entropy, backward, AdamW; in eager mode, with images in either memory format, and with `torch.compile` on request.
Ours is the whole jitted step of configs/pretrain.py, which besides normalises, shuffles channels (CSP), erases, mixes,
and keeps the moving averages of the weights. `--plain` leaves those out, for a like for like comparison of networks.
What is compared is the median over the repetitions; the spread is printed too.
"""

import argparse
import functools
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from genseg import inputs, partition, state
from genseg.design import make_design
from genseg.report import step_metrics

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "parity")]
from configs import pretrain  # noqa: E402 (no part of the installed package)

CLASSES = 1000


def ours(options: argparse.Namespace, image: np.ndarray, label: np.ndarray) -> Callable[[], float]:
    """One step of genseg a call; its loss."""
    objective = "rgb" if options.channels == 3 else "csp"
    config = pretrain.get_config(f"{options.backbone},channels={options.channels},objective={objective}")
    config.train.batch_size, config.augment.size, config.model.dtype = options.batch, options.size, options.dtype
    config.optim.scaling = "none"
    if options.plain:
        config.mixing.prob = config.erasing.prob = config.ema.decay = 0.0
    mesh = partition.make_mesh()
    design = make_design(config, inputs.card_without_data(config), mesh)
    use_ema = config.ema.decay > 0
    init = jax.jit(functools.partial(state.init, design.task.net, optimizer=design.optimizer, ema=use_ema))
    now = {"state": init(jax.random.key(0)), "metrics": step_metrics.fresh_metrics(mesh)}
    batch = {"image": image, "label": label, "valid": np.ones(len(label), bool), "index": np.arange(len(label))}
    batch = partition.to_global(batch, mesh)

    def step() -> float:
        with partition.use_mesh(mesh):
            now["state"], now["metrics"] = design.train_step(now["state"], now["metrics"], batch)
            return float(jax.block_until_ready(now["metrics"].loss.total))

    return step


def timm_step(options: argparse.Namespace, image: np.ndarray, label: np.ndarray, *, last: bool, compiled: bool):
    """One step of timm a call; its loss. last: torch.channels_last."""
    import torch
    from live import without_torchvision

    timm = without_torchvision()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, extra = options.backbone, {}
    if name.startswith("swin"):
        name, extra = f"{name}_patch4_window7_224", {"img_size": options.size}
    model = timm.create_model(name, in_chans=options.channels, num_classes=CLASSES, drop_path_rate=0.1, **extra).to(
        device
    )
    pixels = np.concatenate([image] * -(-options.channels // 3), axis=3)[..., : options.channels]
    normal = torch.from_numpy(((pixels - 118.0) / 58.0).astype(np.float32).transpose(0, 3, 1, 2).copy()).to(device)
    target = torch.nn.functional.one_hot(torch.from_numpy(label).long(), CLASSES).float().to(device)
    if last:
        model, normal = model.to(memory_format=torch.channels_last), normal.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            logits = forward(normal)
        loss = torch.sum(-target * torch.log_softmax(logits.float(), -1), -1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="convnext_tiny", choices=sorted(pretrain.DROP_PATH))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--plain", action="store_true", help="without erasing, mixing and averages")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (needs a C++ compiler)")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (options.batch, options.size, options.size, 3), dtype=np.uint8)
    label = rng.integers(0, CLASSES, options.batch, dtype=np.int32)
    paths = {"genseg": ours(options, image, label)}
    if importlib.util.find_spec("timm") and importlib.util.find_spec("torch"):
        for last in (False, True):
            paths[f"timm, {'channels last' if last else 'channels first'}"] = timm_step(
                options, image, label, last=last, compiled=False
            )
        if options.compile:
            paths["timm, torch.compile"] = timm_step(options, image, label, last=False, compiled=True)
    times: dict[str, list[float]] = {name: [] for name in paths}
    for repetition in range(-2, options.repetitions):  # the first two rounds compile and warm up
        for name, step in paths.items():
            began = time.perf_counter()
            loss = step()
            if repetition >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
            assert np.isfinite(loss), name

    device = jax.devices()[0].device_kind
    print(f"{options.backbone}, {options.channels} x {options.size} x {options.size}, batch {options.batch}, "
          f"{options.dtype}{', plain' if options.plain else ''}, on {device}; {options.repetitions} steps each in turn")  # fmt: skip
    print(f"{'step':<24}{'median ms':>10}{'lowest':>9}{'highest':>9}{'images/s':>10}")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<24}{middle:>10.0f}{min(values):>9.0f}{max(values):>9.0f}{1e3 * options.batch / middle:>10.1f}")
    if len(paths) == 1:
        print("timm and torch are not installed, so not timed.")


if __name__ == "__main__":
    main()
