"""What preparing a data set of small images costs beside reading its files.

    python benchmarks/preparing.py              # 400 drawn pairs: PNG of 256 x 256 in four bands, and masks of six classes
    python benchmarks/preparing.py 2000

Milliseconds of processor time a pair in one thread, the least of three, of reading and decoding the files, of preparing them
(`genseg.prepare`), and of the parts of that which have a function; the rest is serialisation, the record files and digests.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genseg.data import prepare
from genseg.data.files import codec, masks
from genseg.data.records.moments import Moments

SIDE, BANDS, CLASSES = 256, ("red", "green", "blue", "nir"), tuple("uvwxyz")


def drawn(folder: Path, count: int) -> dict[str, list[Path]]:
    rng, paths = np.random.default_rng(0), {"images": [], "masks": []}
    for part in paths:
        (folder / "train" / part).mkdir(parents=True)
    blocks = np.ones((SIDE // 16, SIDE // 16, 1))
    for number in range(count):
        coarse = np.kron(rng.integers(0, 256, (16, 16, len(BANDS))), blocks)
        image = np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)
        mask = np.kron(rng.integers(0, len(CLASSES), (16, 16, 1)), blocks).astype(np.uint8)
        for part, pixels in (("images", image), ("masks", mask)):
            paths[part].append(folder / "train" / part / f"{number}.png")
            paths[part][-1].write_bytes(codec.encode_png(pixels))
    return paths


def milliseconds(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return 1e3 * min(times) / count


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = drawn(folder / "source", count)
        options = {
            "name": "folder_segmentation",
            "source": str(folder / "source"),
            "splits": ("train",),
            "bands": BANDS,
            "classes": CLASSES,
        }
        data = prepare.completed(options, "config.data") | {"skip_corrupt": 0}

        def read() -> tuple[list[np.ndarray], list[np.ndarray]]:
            images = [codec.decode_image(path.read_bytes(), path.name) for path in paths["images"]]
            return images, [codec.decode_mask(path.read_bytes(), path.name) for path in paths["masks"]]

        def prepared() -> None:
            shutil.rmtree(folder / "data", ignore_errors=True)
            prepare.ensure_prepared(data, folder / "data", threads=1, progress=False)

        images, labels = read()
        ids = tuple(range(len(CLASSES)))
        calls = {
            "files read and decoded": read,
            "prepared": prepared,
            "of it: statistics": lambda: [Moments.of(image) for image in images],
            "masks checked and numbered": lambda: [masks.renumber(mask, ids, 255, None, "") for mask in labels],
            "images stored": lambda: [codec.encode_image(image) for image in images],
            "masks stored": lambda: [codec.encode_mask(mask) for mask in labels],
        }
        for what, call in calls.items():
            print(f"{what:30} {milliseconds(call, count):6.2f} ms", flush=True)


if __name__ == "__main__":
    main()
