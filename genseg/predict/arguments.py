"""The options of `genseg.predict`. They are read before anything that takes seconds to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from genseg import windows
from genseg.predict import bands

DESCRIPTION = """Class maps of anyone's rasters, of any size, with a trained network.

    python -m genseg.predict --checkpoint=WORKDIR --out=DIR scene.tif folder/ "tiles/*.tif" rgb.png+thermal.png ...

A scene is one file, or several joined by "+"; FILE:4,3,2 takes these bands of a file, counted from 1. Bands are matched
by the names that files give them (red, B04, SWIR 1, ...) or that --bands gives; a file without names must hold the
bands that the network was trained on, in that order, and all must be in the units of the training images. Written are
NAME_classes.tif (a Cloud Optimised GeoTIFF in the scene's place, or NAME_classes.png), whose values are class ids, with
NAME_classes.qml for QGIS; NAME_areas.csv, NAME_quicklook.png, NAME.json, and what is asked for below. A scene is seen
through a sliding window; memory holds rows of windows, so its size does not matter. The same command again leaves
finished scenes alone; several at once, with one --out, share the scenes."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m genseg.predict", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a workdir of segmentation, or the folder of one step")
    parser.add_argument("--out", required=True, help="folder for the maps; made if absent")
    parser.add_argument("--best", action="store_true", help="the best checkpoint instead of the latest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="averaged weights; training's eval.ema")
    add_inference(parser)
    what = parser.add_argument_group("what is read")
    what.add_argument("--from", dest="lists", action="append", default=[], metavar="LIST", help="CSV, a scene a line")
    what.add_argument("--bands", metavar="NAME=PLACE,...", help="where the network's bands are, as in red=4,nir=8")
    what.add_argument("--sensor", choices=bands.SENSORS, help="whose band numbers the files' names are")
    what.add_argument("--aoi", metavar="FILE", help="polygons; pixels outside get no class")
    made = parser.add_argument_group("what is written beside the class map")
    made.add_argument("--probabilities", action="store_true", help="a band a class, 0 .. 250 for 0 .. 1")
    made.add_argument("--entropy", action="store_true", help="of the probabilities, over log(classes), 0 .. 250")
    made.add_argument("--margin", action="store_true", help="between the two largest probabilities, 0 .. 250")
    made.add_argument("--polygons", action="store_true", help="a GeoPackage of the map's regions")
    made.add_argument("--smallest", type=int, default=0, metavar="PIXELS", help="smaller polygons join a neighbour")
    made.add_argument("--quicklook", action=argparse.BooleanOptionalAction, default=True, help="a picture (default)")
    how = parser.add_argument_group("how")
    how.add_argument("--overwrite", action="store_true", help="make finished scenes again")
    how.add_argument("--resume", action="store_true", help="leave finished scenes alone: the default, said aloud")
    how.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="say windows, memory and time, and write nothing"
    )
    parser.add_argument("files", nargs="*", metavar="SCENE", help="files, folders, patterns; FILE+FILE stacks bands")
    return parser.parse_args(argv)


def add_inference(parser: argparse.ArgumentParser) -> None:
    """Those that `drawing.View` holds, and --batch."""
    seen = parser.add_argument_group("how scenes are seen")
    seen.add_argument("--mode", choices=windows.MODES, default="slide", help="through windows, or the whole scene")
    seen.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="of windows; else the training crop")
    seen.add_argument("--stride", type=int, nargs=2, metavar=("H", "W"), help="of windows; else half the crop")
    seen.add_argument("--blend", choices=windows.BLENDS, default="hann", help="weights of overlapping windows")
    seen.add_argument("--flip", action="store_true", help="also see each window mirrored")
    seen.add_argument("--scales", type=float, nargs="+", default=[1.0], help="see each window at these scales")
    seen.add_argument("--batch", type=int, default=0, help="windows at a time; 0 = 4 a device")
