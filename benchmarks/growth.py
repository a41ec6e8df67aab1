"""How cost grows with the work: log-log plots of what a user may have much of, as PNG and CSV.

    python benchmarks/growth.py                      # into docs/growth.png and docs/growth.csv; a few minutes

CPU seconds of this process, the least of three, of: finding the records of one late batch among n index entries; counting a
confusion matrix and borders of n classes; scaling, cropping and mirroring an image of n bands; blending the windows of a scene of n x n pixels
(the network left out).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from genseg import border_scores, metrics, windows
from genseg.data.augment.transforms import segmentation_train
from genseg.data.batches.sampling import EVERY_RECORD
from genseg.data.card import Band, DatasetCard

DOCS = Path(__file__).resolve().parents[1] / "docs"


def records(n: int) -> Callable[[], object]:
    stream = EVERY_RECORD.stream(n, 0)
    return lambda: [stream[5 * n + i] for i in range(256)]


def classes(n: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, n, (1, 16, 16)), np.ones((1, 16, 16), int)).astype(np.int32)
    said, valid = np.roll(truth, 3, axis=2), np.ones(truth.shape, bool)

    @jax.jit
    def count(said, truth, valid):
        return metrics.confusion(said, truth, valid, n), border_scores.border_counts(said, truth, valid, n)

    return lambda: jax.block_until_ready(count(said, truth, valid))


def bands(n: int) -> Callable[[], object]:
    named = tuple(Band(f"b{i}", mean=1.0, low=0, high=9) for i in range(n))
    card = DatasetCard("growth", "segmentation", named, ("a", "b"), (), 255, (0, 1), {}, "none", True, "uint16")
    transform = segmentation_train(card, (128, 128))
    pixels = np.random.default_rng(0).integers(0, 9, (192, 192, n)).astype(np.uint16)
    mask = (pixels[..., 0] > 4).astype(np.uint8)
    return lambda: transform({"image": pixels, "label": mask}, np.random.default_rng(0))


def scene(n: int) -> Callable[[], object]:
    inference = windows.Inference("slide", (256, 256), (128, 128), "hann", False, (1.0,), 32)
    pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (n, n, 3))
    scores = np.zeros((4, 256, 256, 4), np.float32)

    def run() -> None:
        options = dict(inference=inference, classes=4, batch=4, fill=np.zeros(3, np.uint8))
        for _ in windows.class_rows([(0, pixels)], lambda batch: scores, **options):
            pass

    return run


PANELS = {
    "index entries": (records, (1000, 10_000, 100_000, 1_281_167)),
    "classes": (classes, (2, 8, 32, 128)),
    "bands": (bands, (3, 12, 50, 200)),
    "scene side, pixels": (scene, (500, 1000, 2000, 4000)),
}


def least(call: Callable[[], object]) -> float:
    call()
    found = []
    for _ in range(3):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of growth.png and growth.csv")
    options = parser.parse_args()
    found = {name: [(n, least(build(n))) for n in sizes] for name, (build, sizes) in PANELS.items()}
    with open(options.out / "growth.csv", "w", newline="") as file:
        rows = [(name, n, f"{seconds:.4g}") for name, points in found.items() for n, seconds in points]
        csv.writer(file).writerows([("what", "n", "cpu_seconds"), *rows])
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(3.2 * len(found), 3), layout="constrained")
    for axis, (name, points) in zip(axes, found.items(), strict=True):
        axis.loglog(*zip(*points, strict=True), "o-")
        axis.set_xlabel(name)
        axis.grid(True, which="both", alpha=0.3)
    axes[0].set_ylabel("CPU seconds")
    figure.savefig(options.out / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
