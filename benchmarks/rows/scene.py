"""A scene's class map, file to file, by UperNet-ConvNeXt-T in windows of 512 every 256 pixels, with the same random weights.

The peer: transformers' UperNetForSemanticSegmentation on torch, windows read by rasterio, four at a time as in genseg, logits
enlarged and added up, the class of the largest sum written by rasterio. genseg reads ahead and writes behind meanwhile.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import measure
import numpy as np
import rasterio
import side_genseg

from genseg import exchange, nets, tree, windows
from genseg.checkpoints import Weights
from genseg.data.card import Band, DatasetCard
from genseg.predict import run as runs
from genseg.predict.network import Predictor
from genseg.predict.products import Products
from genseg.predict.scenes import Scene
from genseg.recipes import segment

SIDE, WINDOW, STRIDE, BATCH, CHANNELS = 768, 512, 256, 4, 4
BACKBONE, CLASSES = "convnext_tiny", tuple(f"class {i}" for i in range(8))
NOTES: list[str] = []


def written(folder: Path) -> Path:
    """A drawn scene: uint16, tiled and compressed as such files are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(300, 3000, (CHANNELS, SIDE // 32, SIDE // 32))
    pixels = np.kron(coarse, np.ones((1, 32, 32), int)) + rng.integers(0, 100, (CHANNELS, SIDE, SIDE))
    path = folder / "scene.tif"
    options = dict(
        driver="GTiff", dtype="uint16", count=CHANNELS, height=SIDE, width=SIDE, compress="deflate", tiled=True
    )
    with rasterio.open(path, "w", **options) as file:
        file.write(pixels.astype(np.uint16))
    return path


def card() -> DatasetCard:
    bands = tuple(Band(name, mean=1600.0, std=800.0, low=0, high=3100) for name in ("red", "green", "blue", "nir"))
    return DatasetCard("bench", "segmentation", bands, CLASSES, (), 255, tuple(range(8)), {}, "none", True, "uint16")


def network() -> tuple[dict, dict]:
    net = nets.segmenter(BACKBONE, channels=CHANNELS, classes=len(CLASSES), drop_path=0.0)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    stats = {k: np.full(v.shape, float(k.endswith("var")), np.float32) for k, v in tree.items(stats)}
    return side_genseg.drawn(params), tree.from_items(stats)


def genseg_side(scene: Path, out: Path, params: dict, stats: dict):
    config = segment.config(
        data={"name": "demo_segmentation"}, model={"backbone": BACKBONE, "dtype": "float32"},
        augment={"size": (WINDOW, WINDOW)}, train={"batch_size": BATCH}, optim={"learning_rate": 1e-3},
        eval={"batch_size": BATCH, "crop": (WINDOW, WINDOW), "stride": (STRIDE, STRIDE)},
    )  # fmt: skip
    weights = Weights(params, stats, config.to_dict(), card(), "random", ema=False)
    inference = windows.Inference("slide", (WINDOW, WINDOW), (STRIDE, STRIDE), "uniform", False, (1.0,), 32)
    predictor = Predictor(weights, inference, BATCH)
    request = runs.Request(out, Products(quicklook=False), overwrite=True)

    def run() -> None:
        outcome = runs.predict([Scene("scene", ((scene, ()),))], predictor, weights, request)
        assert not outcome.failed, outcome.failed

    return run


def torch_side(scene: Path, out: Path, params: dict, stats: dict):
    import torch
    import transformers

    settings = exchange.config(params, BACKBONE, "huggingface", CLASSES)
    model = transformers.UperNetForSemanticSegmentation(transformers.AutoConfig.for_model(**settings)).eval()
    tensors = {
        k: torch.from_numpy(v.copy()) for k, v in exchange.export(params, stats, BACKBONE, "huggingface").items()
    }
    missing, unknown = model.load_state_dict(tensors, strict=False)
    assert not missing and not unknown, (missing, unknown)
    model = model.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(x).float()[:, None, None] for x in (card().mean, card().std))

    @torch.no_grad()
    def run() -> None:
        places = [(r, c) for r in range(0, SIDE - WINDOW + 1, STRIDE) for c in range(0, SIDE - WINDOW + 1, STRIDE)]
        sums = torch.zeros(len(CLASSES), SIDE, SIDE)
        with rasterio.open(scene) as file:
            profile = file.profile
            for first in range(0, len(places), BATCH):
                some = places[first : first + BATCH]
                read = [file.read(window=((r, r + WINDOW), (c, c + WINDOW))).astype(np.float32) for r, c in some]
                pixels = (torch.from_numpy(np.stack(read)) - mean) / std
                logits = model(pixels.contiguous(memory_format=torch.channels_last)).logits
                for (r, c), scores in zip(some, logits, strict=True):
                    sums[:, r : r + WINDOW, c : c + WINDOW] += scores
        profile.update(count=1, dtype="uint8")
        with rasterio.open(out / "torch.tif", "w", **profile) as file:
            file.write(sums.argmax(0).byte().numpy(), 1)

    return run


def cases() -> Iterator[measure.Case]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, (params, stats) = written(folder), network()
        paths = {"genseg": genseg_side(scene, folder, params, stats)}
        if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
            paths["transformers on torch"] = torch_side(scene, folder, params, stats)
        else:
            NOTES.append("torch with transformers is not installed, so not timed.")

        def same() -> str:
            for run in paths.values():
                run()
            if len(paths) == 1:
                return ""
            ours, theirs = (rasterio.open(folder / file).read(1) for file in ("scene_classes.tif", "torch.tif"))
            share = float((ours == theirs).mean())
            assert share > 0.999 and len(np.unique(ours)) > 1, share
            return f"{100 * share:.3f} % of the pixels have the same class; genseg with `fusion=coarse`"

        what = f"scene of {SIDE} x {SIDE} x {CHANNELS}, uint16"
        yield measure.Case(what, paths, "Mpx/s", "wall", same, amount=SIDE**2 / 1e6, reach="1.3", rounds=3)
