"""Weights in from timm, Hugging Face transformers, the original repositories and mmsegmentation, and out to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genseg import nets, tree
from genseg.errors import UserError
from genseg.exchange import files, names
from genseg.nets.stem import inflate_stem
from genseg.nets.swin import Swin
from genseg.transfer import TransferReport

STEM = "params/backbone/stem/conv/kernel"
# Of torch.compile, Lightning (whatever its module calls the network) and data parallelism.
WRAPPERS = ("_orig_mod.", "module.", "model.", "net.", "backbone.")
POINTWISE = ("convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano")  # timm: conv_mlp=True


def adopt(
    params: tree.Tree,
    stats: tree.Tree,
    path: str,
    *,
    parts: Sequence[str] = (),
    stem: str = "exact",
    key: jax.Array | None = None,
) -> tuple[tree.Tree, tree.Tree, TransferReport]:
    """Parameters and statistics of a network from a foreign checkpoint, whose format is found by its keys.

    Args:
      params, stats: a network's trees (`Net.init`); what the checkpoint does not give stays as it is here.
      path: file or folder, see `files.read`.
      parts: the parts that must be filled, of "backbone", "head", "norms", "aux_head"; () means all. A classifier's
        checkpoint fills a segmenter's ("backbone",).
      stem: rule for a checkpoint of another number of bands, "mean" for any (`nets.stem.inflate_stem`); `key` for the rule
        "random".

    Returns (params, stats, report); every parameter and every tensor of the file is in the report, but for tensors that no
    output depends on (`names.IDLE`).

    Raises:
      UserError: a parameter of `parts` is not in the file, a tensor of the file is unknown to the format, or a shape
        differs.
    """
    parts = tuple(parts) or tuple(params)
    if unknown := set(parts) - set(params):
        raise UserError(f"the network has no part '{min(unknown)}'; it has {', '.join(params)}")
    tensors = _unwrapped(files.read(path), names.shape_of(params))
    given = {name for name in tensors if not names.IDLE.fullmatch(name)}
    form, entries, _ = _best_table(given, names.shape_of(params), path)
    wanted = dict(tree.items({"params": params, "stats": stats}))
    known = {name for entry in entries for name in entry.keys}
    result, matched, inflated = dict(wanted), [], []
    for entry in entries:
        if entry.path not in wanted or _part(entry.path) not in parts or not given.issuperset(entry.keys):
            continue
        try:
            array = entry.load(*(tensors[name] for name in entry.keys))
        except (ValueError, IndexError):  # another number of axes
            shapes = ", ".join(str(tensors[name].shape) for name in entry.keys)
            raise UserError(
                f"{path}: '{entry.keys[0]}' has the shape {shapes}, which no {form} checkpoint has"
            ) from None
        have, want = array.shape, wanted[entry.path].shape
        differs = have != want or stem == "mean"  # which averages as many bands too
        if entry.path == STEM and differs and len(have) == 4 and have[:2] + have[3:] == want[:2] + want[3:]:
            result[STEM] = inflate_stem(jnp.asarray(array), want[2], stem, key)
            inflated.append(STEM)
            continue
        if have != want:
            raise UserError(
                f"{path}: '{entry.keys[0]}' gives '{entry.path}' the shape {have}, the network has {want}; "
                f"name the backbone, classes and widths it was trained with"
            )
        result[entry.path] = jnp.asarray(array, wanted[entry.path].dtype)
        matched.append(entry.path)
    filled = {*matched, *inflated}
    missing = [name for name in wanted if name not in filled]
    used = {name for entry in entries if entry.path in filled for name in entry.keys}
    unused = sorted(given - used)
    taken, fitted, absent = (tuple(_short(name) for name in group) for group in (matched, inflated, missing))
    report = TransferReport(taken, fitted, absent, tuple(unused), stem)
    lacking = [name for name in missing if _part(name) in parts]
    strange = sorted(given - known)
    full = set(parts) == set(params)
    if lacking or strange or (full and unused):
        example = (lacking or strange or unused)[0]
        raise UserError(
            f"{path} was read as {form} and does not fit: {len(lacking)} of {len(wanted)} parameters are missing and "
            f"{len(strange) or len(unused)} tensors are unknown, first '{_short(example)}'; name the backbone it was "
            f"trained with, or only the parts that it holds"
        )
    filled_tree = tree.from_items(result)
    return filled_tree["params"], filled_tree.get("stats", {}), report


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the network that a foreign checkpoint holds; None for what it does not hold."""

    channels: int | None
    classes: int | None
    head_channels: int | None
    aux_channels: int | None


def sizes(path: str, backbone: str) -> Sizes:
    """What the shapes of a checkpoint's tensors say. Raises UserError as `adopt` does for a file that is none."""
    build = nets.BACKBONES[backbone]
    family = "swin" if isinstance(build.func, type) and issubclass(build.func, Swin) else "convnext"
    shape = names.Shape(family, tuple(build.keywords["depths"]), False, False)
    tensors = _unwrapped(files.read(path), shape)
    given = {name for name in tensors if not names.IDLE.fullmatch(name)}
    entries = {entry.path: entry for entry in _best_table(given, shape, path)[1]}

    def size(path: str, axis: int) -> int | None:
        entry = entries.get(path)
        if entry is None or not given.issuperset(entry.keys):
            return None
        there = tensors[entry.keys[0]].shape
        return there[axis] if axis < len(there) else None

    classifier, segmenter = size("params/head/linear/kernel", 0), size("params/head/logits/linear/kernel", 0)
    return Sizes(
        size(STEM, 1), classifier if segmenter is None else segmenter, size("params/head/bottleneck/norm/scale", 0),
        size("params/aux_head/conv/norm/scale", 0),
    )  # fmt: skip


def export(params: tree.Tree, stats: tree.Tree, backbone: str, form: str) -> dict[str, np.ndarray]:
    """All tensors of a network under the names of `form` (one of `names.FORMATS`): the inverse of `adopt`, bit for bit.

    BatchNorm's counters of batches, which torch stores and nothing reads, are 0.
    """
    if form not in names.FORMATS:
        raise UserError(f"format '{form}' is not known; choose one of {', '.join(names.FORMATS)}")
    shape = names.shape_of(params)
    if shape.segmenter and form == "timm":
        raise UserError("timm has no UperNet; export a segmenter as huggingface, original or mmseg")
    if "linears" in params["head"]:
        raise UserError("other codebases have no name for a linear head; export it with --format stablehlo or onnx")
    if "projection" in params:
        raise UserError("other codebases have no name for a projection; export it with --format stablehlo or onnx")
    leaves = dict(tree.items({"params": params, "stats": stats}))
    tensors: dict[str, np.ndarray] = {}
    for entry in names.table(form, shape, pointwise=form == "timm" and backbone in POINTWISE):
        arrays = entry.store(np.asarray(leaves[entry.path]))
        tensors.update({name: np.ascontiguousarray(x) for name, x in zip(entry.keys, arrays, strict=True)})
        if entry.path.endswith("/mean"):
            tensors[entry.keys[0].replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return tensors


def config(
    params: tree.Tree, backbone: str, form: str, classes: Sequence[str], ignore_label: int | None = 255
) -> dict[str, Any]:
    """The config.json that lets timm (`create_model(config["architecture"], **config["model_args"])`) or transformers
    (`from_pretrained`) rebuild the network. Other formats have none: UserError."""
    shape = names.shape_of(params)
    channels, features = params["backbone"]["stem"]["conv"]["kernel"].shape[2:]
    dims = [features * 2**i for i in range(4)]
    keywords = nets.BACKBONES[backbone].keywords
    if form == "timm":
        architecture = backbone if shape.family == "convnext" else f"{backbone}_patch4_window7_224"
        extra = {} if backbone != "convnext_micro" else {"depths": list(shape.depths), "dims": dims}
        return {
            "architecture": "convnext_tiny" if extra else architecture,
            "num_classes": len(classes),
            "num_features": dims[-1],
            "model_args": {"in_chans": channels, "num_classes": len(classes), **extra},
        }
    if form != "huggingface":
        raise UserError(f"format '{form}' has no config file; only timm and huggingface have")
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    body = {"num_channels": channels, "image_size": 224, "patch_size": 4, "depths": list(shape.depths)}
    if shape.family == "convnext":
        body |= {"model_type": "convnext", "hidden_sizes": dims, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    else:
        body |= {
            "model_type": "swin",
            "embed_dim": features,
            "num_heads": list(keywords["heads"]),
            "window_size": 7,
            "mlp_ratio": 4.0,
            "qkv_bias": True,
            "layer_norm_eps": 1e-5,
            "hidden_act": "gelu",
        }
    if not shape.segmenter:
        name = {"convnext": "ConvNextForImageClassification", "swin": "SwinForImageClassification"}[shape.family]
        return {"architectures": [name], **body, **labels}
    width = params["head"]["bottleneck"]["norm"]["scale"].shape[0]
    aux = params["aux_head"]["conv"]["norm"]["scale"].shape[0] if shape.aux else 256
    return {
        "architectures": ["UperNetForSemanticSegmentation"],
        "model_type": "upernet",
        "backbone_config": body | {"out_features": [f"stage{k}" for k in range(1, 5)]},
        "hidden_size": width,
        "pool_scales": [1, 2, 3, 6],
        "use_auxiliary_head": shape.aux,
        "auxiliary_loss_weight": 0.4,
        "auxiliary_in_channels": dims[2],
        "auxiliary_channels": aux,
        "auxiliary_num_convs": 1,
        "auxiliary_concat_input": False,
        "loss_ignore_index": -100 if ignore_label is None else ignore_label,  # -100 is none: torch's
        **labels,
    }


def _unwrapped(tensors: dict[str, np.ndarray], shape: names.Shape) -> dict[str, np.ndarray]:
    """Without the prefixes in WRAPPERS that all names share, in any nesting; as few are taken off as the formats need."""
    candidates = [tensors]
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in candidates[-1])), ""):
        candidates.append({name.removeprefix(prefix): value for name, value in candidates[-1].items()})
    return max(candidates, key=lambda found: _best_table(set(found), shape)[2])


def _best_table(given: set[str], shape: names.Shape, path: str = "") -> tuple[str, list[names.Entry], int]:
    """The format, and within it classifier or segmenter, that knows most of the file's keys, and how many it knows.

    Raises UserError, where `path` is given, if it knows none."""
    best: tuple[int, str, list[names.Entry]] = (0, "", [])
    for form in names.FORMATS:
        for segmenter in (False, True):
            if segmenter and form == "timm":
                continue
            entries = names.table(form, names.Shape(shape.family, shape.depths, segmenter, aux=True))
            found = sum(name in given for entry in entries for name in entry.keys)
            if found > best[0]:
                best = (found, form, entries)
    if not best[1] and path:
        raise UserError(
            f"{path} has no tensor named as in {', '.join(names.FORMATS)} for a {shape.family}; first is '{min(given)}'"
            if given
            else f"{path} holds no weights"
        )
    return best[1], best[2], best[0]


def _part(path: str) -> str:
    return path.split("/")[1]


def _short(path: str) -> str:
    return path.removeprefix("params/")
