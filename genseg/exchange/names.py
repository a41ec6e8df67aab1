"""Key tables: what each parameter is called in other libraries, and how it lies there.

Formats
  timm         timm/models/convnext.py, timm/models/swin_transformer.py (classifiers)
  huggingface  transformers ConvNextForImageClassification, SwinForImageClassification, UperNetForSemanticSegmentation,
               with the names of checkpoint files (recent transformers rename some of them while loading)
  original     facebookresearch/ConvNeXt, microsoft/Swin-Transformer; their UperNets have mmsegmentation's heads
  mmseg        mmpretrain's ConvNeXt and mmsegmentation's own Swin, whose patch merging orders channels differently

A table is a list of `Entry`, made for the depths of one network; both directions of every conversion stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genseg import tree
from genseg.exchange.formats import FORMATS as FORMATS

# What other libraries store and no output depends on: buffers that follow from the architecture alone, and the last norm
# of transformers' Swin backbone, which is built but not called.
IDLE = re.compile(
    r"(.*\.)?(relative_position_index|attn_mask|num_batches_tracked)|backbone\.(swin\.)?layernorm\.(weight|bias)"
)


@dataclass(frozen=True)
class Entry:
    """One parameter.

    Attributes:
      path: here, "params/..." or "stats/...".
      keys: there; several where the other library splits it (query, key, value).
      load: arrays there -> array here.
      store: array here -> arrays there.
    """

    path: str
    keys: tuple[str, ...]
    load: Callable[..., np.ndarray]
    store: Callable[[np.ndarray], tuple[np.ndarray, ...]]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _conv(path: str, key: str, *, bias: bool = True) -> list[Entry]:
    """OIHW there, HWIO here; depthwise kernels alike, with I = 1."""
    kernel = Entry(
        f"{path}/kernel",
        (f"{key}.weight",),
        lambda w: w.transpose(2, 3, 1, 0),
        lambda w: (w.transpose(3, 2, 0, 1),),
    )
    return [kernel, *(_vector(f"{path}/bias", f"{key}.bias") if bias else [])]


def _linear(path: str, key: str, *, bias: bool = True, pointwise: bool = False) -> list[Entry]:
    """[out, in] there (a 1x1 convolution, [out, in, 1, 1], where `pointwise`), [in, out] here."""
    kernel = Entry(
        f"{path}/kernel",
        (f"{key}.weight",),
        lambda w: w.reshape(w.shape[:2]).T if w.shape[2:] in ((), (1, 1)) else w,  # another shape is refused later
        lambda w: (w.T[:, :, None, None] if pointwise else w.T,),
    )
    return [kernel, *(_vector(f"{path}/bias", f"{key}.bias") if bias else [])]


def _norm(path: str, key: str) -> list[Entry]:
    return [*_vector(f"{path}/scale", f"{key}.weight"), *_vector(f"{path}/bias", f"{key}.bias")]


def _vector(path: str, key: str) -> list[Entry]:
    return [Entry(path, (key,), _same, lambda w: (w,))]


def _batch_norm(path: str, key: str) -> list[Entry]:
    return [
        *_norm(f"params/{path}", key),
        *_vector(f"stats/{path}/mean", f"{key}.running_mean"),
        *_vector(f"stats/{path}/var", f"{key}.running_var"),
    ]


def _conv_norm(path: str, key: str, norm: str) -> list[Entry]:
    return [
        *_conv(f"params/{path}/conv", f"{key}.conv", bias=False),
        *_batch_norm(f"{path}/norm", f"{key}.{norm}"),
    ]


def _split_qkv(path: str, key: str) -> list[Entry]:
    keys = [f"{key}.{part}" for part in ("query", "key", "value")]
    return [
        Entry(
            f"{path}/kernel",
            tuple(f"{k}.weight" for k in keys),
            lambda *w: np.concatenate([part.T for part in w], 1),
            lambda w: tuple(part.T for part in np.split(w, 3, 1)),
        ),
        Entry(
            f"{path}/bias",
            tuple(f"{k}.bias" for k in keys),
            lambda *b: np.concatenate(b),
            lambda b: tuple(np.split(b, 3)),
        ),
    ]


def _merging(path: str, key: str, *, unfold: bool) -> list[Entry]:
    """Patch merging. With `unfold` the 4 c inputs are ordered (channel, row, column) there; here (column, row, channel)."""
    if not unfold:
        return [*_norm(f"{path}/norm", f"{key}.norm"), *_linear(f"{path}/reduction", f"{key}.reduction", bias=False)]

    def ours(w: np.ndarray) -> np.ndarray:
        """First axis 4 c, (c, row, column) -> (column, row, c)."""
        return w.reshape(-1, 2, 2, *w.shape[1:]).swapaxes(0, 2).reshape(w.shape)

    def theirs(w: np.ndarray) -> np.ndarray:
        return w.reshape(2, 2, -1, *w.shape[1:]).swapaxes(0, 2).reshape(w.shape)

    def vector(leaf: str, name: str) -> Entry:
        return Entry(f"{path}/norm/{leaf}", (f"{key}.norm.{name}",), ours, lambda w: (theirs(w),))

    reduction = Entry(
        f"{path}/reduction/kernel", (f"{key}.reduction.weight",), lambda w: ours(w.T), lambda w: (theirs(w).T,)
    )
    return [vector("scale", "weight"), vector("bias", "bias"), reduction]


def convnext(form: str, depths: Sequence[int], prefix: str, *, pointwise: bool) -> list[Entry]:
    """The backbone's table; `prefix` is what stands before its keys, and `pointwise` says that MLPs are 1x1 convolutions."""
    stem_conv, stem_norm, norm, conv, block = {
        "timm": ("stem.0", "stem.1", "stages.{i}.downsample.0", "stages.{i}.downsample.1", "stages.{i}.blocks.{j}"),
        "huggingface": (
            "embeddings.patch_embeddings",
            "embeddings.layernorm",
            "encoder.stages.{i}.downsampling_layer.0",
            "encoder.stages.{i}.downsampling_layer.1",
            "encoder.stages.{i}.layers.{j}",
        ),
    }.get(
        form,
        (
            "downsample_layers.0.0",
            "downsample_layers.0.1",
            "downsample_layers.{i}.0",
            "downsample_layers.{i}.1",
            "stages.{i}.{j}",
        ),
    )
    depthwise, norm_in, up, down, gamma = {
        "timm": ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        "huggingface": ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
        "original": ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
        "mmseg": ("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2", "gamma"),
    }[form]
    entries = [*_conv("stem/conv", stem_conv), *_norm("stem/norm", stem_norm)]
    for i, depth in enumerate(depths):
        if i > 0:
            entries += _norm(f"stages/{i}/downsample/norm", norm.format(i=i))
            entries += _conv(f"stages/{i}/downsample/conv", conv.format(i=i))
        for j in range(depth):
            path, key = f"stages/{i}/blocks/{j}", block.format(i=i, j=j)
            entries += _conv(f"{path}/conv_dw", f"{key}.{depthwise}")
            entries += _norm(f"{path}/norm", f"{key}.{norm_in}")
            entries += _linear(f"{path}/mlp/fc1", f"{key}.{up}", pointwise=pointwise)
            entries += _linear(f"{path}/mlp/fc2", f"{key}.{down}", pointwise=pointwise)
            entries += _vector(f"{path}/gamma", f"{key}.{gamma}")
    return _placed(entries, "params/backbone/", prefix)


def swin(form: str, depths: Sequence[int], prefix: str) -> list[Entry]:
    """The backbone's table. Patch merging stands at the end of the previous stage everywhere but in timm and here."""
    patch, norm, stage = {
        "timm": ("patch_embed.proj", "patch_embed.norm", "layers.{i}"),
        "original": ("patch_embed.proj", "patch_embed.norm", "layers.{i}"),
        "huggingface": ("embeddings.patch_embeddings.projection", "embeddings.norm", "encoder.layers.{i}"),
        "mmseg": ("patch_embed.projection", "patch_embed.norm", "stages.{i}"),
    }[form]
    norm1, norm2, attention, proj, fc1, fc2 = {
        "huggingface": (
            "layernorm_before",
            "layernorm_after",
            "attention.self",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ),
        "mmseg": ("norm1", "norm2", "attn.w_msa", "attn.w_msa.proj", "ffn.layers.0.0", "ffn.layers.1"),
    }.get(form, ("norm1", "norm2", "attn", "attn.proj", "mlp.fc1", "mlp.fc2"))
    entries = [*_conv("stem/conv", patch), *_norm("stem/norm", norm)]
    for i, depth in enumerate(depths):
        if i > 0:
            key = stage.format(i=i if form == "timm" else i - 1)
            entries += _merging(f"stages/{i}/downsample", f"{key}.downsample", unfold=form == "mmseg")
        for j in range(depth):
            path, key = f"stages/{i}/blocks/{j}", f"{stage.format(i=i)}.blocks.{j}"
            entries += _norm(f"{path}/norm1", f"{key}.{norm1}")
            if form == "huggingface":
                entries += _split_qkv(f"{path}/attn/qkv", f"{key}.{attention}")
            else:
                entries += _linear(f"{path}/attn/qkv", f"{key}.{attention}.qkv")
            table = "relative_position_bias_table"
            entries += _vector(f"{path}/attn/{table}", f"{key}.{attention}.{table}")
            entries += _linear(f"{path}/attn/proj", f"{key}.{proj}")
            entries += _norm(f"{path}/norm2", f"{key}.{norm2}")
            entries += _linear(f"{path}/mlp/fc1", f"{key}.{fc1}")
            entries += _linear(f"{path}/mlp/fc2", f"{key}.{fc2}")
    return _placed(entries, "params/backbone/", prefix)


def _placed(entries: list[Entry], path: str, prefix: str) -> list[Entry]:
    return [Entry(path + e.path, tuple(prefix + key for key in e.keys), e.load, e.store) for e in entries]


def _upernet(form: str) -> list[Entry]:
    norm, logits = ("batch_norm", "classifier") if form == "huggingface" else ("bn", "conv_seg")
    entries = []
    for k in range(4):
        entries += _conv_norm(f"head/pools/{k}", f"decode_head.psp_modules.{k}.1", norm)
    for k in range(3):
        entries += _conv_norm(f"head/laterals/{k}", f"decode_head.lateral_convs.{k}", norm)
        entries += _conv_norm(f"head/fpn_convs/{k}", f"decode_head.fpn_convs.{k}", norm)
    for name in ("bottleneck", "fpn_bottleneck"):
        entries += _conv_norm(f"head/{name}", f"decode_head.{name}", norm)
    entries += _linear("params/head/logits/linear", f"decode_head.{logits}", pointwise=True)
    entries += _conv_norm("aux_head/conv", "auxiliary_head.convs.0", norm)
    entries += _linear("params/aux_head/logits/linear", f"auxiliary_head.{logits}", pointwise=True)
    for k in range(4):
        key = f"backbone.hidden_states_norms.stage{k + 1}" if form == "huggingface" else f"backbone.norm{k}"
        entries += _norm(f"params/norms/{k}", key)
    return entries


@dataclass(frozen=True)
class Shape:
    """What of a parameter tree decides its key table."""

    family: str
    depths: tuple[int, ...]
    segmenter: bool
    aux: bool


def shape_of(params: tree.Tree) -> Shape:
    """The family and depths that a tree of `genseg.nets` parameters has."""
    stages = params["backbone"]["stages"]
    family = "swin" if "attn" in stages["0"]["blocks"]["0"] else "convnext"
    depths = tuple(len(stages[str(i)]["blocks"]) for i in range(len(stages)))
    return Shape(family, depths, "norms" in params, "aux_head" in params)


def table(form: str, shape: Shape, *, pointwise: bool = False) -> list[Entry]:
    """Every parameter and statistic of a network in the keys of `form`.

    `pointwise`: the MLPs of ConvNeXt are stored as 1x1 convolutions (timm's atto to nano); loading takes either.
    Raises ValueError for a segmenter in timm's format, which has none.
    """
    if shape.segmenter and form == "timm":
        raise ValueError("timm has no UperNet")
    classifier_prefixes = {"timm": "", "huggingface": f"{shape.family}.", "original": "", "mmseg": "backbone."}
    prefix = "backbone." if shape.segmenter else classifier_prefixes[form]
    if shape.family == "convnext":
        entries = convnext(form, shape.depths, prefix, pointwise=pointwise)
    else:
        entries = swin(form, shape.depths, prefix)
    if shape.segmenter:
        heads = _upernet(form)
        return entries + [e for e in heads if shape.aux or "/aux_head/" not in e.path]
    norm, linear = {
        ("timm", "convnext"): ("head.norm", "head.fc"),
        ("timm", "swin"): ("norm", "head.fc"),
        ("huggingface", "convnext"): ("convnext.layernorm", "classifier"),
        ("huggingface", "swin"): ("swin.layernorm", "classifier"),
        ("mmseg", "convnext"): ("backbone.norm3", "head.fc"),
        ("mmseg", "swin"): ("backbone.norm3", "head.fc"),
    }.get((form, shape.family), ("norm", "head"))
    return [*entries, *_norm("params/head/norm", norm), *_linear("params/head/linear", linear)]
