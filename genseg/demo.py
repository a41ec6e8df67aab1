"""`make demo`: the whole method on data drawn by code, with no files, network or accelerator. A table and a picture.

Pre-trains a small ConvNeXt with CSP (4 channels) and with plain RGB, fine-tunes on drawn RGB + thermal scenes from
both and from scratch. All data is SYNTHETIC: the numbers show that the chain works, not how good the method is.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from genseg import cli, memory, outputs, partition, train
from genseg.config import load_file
from genseg.errors import UserError
from genseg.report import drawing, lines, tables, writing

PRETRAIN = {"csp": ("objective=csp,channels=4", "CSP, 4 channels"), "rgb": ("objective=rgb,channels=3", "RGB")}
SEGMENT = {
    "csp": ("csp", "exact", "CSP: stem of 4 channels as it is"),
    "rgb": ("rgb", "repeat", "RGB: stem inflated by 'repeat'"),
    "scratch": ("", "exact", "from scratch"),
}
NOTE = "SYNTHETIC data drawn by code: these numbers show that the chain works, not how good a method is"
"""Said wherever the demo's numbers stand."""


def run(out: Path, steps: int) -> str:
    """Runs (or goes on with) the demo in the folder `out` and returns the final table.

    steps: 0 for the configs' own length; a smaller number of steps per run is for tests.
    """
    pretrained, segmented = {}, {}
    for name, (arguments, _) in PRETRAIN.items():
        config = load_file(f"demo_pretrain:{arguments}")
        pretrained[name] = train.train(shortened(config, out, steps), str(out / name))["scores"]
    for name, (origin, stem, _) in SEGMENT.items():
        config = load_file("demo_segment")
        config.init.checkpoint = str(out / origin) if origin else ""
        config.init.stem = stem
        segmented[name] = train.train(shortened(config, out, steps), str(out / f"segment-{name}"))["scores"]
    drawing.save_picture(out / "demo.png", picture(out))
    table = "\n\n".join([NOTE, pretrain_table(pretrained), segment_table(segmented), NOTE])
    writing.write_atomically(out / "demo.txt", table + "\n")
    return table


def shortened(config: ConfigDict, out: Path, steps: int) -> ConfigDict:
    """The config with its data below `out`, and at most `steps` training steps if that is not 0."""
    config.data.data_dir = str(out / "data")
    if steps:
        config.train.epochs, config.train.steps = 0.0, steps
        config.train.warmup_epochs, config.train.warmup_steps = 0.0, 1
    return config.lock()


def pretrain_table(scores: dict[str, dict[str, float]]) -> str:
    """Top-1 of the drawn photographs in the fixed, a random and the reversed channel order."""
    rows = [["pre-training (top-1, %)", "fixed order", "permuted", "reversed"]]
    for name, (_, title) in PRETRAIN.items():
        rows.append([title, *(f"{100 * scores[name][k]:.1f}" for k in ("top1", "top1_permuted", "top1_reversed"))])
    return tables.text_table(rows)


def segment_table(scores: dict[str, dict[str, float]]) -> str:
    """Scores on the drawn RGB + thermal scenes."""
    rows = [["fine-tuning on RGB + thermal (%)", "mIoU", "mF1", "mAcc", "OA"]]
    for name, (_, _, title) in SEGMENT.items():
        rows.append([title, *(f"{100 * scores[name][k]:.1f}" for k in ("miou", "mf1", "macc", "oa"))])
    return tables.text_table(rows)


def picture(out: Path) -> np.ndarray:
    """uint8 [h, w, 3]: the three runs' sample panels one below the other, each with its title."""
    parts = []
    for name, (_, _, title) in SEGMENT.items():
        panel = np.asarray(Image.open(out / f"segment-{name}" / "pictures" / "val_samples.png"))
        head = Image.new("RGB", (panel.shape[1], 24), (225, 225, 225))
        ImageDraw.Draw(head).text((4, 6), f"{title}  (synthetic data)", fill="black")
        parts += [np.asarray(head), panel]
    return np.concatenate(parts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m genseg.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="demo", help="folder for everything the demo writes")
    parser.add_argument("--steps", type=int, default=0, help="shorten each run to so many steps; 0 = full length")
    arguments = parser.parse_args(argv)

    def command() -> None:
        if arguments.steps < 0:
            raise UserError(f"--steps is {arguments.steps}; give 0, or how many steps a run is shortened to")
        memory.keep_freed()
        out, began = outputs.given(arguments.out, "--out").absolute(), time.monotonic()
        outputs.claim([out / "demo.png"], unmarked=[out / "demo.txt"], sign=out / "demo.png")
        partition.start(outputs.cache_dir() / "xla")
        table = run(out, arguments.steps)
        print(f"\n{table}\n\nTook {lines.duration(time.monotonic() - began)}. Picture: {out / 'demo.png'}")

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
