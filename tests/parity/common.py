"""Tiny networks with weights that NumPy alone can draw again: shared by `store.py`, which runs torch, and the fast test."""

from __future__ import annotations

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from genseg import nets, tree
from genseg.nets.convnext import ConvNeXt
from genseg.nets.swin import Swin

BACKBONES = {
    "tiny_convnext": partial(ConvNeXt, depths=(1, 1, 2, 1), dims=(8, 16, 32, 64)),
    "tiny_swin": partial(Swin, embed=8, depths=(2, 2, 2, 1), heads=(1, 2, 2, 4)),
}
CLASSES = 5
# Name -> backbone, kind, image shape. Sizes are such that Swin pads for patches, windows and merging.
CASES = {
    "convnext_classifier": ("tiny_convnext", "classifier", (2, 64, 96, 3)),
    "swin_classifier": ("tiny_swin", "classifier", (1, 230, 250, 3)),
    "convnext_upernet": ("tiny_convnext", "segmenter", (4, 64, 96, 4)),
    "swin_upernet": ("tiny_swin", "segmenter", (4, 62, 90, 5)),
}
# Gradients that are stored, and of each at most this many numbers.
GRADIENTS = ("stem/conv/kernel", "downsample", "relative_position_bias_table", "gamma", "bias", "scale")
SAMPLES = 24


def network(name: str):
    """(net, params, stats, image): weights of each leaf from a generator seeded with its path."""
    backbone, kind, shape = CASES[name]
    nets.BACKBONES.setdefault(backbone, BACKBONES[backbone])
    options = {"head_channels": 12, "aux_channels": 10, "dropout": 0.0} if kind == "segmenter" else {}
    net = getattr(nets, kind)(backbone, channels=shape[3], classes=CLASSES, drop_path=0.0, **options)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return net, tree.map_paths(draw, params), tree.map_paths(draw, stats), image


def draw(path: str, leaf) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    noise, kind = rng.normal(size=leaf.shape), path.split("/")[-1]
    if kind == "var":
        value = 0.5 + rng.random(leaf.shape)
    elif kind == "kernel":
        value = noise / np.prod(leaf.shape[:-1]) ** 0.5
    else:
        value = {"scale": 1 + 0.2 * noise, "bias": 0.2 * noise, "mean": 0.2 * noise, "gamma": 0.3 * noise}.get(kind, noise)
    return value.astype(np.float32)


def results(name: str) -> dict[str, np.ndarray]:
    """genseg's numbers: outputs in evaluation; of segmenters also the auxiliary output and statistics in training; and
    gradients of the mean square of the logits (classifier) or of the auxiliary output (segmenter)."""
    net, params, stats, image = network(name)
    train = CASES[name][1] == "segmenter"

    @jax.jit
    def evaluate(params, stats, image):
        out = net.apply(params, stats, image, train=False)[0]
        return out["logits"] if train else out

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params, stats, image):
        out, new = net.apply(params, stats, image, train=train, key=jax.random.key(0))
        out = out if train else {"logits": out}
        return jnp.square(out["aux" if train else "logits"]).mean(), (out, new)

    (_, (out, new)), gradients = loss(params, stats, image)
    found = {"logits": evaluate(params, stats, image)}
    if train:
        found["aux"] = out["aux"]
        found["training logits"] = out["logits"]
        found |= {f"stats/{path}": leaf for path, leaf in tree.items(new)}
    return {key: np.asarray(value) for key, value in found.items()} | sampled(dict(tree.items(gradients)))


def sampled(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the chosen gradients some numbers each, evenly spread."""
    chosen = {path: np.asarray(g).ravel() for path, g in gradients.items() if any(word in path for word in GRADIENTS)}
    return {f"grad/{path}": g[:: max(1, g.size // SAMPLES)][:SAMPLES] for path, g in chosen.items()}
