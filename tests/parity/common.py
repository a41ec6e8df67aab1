"""What comparisons share, none of it in need of torch: tiny networks with weights that NumPy can draw again, and genseg's
numbers in float32 and in float64."""

from __future__ import annotations

import contextlib
import sys
import zlib
from dataclasses import dataclass
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
SAMPLES = 24  # of each gradient, so many numbers are stored


@dataclass(frozen=True)
class Results:
    """A network's outputs (with its BatchNorm statistics) and the gradients of the outputs' mean square, by path."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]

    def differences(self, reference: Results) -> tuple[float, float]:
        """Largest relative difference of outputs, and of gradients.

        A gradient that is zero in exact arithmetic has rounding for its largest value: nothing is scaled by less than a
        thousandth of the largest gradient of all.
        """
        floor = 1e-3 * max(float(np.abs(value).max()) for value in reference.gradients.values())
        return (
            _largest(self.outputs, reference.outputs, 0.0),
            _largest(self.gradients, reference.gradients, floor),
        )


def relative(a: np.ndarray, b: np.ndarray, floor: float = 0.0) -> float:
    """Largest difference over the largest value of b, which counts as at least `floor`."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), floor))


def _largest(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], floor: float) -> float:
    assert found.keys() == expected.keys()
    return max(relative(found[path], expected[path], floor) for path in expected)


@contextlib.contextmanager
def in_float64():
    """Networks built with dtype="float64" and traced inside compute in float64 throughout.

    What genseg keeps in float32 whatever the dtype (norms, softmax, statistics, logits) is named `jnp.float32` in its
    files; inside, that name is float64 there. Float32 is too coarse to tell a wrong gradient from rounding where a ReLU's
    input is near zero; in float64 equal functions agree to 1e-13.
    """

    class Wide:
        float32 = jnp.float64

        def __getattr__(self, name: str):
            return getattr(jnp, name)

    modules = [
        m for name, m in sys.modules.items() if name.startswith("genseg.nets") and getattr(m, "jnp", None) is jnp
    ]
    with jax.enable_x64(True):
        for module in modules:
            module.jnp = Wide()
        try:
            yield
        finally:
            for module in modules:
                module.jnp = jnp


def results(net: nets.Net, params: tree.Tree, stats: tree.Tree, image: np.ndarray, *, train: bool) -> Results:
    """genseg's numbers, in float64 inside `in_float64` and in float32 elsewhere."""
    # Without float64 enabled JAX makes float32 of it.
    params, stats, image = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), (params, stats, image))

    @jax.jit
    def run(params, stats, image):
        def loss(params, image):
            out, new = net.apply(params, stats, image, train=train)
            out = out if isinstance(out, dict) else {"logits": out}
            return sum(jnp.square(value).mean() for value in out.values()), out | dict(tree.items({"stats": new}))

        return jax.grad(loss, (0, 1), has_aux=True)(params, image)

    (gradients, image_gradient), out = run(params, stats, image)
    gradients = dict(tree.items({"params": gradients})) | {"image": image_gradient}
    return Results(*({path: np.asarray(leaf) for path, leaf in part.items()} for part in (out, gradients)))


def network(name: str, dtype: str = "float32"):
    """(net, params, stats, image): weights of each leaf from a generator seeded with its path."""
    backbone, kind, shape = CASES[name]
    nets.BACKBONES.setdefault(backbone, BACKBONES[backbone])
    options = {"head_channels": 12, "aux_channels": 10, "dropout": 0.0} if kind == "segmenter" else {}
    net = getattr(nets, kind)(backbone, channels=shape[3], classes=CLASSES, drop_path=0.0, dtype=dtype, **options)
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
        value = {"scale": 1 + 0.2 * noise, "bias": 0.2 * noise, "mean": 0.2 * noise, "gamma": 0.3 * noise}.get(
            kind, noise
        )
    return value.astype(np.float32)


def sampled(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most `SAMPLES` numbers of each, evenly spread."""
    return {path: value.ravel()[:: max(1, value.size // SAMPLES)][:SAMPLES] for path, value in gradients.items()}
