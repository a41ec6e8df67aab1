"""The options of `genseg.score`. They are read before anything that takes seconds to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from genseg import windows
from genseg.predict import bands

DESCRIPTION = """Scores of a trained network, or of maps, on labelled data.

    python -m genseg.score --checkpoint=RUN --out=DIR --masks=masks/ images/      # pairs of files, by name
    python -m genseg.score --checkpoint=RUN --out=DIR --pairs=pairs.csv           # lines of IMAGE[,IMAGE...],MASK
    python -m genseg.score --checkpoint=RUN --out=DIR --prepared=DATA/naip --split=test
    python -m genseg.score --maps --out=DIR --masks=masks/ maps/*_classes.tif     # maps of genseg.predict

A network is fed through the card that it was trained with, and sees scenes as its training's evaluation did unless the
options say otherwise. Written are score.json, classes.csv, confusion.csv and .png, scenes.csv (with --errors also an
error map a scene); 95 % intervals are over whole scenes."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m genseg.score", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="a workdir of segmentation, or the folder of one step")
    parser.add_argument("--out", required=True, help="folder for tables and pictures; made if absent")
    parser.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="averaged weights; training's eval.ema")
    what = parser.add_argument_group("what is scored (one of)")
    what.add_argument("--masks", metavar="FOLDER", help="with a mask of each scene's name, or NAME_mask, _label, _gt")
    what.add_argument("--pairs", metavar="CSV", help="a scene a line: its files, then its mask")
    what.add_argument("--prepared", metavar="FOLDER", help="a prepared data set (genseg.data.prepare)")
    what.add_argument("--split", help="of --prepared (default val)")
    what.add_argument("--maps", action="store_true", help="scenes are class maps: no network is run")
    what.add_argument("--classes", metavar="TABLE", help="CSV or YAML: what the masks' numbers or colours mean")
    what.add_argument("--bands", metavar="NAME=PLACE,...", help="where the network's bands are, as in red=4,nir=8")
    what.add_argument("--sensor", choices=bands.SENSORS, help="whose band numbers the files' names are")
    seen = parser.add_argument_group("how scenes are seen; else as in training's evaluation")
    seen.add_argument("--mode", choices=windows.MODES)
    seen.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"))
    seen.add_argument("--stride", type=int, nargs=2, metavar=("H", "W"))
    seen.add_argument("--blend", choices=windows.BLENDS)
    seen.add_argument("--flip", action=argparse.BooleanOptionalAction)
    seen.add_argument("--scales", type=float, nargs="+")
    seen.add_argument("--batch", type=int, default=0, help="windows at a time; 0 = 4 a device")
    parser.add_argument(
        "--borders", action="store_true", help="also Boundary IoU, boundary F1 and trimap IoU of scenes"
    )
    parser.add_argument("--panels", type=int, default=0, metavar="N", help="samples.png: N records of a prepared split")
    parser.add_argument("--errors", action="store_true", help="also NAME_errors.tif: 0 right, 1 wrong, 255 not counted")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="files, folders, patterns, as of genseg.predict")
    return parser.parse_args(argv)
