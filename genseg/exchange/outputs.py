"""A genseg checkpoint in another library's format, or as a program, with what describes it beside."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genseg import checkpoints, exchange, nets, texts
from genseg import outputs as rules
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.exchange import channels, deepness, described, model_card, names, programs, stac
from genseg.report import writing

FILES = ("model.safetensors", "README.md", "stac_item.json", "config.json", "preprocessor_config.json")
"""What a folder of exported weights holds; the last two only in some formats."""
OF_FORMATS = {"config.json": ("model_args", "architectures"), "preprocessor_config.json": ("image_processor_type",)}
"""Keys, one of which tells such a file from one of the same name that somebody else has put there."""


def export(args: argparse.Namespace) -> None:
    """The command `export`; see `arguments.parser` for its arguments."""
    target = rules.given(args.output, "--output")
    rules.given(args.checkpoint, "--checkpoint")
    if args.format in names.FORMATS:
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file; weights are written into a folder: give another --output")
        if (target / checkpoints.FOLDER).is_dir():
            raise UserError(f"{target} is the workdir of a run, whose config.json would be lost: give another --output")
        weights_file = target / FILES[0]  # where it is ours, so are those beside it
        rules.claim([weights_file] if weights_file.exists() else [target / name for name in FILES])
    else:
        item = _item_of(target)
        rules.claim([item] if item.exists() and not target.is_dir() else [target])
    if args.size is not None and not all(0 < side <= 1 << 16 for side in args.size):
        raise UserError(f"--size is {args.size[0]} {args.size[1]}; give a height and a width from 1 to {1 << 16:,}")
    weights = checkpoints.load_weights(args.checkpoint, ema=args.ema, best=args.best)
    write = _weights if args.format in names.FORMATS else _program
    print(write(weights, args, target))


def _item_of(output: Path) -> Path:
    """Beside a program; with its ending, since net.onnx and net.stablehlo may be of different networks."""
    return output.with_name(f"{output.name}.stac.json")


def _described(weights: checkpoints.Weights, artifact: stac.Artifact, path: Path) -> None:
    item = stac.item(weights, artifact, datetime.datetime.now(datetime.UTC))
    writing.write_atomically(path, texts.as_json(item, indent=1) + "\n")


def _weights(weights: checkpoints.Weights, args: argparse.Namespace, output: Path) -> str:
    """A folder: model.safetensors, README.md, stac_item.json; for timm and huggingface config.json, for the latter
    preprocessor_config.json. Those of `FILES` that an export of another format has left there are removed, since a library
    would read them as of these weights: `export` has claimed the names."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    backbone, card, taken = weights.config["model"]["backbone"], weights.card, channels.card_of(weights)
    tensors = exchange.export(weights.params, weights.stats, backbone, args.format)
    output.mkdir(parents=True, exist_ok=True)
    header = {"format": "pt", "software": rules.MARK, described.METADATA: taken.to_json()}
    with rules.replacing(output / FILES[0]) as temporary:  # first: it says whose those beside it are
        try:
            save_file(tensors, temporary, metadata=header)
        except SafetensorError as error:
            raise UserError(
                f"{output / FILES[0]} cannot be written ({error}); free space, or give another --output"
            ) from None
    extra: dict[str, Any] = {}
    if args.format in ("timm", "huggingface"):
        extra["config.json"] = exchange.config(weights.params, backbone, args.format, card.classes, card.ignore_label)
    if args.format == "huggingface":
        extra["preprocessor_config.json"] = model_card.preprocessor(taken, "norms" in weights.params)
    stale = [name for name in OF_FORMATS if name not in extra and _exported(output / name)]
    for name in stale:
        (output / name).unlink()
    for name, content in extra.items():
        writing.write_atomically(output / name, texts.as_json(content, indent=1))
    writing.write_atomically(output / "README.md", model_card.readme(weights, args.format, args.license))
    artifact = stac.Artifact(
        "model.safetensors", "safetensors", "Hugging Face" if args.format == "huggingface" else "PyTorch",
        "safetensors.torch.save_file", "bands", None, -1, stac.z_scores(taken), "logits",
    )  # fmt: skip
    _described(weights, artifact, output / "stac_item.json")
    removed = f"; removed, of the export before: {', '.join(stale)}" if stale else ""
    return f"written: {output}, {len(tensors)} tensors{removed}"


def _exported(path: Path) -> bool:
    return path.is_file() and any(f'"{key}"'.encode() in path.read_bytes() for key in OF_FORMATS[path.name])


def run_of(weights: checkpoints.Weights) -> Callable:
    """`programs.program` of a segmenter's checkpoint."""
    params, card = weights.params, weights.card
    inputs = params["backbone"]["stem"]["conv"]["kernel"].shape[2]
    net = nets.segmenter(
        weights.config["model"]["backbone"], channels=card.channels, project=inputs if "projection" in params else 0,
        classes=len(card.classes), drop_path=0.0, head="linear" if "linears" in params["head"] else "upernet",
        head_channels=params["head"]["bottleneck"]["norm"]["scale"].shape[0] if "bottleneck" in params["head"] else 1,
        aux_channels=params["aux_head"]["conv"]["norm"]["scale"].shape[0] if "aux_head" in params else 1,
        aux="aux_head" in params, fusion="resized",  # which allows for sizes that are not known
    )  # fmt: skip
    return programs.program(net, params, weights.stats, card.mean, card.std)


def _program(weights: checkpoints.Weights, args: argparse.Namespace, output: Path) -> str:
    """A file, and beside it FILE.stac.json."""
    kind, card = args.format or args.tool, weights.card
    if "norms" not in weights.params:
        raise UserError(f"{args.checkpoint} is a classifier; {kind} is for segmenters")
    swin = names.shape_of(weights.params).family == "swin"
    if args.size is None and (kind != "stablehlo" or swin):
        what = {"onnx": "ONNX", "deepness": "Deepness"}.get(kind, "a Swin")
        raise UserError(f"{what} needs a fixed image size; add --size HEIGHT WIDTH")
    run, size = run_of(weights), tuple(args.size) if args.size else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with rules.replacing(output) as temporary:
        artifact = _program_file(kind, run, card, size, args, output.name, temporary)
        _described(weights, artifact, _item_of(output))  # which says that the program is ours, if we are killed here
    return f"written: {output}, {output.stat().st_size:,} bytes"


def _program_file(
    kind: str,
    run: Callable,
    card: DatasetCard,
    size: tuple[int, ...] | None,
    args: argparse.Namespace,
    name: str,
    path: Path,
) -> stac.Artifact:
    """Writes the program at `path`; `name` is what it will be called."""
    if kind == "stablehlo":
        path.write_bytes(programs.to_stablehlo(run, card.channels, size))
        return stac.Artifact(name, kind, "JAX", "jax.export", "height", size, -1, None, "logits")
    if kind == "onnx":
        programs.to_onnx(run, card.channels, size, str(path))
        return stac.Artifact(name, kind, "ONNX", "onnx.save", "height", size, 1, None, "logits")
    deepness.write(run, card, size, str(path), overlap=args.overlap, resolution=args.resolution)
    scaling = [{"type": "scale", "value": deepness.PLUGIN_DIVISOR}]
    return stac.Artifact(name, "onnx", "ONNX", "onnx.save", "bands", size, 1, scaling, "probabilities")
