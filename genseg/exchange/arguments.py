"""The options of `genseg.exchange`. They are read before anything that takes seconds to import."""

from __future__ import annotations

import argparse

from genseg.exchange.formats import FORMATS, PROGRAMS, TOOLS
from genseg.recipes.shared import STEM_RULES as RULES


def _backbone(name: str) -> str:
    from genseg import nets  # imports JAX: only once a name has been given

    if name not in nets.BACKBONES:
        raise argparse.ArgumentTypeError(f"there is no backbone '{name}'; there are {', '.join(nets.BACKBONES)}")
    return name


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m genseg.exchange",
        description="Weights in and out: timm, Hugging Face, the original repositories, mmsegmentation; StableHLO, ONNX.",
    )
    commands = top.add_subparsers(required=True, metavar="import|export")
    into = commands.add_parser("import", help="timm, Hugging Face, original or mmseg weights -> genseg checkpoint")
    into.set_defaults(command="import")
    into.add_argument("--input", required=True, help=".safetensors or .pth file, or a Hugging Face model folder")
    into.add_argument("--output", required=True, help="new folder for the checkpoint")
    into.add_argument("--backbone", required=True, type=_backbone, metavar="NAME", help="such as convnext_tiny")
    into.add_argument("--task", default="classifier", choices=("classifier", "segmenter"))
    into.add_argument("--channels", type=int, help="bands of the network (default: the file's)")
    into.add_argument("--classes", type=int, help="classes of the network (default: the file's, else 1000)")
    into.add_argument("--head-channels", type=int, help="default: the file's, else 512")
    into.add_argument("--aux-channels", type=int, help="default: the file's, else 256")
    into.add_argument(
        "--parts", nargs="*", default=(), help="parts that must be filled: backbone head norms aux_head (default: all)"
    )
    into.add_argument(
        "--stem", default="exact", choices=RULES, help="rule where the file has other bands (mean: in any case)"
    )
    into.add_argument(
        "--card",
        metavar="FOLDER",
        help="prepared data set that it was trained on: bands and classes (default: the file's)",
    )
    into.add_argument("--seed", type=int, default=0, help="of what the file does not give")
    out = commands.add_parser("export", help="genseg checkpoint -> weights of other libraries, StableHLO, ONNX")
    out.set_defaults(command="export")
    out.add_argument("--checkpoint", required=True, help="workdir, or the folder of one step")
    out.add_argument("--output", required=True, help="folder (weights) or file (programs)")
    kind = out.add_mutually_exclusive_group(required=True)
    kind.add_argument("--format", choices=(*FORMATS, *PROGRAMS))
    kind.add_argument("--for", dest="tool", choices=TOOLS, help="deepness: ONNX for QGIS's plugin of that name")
    out.add_argument("--ema", action="store_true", help="the averaged weights")
    out.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    out.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="fixed image size of a program")
    out.add_argument("--overlap", type=int, default=25, metavar="PERCENT", help="of Deepness's tiles (default 25)")
    out.add_argument("--resolution", type=float, metavar="CM", help="ground size of a pixel, for Deepness")
    out.add_argument("--license", default="unknown", help="of the weights, for the model card, as the Hub spells it")
    return top
