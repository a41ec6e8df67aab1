"""Weights in and out: `python -m genseg.exchange import|export ...` (docs/models.md has examples)."""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from genseg import checkpoints, cli, exchange, nets, state
from genseg import outputs as outputs_rules
from genseg.data.card import Band, DatasetCard
from genseg.data.palette import distinct_colours
from genseg.errors import UserError
from genseg.exchange import names, outputs
from genseg.nets.stem import RULES
from genseg.recipes.imported import imported_config

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of 0..255; torchvision's and timm's 0.485, 0.456, 0.406
IMAGENET_STD = (58.395, 57.12, 57.375)


def import_weights(args: argparse.Namespace) -> None:
    """A foreign checkpoint as a genseg checkpoint at step 0, to start training from (config.init.checkpoint)."""
    folder = outputs_rules.given(args.output, "--output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; give a new folder for the imported checkpoint")
    for name in ("channels", "classes", "head_channels", "aux_channels"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 1 << 20:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a number from 1 to {1 << 20:,}")
    if not 0 <= args.seed < 1 << 32:
        raise UserError(f"--seed is {args.seed}; give a number from 0 to {(1 << 32) - 1}")
    # What is not given is read from the file; where that does not say, the published sizes.
    found, published = exchange.sizes(args.input, args.backbone), exchange.Sizes(3, 1000, 512, 256)
    for name in ("channels", "classes", "head_channels", "aux_channels"):
        if getattr(args, name) is None:
            own = getattr(found, name)
            setattr(args, name, getattr(published, name) if own is None else own)
    options = {"channels": args.channels, "classes": args.classes, "drop_path": 0.0}
    if args.task == "segmenter":
        options |= {"head_channels": args.head_channels, "aux_channels": args.aux_channels}
    net = getattr(nets, args.task)(args.backbone, **options)
    params, stats = jax.jit(net.init)(jax.random.key(args.seed))
    params, stats, report = exchange.adopt(
        params, stats, args.input, parts=args.parts, stem=args.stem, key=jax.random.key(args.seed)
    )
    print(f"{args.input}: {report}")
    for group in ("missing", "unused"):
        for name in getattr(report, group):
            print(f"  {group}: {name}")
    rgb = args.channels == 3
    card = DatasetCard(
        name=f"imported from {Path(args.input).name}",
        task="segmentation" if args.task == "segmenter" else "classification",
        bands=tuple(
            Band(f"band {i}", *((IMAGENET_MEAN[i], IMAGENET_STD[i]) if rgb else (0.0, 1.0)))
            for i in range(args.channels)
        ),
        classes=tuple(f"class {i}" for i in range(args.classes)),
        palette=distinct_colours(args.classes) if args.task == "segmenter" else (),
        ignore_label=None,
        scored=tuple(range(args.classes)),
        splits={},
        protocol="imported weights; nothing was scored",
        synthetic=False,
    )
    meta = {
        "config": imported_config(args.task, args.backbone, args.head_channels, args.aux_channels, args.input),
        "card": card.to_json(),
        "versions": checkpoints.versions(),
    }
    saver = checkpoints.Checkpoints(args.output, keep=1)
    saver.save(state.TrainState(np.int32(0), params, stats, {}, {}), batches=0, meta=meta, score=None)
    saver.wait()
    saver.close()
    print(f"written: {args.output}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m genseg.exchange", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="import|export")
    into = commands.add_parser("import", help="timm, Hugging Face, original or mmseg weights -> genseg checkpoint")
    into.set_defaults(run=import_weights)
    into.add_argument("--input", required=True, help=".safetensors or .pth file, or a Hugging Face model folder")
    into.add_argument("--output", required=True, help="new folder for the checkpoint")
    into.add_argument("--backbone", required=True, choices=nets.BACKBONES, metavar="NAME")
    into.add_argument("--task", default="classifier", choices=("classifier", "segmenter"))
    into.add_argument("--channels", type=int, help="bands of the network (default: the file's)")
    into.add_argument("--classes", type=int, help="classes of the network (default: the file's, else 1000)")
    into.add_argument("--head-channels", type=int, help="default: the file's, else 512")
    into.add_argument("--aux-channels", type=int, help="default: the file's, else 256")
    into.add_argument(
        "--parts", nargs="*", default=(), help="parts that must be filled: backbone head norms aux_head (default: all)"
    )
    into.add_argument("--stem", default="exact", choices=RULES, help="rule where the file has other bands")
    into.add_argument("--seed", type=int, default=0, help="of what the file does not give")
    out = commands.add_parser("export", help="genseg checkpoint -> weights of other libraries, StableHLO, ONNX")
    out.set_defaults(run=outputs.export)
    out.add_argument("--checkpoint", required=True, help="workdir, or the folder of one step")
    out.add_argument("--output", required=True, help="folder (weights) or file (programs)")
    kind = out.add_mutually_exclusive_group(required=True)
    kind.add_argument("--format", choices=(*names.FORMATS, *outputs.PROGRAMS))
    kind.add_argument("--for", dest="tool", choices=outputs.TOOLS, help="deepness: ONNX for QGIS's plugin of that name")
    out.add_argument("--ema", action="store_true", help="the averaged weights")
    out.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    out.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="fixed image size of a program")
    out.add_argument("--overlap", type=int, default=25, metavar="PERCENT", help="of Deepness's tiles (default 25)")
    out.add_argument("--resolution", type=float, metavar="CM", help="ground size of a pixel, for Deepness")
    out.add_argument("--license", default="unknown", help="of the weights, for the model card, as the Hub spells it")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return cli.run(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
