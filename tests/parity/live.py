"""Compares genseg with the reference implementations on torch: `python tests/parity/live.py [NAME ...]`.

Needs torch, transformers, timm and safetensors beside genseg (any venv; CPU builds do). References: transformers'
ConvNextForImageClassification, SwinForImageClassification and UperNetForSemanticSegmentation, and timm's models.
timm imports torchvision, for transforms and a type that ConvNeXt and Swin never touch; where torchvision is absent,
empty stand-ins take its names (`without_torchvision`).

Weights are random with a fixed seed, all of them: norms, layer scales and BatchNorm statistics too, so that no error hides
behind a zero or a one. They reach genseg through `genseg.exchange`, which is thereby tested. Compared are outputs, BatchNorm
statistics, and gradients of the outputs' mean square with respect to every parameter and to the image. Reference is torch in
float64, and a difference is relative to the largest value of its tensor:

  float64    genseg computing in float64, too (`common.in_float64`): below 1e-9, that is the two are the same function
  outputs    of genseg in float32, with the statistics: below 1e-4
  gradients  of genseg in float32: below 1e-4, if no ReLU's input is near zero (1e-5)

Behind each figure of float32 is that of torch in float32. The condition is for UperNet, of whose four million ReLUs some open in
float32 and not in float64, or the other way round: two or three, with inputs below 3e-6, move single gradients by 1e-4 to 1e-2.
That goes for torch as for genseg; either, made to open the ReLUs that open in float64, is within 3e-5. Hence the narrow UperNets,
with seeds for which none is near.
One line a model; the exit status is 1 if one is out of bound.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
import tempfile
import types
from dataclasses import dataclass, replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from genseg import exchange, nets
from genseg.exchange import names

BOUND = 1e-4  # float32
SAME = 1e-9  # float64
NEAR = 1e-5  # the inputs of ReLUs are of size 1
transformers.utils.logging.disable_progress_bar()


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
    train: bool = False  # a segmenter's heads in training: BatchNorm over the batch, and the auxiliary output
    seed: int = 0

    @property
    def name(self) -> str:
        what = f"UperNet {self.head_channels}" if self.kind == "segmenter" else "classifier"
        size = "x".join(str(n) for n in (*self.size, self.channels))
        return f"{self.backbone} {what} {size}{' training' if self.train else ''} ({self.library})"


CASES = {
    "convnext": Case("convnext_tiny", (224, 224), "classifier", "huggingface", batch=2),
    "convnext-timm": Case("convnext_tiny", (224, 224), "classifier", "timm", channels=4),
    "atto-timm": Case("convnext_atto", (96, 128), "classifier", "timm", channels=5),
    "swin": Case("swin_tiny", (224, 224), "classifier", "huggingface", batch=2),
    "swin-timm": Case("swin_tiny", (224, 224), "classifier", "timm", channels=4),
    "swin-padded": Case("swin_tiny", (250, 330), "classifier", "huggingface"),
    "upernet-convnext": Case("convnext_tiny", (96, 160), "segmenter", "huggingface", channels=4, batch=4),
    "upernet-swin": Case("swin_tiny", (96, 160), "segmenter", "huggingface", channels=5, batch=4),
}
CASES |= {
    f"{name}-narrow": replace(CASES[name], size=(64, 96), head_channels=32, aux_channels=32, seed=seed)
    for name, seed in (("upernet-convnext", 8), ("upernet-swin", 0))
}
CASES |= {f"{name}-training": replace(case, train=True) for name, case in CASES.items() if case.kind == "segmenter"}


def build(case: Case, dtype: str = "float32", **changes):
    """genseg's network and abstract trees."""
    options = dict(channels=case.channels, classes=case.classes, drop_path=0.0, dtype=dtype)
    if case.kind == "segmenter":
        options |= dict(head_channels=case.head_channels, aux_channels=case.aux_channels, dropout=0.0, **changes)
    net = getattr(nets, case.kind)(case.backbone, **options)
    return net, *jax.eval_shape(net.init, jax.random.key(0))


def reference(case: Case, params) -> torch.nn.Module:
    """The torch model that genseg's own exported config describes."""
    settings = exchange.config(params, case.backbone, case.library, [f"class {i}" for i in range(case.classes)])
    if case.library == "timm":
        timm = without_torchvision()
        extra = {"img_size": case.size} if case.backbone.startswith("swin") else {}
        return timm.create_model(settings["architecture"], **settings["model_args"], **extra)
    config = transformers.AutoConfig.for_model(**settings)
    return getattr(transformers, settings["architectures"][0])(config)


def outputs(case: Case, model: torch.nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a UperNet at the strides of genseg, before transformers enlarges them; the auxiliary output in training alone."""
    if case.kind == "classifier":
        out = model(image)
        return {"logits": out if isinstance(out, torch.Tensor) else out.logits}
    maps = model.backbone(image).feature_maps
    out = {"logits": model.decode_head(maps)}
    return out | {"aux": model.auxiliary_head(maps)} if case.train else out


def channels_last(x: torch.Tensor) -> np.ndarray:
    x = x.detach().numpy()
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def torch_results(case: Case, model: torch.nn.Module, params, image: np.ndarray) -> common.Results:
    """The reference's numbers in the dtype of its parameters, under genseg's paths."""
    dtype = next(model.parameters()).dtype
    entries = names.table(case.library, names.shape_of(params))
    pixels = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).to(dtype).requires_grad_()
    model.eval()
    if case.train:  # the heads alone: the backbones differ in training by drop path only, which is off in genseg's
        model.decode_head.train(), model.auxiliary_head.train()
    model.zero_grad(set_to_none=True)
    out = outputs(case, model, pixels)
    sum(value.square().mean() for value in out.values()).backward()
    tensors, gradients = saved_tensors(case, model), saved_gradients(case, model)

    def here(tensors: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
        return {e.path: e.load(*(tensors[k] for k in e.keys)) for e in entries if e.path.startswith(kind)}

    return common.Results(
        {name: channels_last(value) for name, value in out.items()} | here(tensors, "stats/"),
        here(gradients, "params/") | {"image": channels_last(pixels.grad)},
    )


@dataclass(frozen=True)
class Comparison:
    """Largest relative differences from torch in float64, and how many ReLUs are near zero there (module docstring)."""

    float64: float
    outputs: float
    gradients: float
    torch_outputs: float
    torch_gradients: float
    near: int

    @property
    def good(self) -> bool:
        return self.float64 < SAME and self.outputs < BOUND and (self.gradients < BOUND or self.near > 0)

    def __str__(self) -> str:
        return (
            f"float64 {self.float64:.1e}  outputs {self.outputs:.1e} ({self.torch_outputs:.1e})  "
            f"gradients {self.gradients:.1e} ({self.torch_gradients:.1e})"
            + (f"  {self.near} ReLUs near 0" if self.near else "")
        )


def compare(case: Case) -> Comparison:
    net, params, stats = build(case)
    model = reference(case, params)
    randomise(model, case.seed)
    with tempfile.TemporaryDirectory() as folder:
        save_file(saved_tensors(case, model), f"{folder}/model.safetensors")
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, stats))
        params, stats, _ = exchange.adopt(*zeros, folder)
    image = np.random.default_rng(case.seed).normal(size=(case.batch, *case.size, case.channels)).astype(np.float32)
    wide, near = copy.deepcopy(model).double(), []
    for module in wide.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, inputs: near.append(int((inputs[0].abs() < NEAR).sum())))
    double = torch_results(case, wide, params, image)
    assert case.head_channels == 512 or not sum(near), "the narrow UperNet's gradients are bounded: choose another seed"
    single = torch_results(case, model, params, image)
    dead = {path for path, value in double.gradients.items() if not value.any()}
    unused = {path for path in double.gradients if "/aux_head/" in path and not case.train}
    assert dead == unused, "every parameter takes part in the comparison"
    ours = common.results(net, params, stats, image, train=case.train)
    with common.in_float64():
        same = common.results(build(case, "float64")[0], params, stats, image, train=case.train)
    return Comparison(
        max(same.differences(double)), *ours.differences(double), *single.differences(double), near=sum(near)
    )


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
        result = compare(CASES[name])
        failed += not result.good
        print(f"{'ok  ' if result.good else 'FAIL'} {CASES[name].name:<59} {result}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
