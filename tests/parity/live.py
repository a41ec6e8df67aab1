"""Compares genseg with the reference implementations on torch: `python tests/parity/live.py [NAME ...]`.

Needs torch, transformers, timm and safetensors beside genseg (any venv; CPU builds do). References: transformers'
ConvNextForImageClassification, SwinForImageClassification and UperNetForSemanticSegmentation, and timm's models.
timm imports torchvision, for transforms and a type that ConvNeXt and Swin never touch; where torchvision is absent,
empty stand-ins take its names (`without_torchvision`).

Weights are random with a fixed seed, all of them: norms, layer scales and BatchNorm statistics too, so that no error hides
behind a zero or a one. They reach genseg through `genseg.exchange`, which is thereby tested. Compared are the outputs and the
gradients, with respect to every parameter and to the image, of the mean square of an output.
A ReLU whose input is within rounding of zero may open in one library and close in the other, which moves gradients by 1e-4
and more (torch in float32 does so against torch in float64): the seeds of the cases are such that none does.
One line a model gives the largest difference relative to the largest value; the bound is 1e-4, and above it the exit status is 1.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import types
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from genseg import exchange, nets, tree
from genseg.exchange import names

BOUND = 1e-4


def without_torchvision():
    """timm, also where torchvision is not installed: while timm is imported, empty stand-ins take torchvision's names."""
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")

    class Named(type):
        """Members of the stand-ins' classes, such as InterpolationMode.NEAREST, are their own names."""

        def __getattr__(cls, name: str) -> str:
            if name.startswith("_"):
                raise AttributeError(name)
            return name

    class Module(types.ModuleType):
        __path__: list[str] = []

        def __getattr__(self, name: str):
            if name.startswith("__"):
                raise AttributeError(name)
            return Named(name, (), {})

    class Finder(MetaPathFinder, Loader):
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

        def create_module(self, spec):
            return Module(spec.name)

        def exec_module(self, module):
            pass

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("timm")
    finally:  # transformers asks whether torchvision is there
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Every parameter and buffer of statistics drawn anew, at scales that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif name.endswith("running_mean"):
                value.copy_(0.2 * normal(value.shape))
            elif name in dict(model.named_buffers()):
                continue  # indices, masks, counters
            elif "gamma" in name or "layer_scale" in name:
                value.copy_(0.3 * normal(value.shape))
            elif name.endswith("relative_position_bias_table"):
                value.copy_(normal(value.shape))
            elif value.ndim == 1:
                value.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * normal(value.shape))
            elif value.ndim > 1:
                fan_in = value[0].numel()
                value.copy_(normal(value.shape) / fan_in**0.5)


@dataclass(frozen=True)
class Case:
    """One comparison: a network of genseg, the image it sees, and the library that holds the reference."""

    backbone: str
    size: tuple[int, int]
    kind: str  # "classifier" or "segmenter"
    library: str  # "huggingface" or "timm"
    channels: int = 3
    classes: int = 20
    batch: int = 1
    head_channels: int = 512
    aux_channels: int = 256
    seed: int = 0

    @property
    def name(self) -> str:
        what = "UperNet" if self.kind == "segmenter" else "classifier"
        return f"{self.backbone} {what} {self.size[0]}x{self.size[1]}x{self.channels} ({self.library})"


CASES = {
    "convnext": Case("convnext_tiny", (224, 224), "classifier", "huggingface", batch=2),
    "convnext-timm": Case("convnext_tiny", (224, 224), "classifier", "timm", channels=4),
    "atto-timm": Case("convnext_atto", (96, 128), "classifier", "timm", channels=5),
    "swin": Case("swin_tiny", (224, 224), "classifier", "huggingface", batch=2),
    "swin-timm": Case("swin_tiny", (224, 224), "classifier", "timm", channels=4),
    "swin-padded": Case("swin_tiny", (250, 330), "classifier", "huggingface"),
    "upernet-convnext": Case("convnext_tiny", (96, 160), "segmenter", "huggingface", channels=4, batch=4, seed=1),
    "upernet-swin": Case("swin_tiny", (96, 160), "segmenter", "huggingface", channels=5, batch=4),
}


def build(case: Case):
    """genseg's network and abstract trees."""
    options = dict(channels=case.channels, classes=case.classes, drop_path=0.0)
    if case.kind == "segmenter":
        options |= dict(head_channels=case.head_channels, aux_channels=case.aux_channels, dropout=0.0)
    net = getattr(nets, case.kind)(case.backbone, **options)
    return net, *jax.eval_shape(net.init, jax.random.key(0))


def reference(case: Case, params) -> torch.nn.Module:
    """The torch model that genseg's own exported config describes."""
    settings = exchange.config(params, case.backbone, case.library, [f"class {i}" for i in range(case.classes)])
    if case.library == "timm":
        timm = without_torchvision()
        extra = {"img_size": case.size} if case.backbone.startswith("swin") else {}
        return timm.create_model(settings["architecture"], **settings["model_args"], **extra)
    import transformers

    config = transformers.AutoConfig.for_model(**settings)
    return getattr(transformers, settings["architectures"][0])(config)


def outputs(case: Case, model: torch.nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a UperNet at the strides of genseg, before transformers enlarges them."""
    if case.kind == "classifier":
        out = model(image)
        return {"logits": out if isinstance(out, torch.Tensor) else out.logits}
    maps = model.backbone(image).feature_maps
    return {"logits": model.decode_head(maps), "aux": model.auxiliary_head(maps)}


def channels_last(x: torch.Tensor) -> np.ndarray:
    x = x.detach().numpy()
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def relative(a: np.ndarray, b: np.ndarray, floor: float = 0.0) -> float:
    """Largest difference over the largest value of b, which counts as at least `floor`."""
    return float(np.abs(np.asarray(a) - b).max() / max(float(np.abs(b).max()), floor))


def compare(case: Case) -> tuple[float, float]:
    """Largest relative difference of outputs (and BatchNorm statistics), and of gradients.

    Networks are compared in evaluation. UperNets are compared in training, too, but with gradients of the auxiliary
    output alone: through the pyramid's 1x1 map, a BatchNorm over the batch's few images, float32 gradients of the
    logits are rounding noise in either library.
    """
    net, params, stats = build(case)
    model = reference(case, params).eval()
    randomise(model, case.seed)
    with tempfile.TemporaryDirectory() as folder:
        save_file(saved_tensors(case, model), f"{folder}/model.safetensors")
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, stats))
        params, stats, _ = exchange.adopt(*zeros, folder)
    forward, backward, covered = [], [], set()
    for mode in ("evaluation", "training") if case.kind == "segmenter" else ("evaluation",):
        results = compare_mode(case, net, model, params, stats, train=mode == "training")
        forward.append(results[0])
        backward.append(results[1])
        covered |= results[2]
    assert covered == {path for path, _ in tree.items(params)}, "every parameter's gradient is compared"
    return max(forward), max(backward)


def compare_mode(case: Case, net, model: torch.nn.Module, params, stats, *, train: bool) -> tuple[float, float, set]:
    """(difference of outputs and statistics, of gradients, paths of the parameters whose gradients are not zero)."""
    image = np.random.default_rng(case.seed).normal(size=(case.batch, *case.size, case.channels)).astype(np.float32)
    torch_image = torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous().requires_grad_()
    differentiated = "aux" if train else "logits"
    if train:
        model.decode_head.train(), model.auxiliary_head.train()
    model.zero_grad(set_to_none=True)
    expected = outputs(case, model, torch_image)
    expected[differentiated].square().mean().backward()

    def loss(params, stats, image):
        out, new = net.apply(params, stats, image, train=train, key=jax.random.key(0))
        out = out if isinstance(out, dict) else {"logits": out}
        return jnp.square(out[differentiated]).mean(), (out, new)

    (_, (found, new)), (gradients, image_gradient) = jax.jit(jax.value_and_grad(loss, (0, 2), has_aux=True))(
        params, stats, image
    )
    forward = [relative(found[name], channels_last(expected[name])) for name in found]
    entries = names.table(case.library, names.shape_of(params))
    tensors, leaves = saved_tensors(case, model), dict(tree.items({"stats": new}))
    forward += [relative(leaves[e.path], e.load(tensors[e.keys[0]])) for e in entries if e.path in leaves]

    stored, leaves = saved_gradients(case, model), dict(tree.items({"params": gradients}))
    pairs = {e.path: (leaves[e.path], e.load(*(stored[k] for k in e.keys))) for e in entries if e.path in leaves}
    covered = {path.removeprefix("params/") for path, (_, b) in pairs.items() if b.any()}
    pairs["image"] = (image_gradient, channels_last(torch_image.grad))
    # A gradient that is zero in exact arithmetic has rounding for its largest value: nothing is scaled by less than a
    # thousandth of the largest gradient of all.
    floor = 1e-3 * max(float(np.abs(b).max()) for _, b in pairs.values())
    return max(forward), max(relative(a, b, floor) for a, b in pairs.values()), covered


def saved_tensors(case: Case, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The model's tensors under the names of its checkpoint files."""
    if case.library == "timm":
        return {k: v.numpy().copy() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return dict(load_file(Path(folder) / "model.safetensors"))


def saved_gradients(case: Case, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The gradients under the same names, for which they take the parameters' places while they are saved."""
    kept = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.zeros_like(value) if value.grad is None else value.grad)
        gradients = saved_tensors(case, model)
        for name, value in model.named_parameters():
            value.copy_(kept[name])
    return gradients


def main(chosen: list[str]) -> int:
    failed = 0
    for name in chosen or CASES:
        forward, backward = compare(CASES[name])
        good = max(forward, backward) < BOUND
        failed += not good
        print(
            f"{'ok  ' if good else 'FAIL'} {CASES[name].name:<58} outputs {forward:.1e}  gradients {backward:.1e}",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
