"""Reading a large scene by overlapping windows, beside rasterio's own block-by-block read of the same file.

    python benchmarks/rasters.py FOLDER [--side 10000]

Writes scenes of side x side x 4 bands of uint16 (deflate, predictor 2) into FOLDER once: tiles of 512, strips of 16 rows, and
one strip. Each read runs in a process of its own, twice, in turns; the faster time counts. Prints seconds of processor time
and the process's peak of memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from genseg.data.files.rasters import Raster

LAYOUTS = {
    "tiles of 512": {"tiled": True, "blockxsize": 512, "blockysize": 512},
    "strips of 16 rows": {"blockysize": 16},
    "one strip": {},
}
WINDOW, STRIDE = 512, 256


def make(path: Path, side: int, options: dict) -> None:
    options = {"blockysize": side, **options} if "tiled" not in options else options
    profile = dict(driver="GTiff", height=side, width=side, count=4, dtype="uint16", compress="deflate", predictor=2)
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile, zlevel=1, bigtiff="yes", **options) as file:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            block = (rng.integers(0, 60, (4, rows, side)) + np.arange(side) % 2000).astype(np.uint16)
            file.write(block, window=Window(0, top, side, rows))


def windows(path: Path) -> int:
    raster, total = Raster([path]), 0
    height, width = raster.shape[:2]
    for top in [*range(0, height - WINDOW, STRIDE), height - WINDOW]:
        for left in [*range(0, width - WINDOW, STRIDE), width - WINDOW]:
            total += int(raster[top : top + WINDOW, left : left + WINDOW][0, 0, 0])
    return total


def blocks(path: Path) -> int:
    total = 0
    with rasterio.open(path) as file:
        for _, window in file.block_windows(1):
            total += int(file.read(window=window)[0, 0, 0])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=10000)
    parser.add_argument(
        "--one", choices=("windows", "blocks"), help="read the file `folder` once, and say what it took"
    )
    arguments = parser.parse_args()
    if arguments.one:
        began, wall = time.process_time(), time.monotonic()
        {"windows": windows, "blocks": blocks}[arguments.one](arguments.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([time.process_time() - began, time.monotonic() - wall, peak]))
        return
    print(f"{'':20} {'windows':>20} {'block by block':>20}  ratio of processor time")
    for name, options in LAYOUTS.items():
        path = arguments.folder / f"{name.replace(' ', '_')}_{arguments.side}.tif"
        if not path.exists():
            make(path, arguments.side, options)
        took: dict[str, list] = {"windows": [], "blocks": []}
        for _ in range(2):
            for how, found in took.items():
                command = [sys.executable, __file__, str(path), "--one", how]
                found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        best = {how: min(found) for how, found in took.items()}
        cells = [f"{best[how][0]:6.1f} s {best[how][2]:7.0f} MiB" for how in ("windows", "blocks")]
        print(f"{name:20} {cells[0]:>20} {cells[1]:>20}  {best['windows'][0] / best['blocks'][0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
