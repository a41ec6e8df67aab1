"""How cost grows with the work: log-log plots of what a user may have much of, as PNG and CSV.

    python benchmarks/growth.py                      # into docs/growth.png and docs/growth.csv; a few minutes
    python benchmarks/growth.py bands devices        # some panels alone, the others as growth.csv has them

CPU seconds of this process, the least of three, of: preparing n images of 128 x 128 in four bands; finding the records of one late
batch among n index entries; counting a confusion matrix and borders of n classes; scaling, cropping and mirroring an image of n bands;
blending the windows of a scene of n x n pixels (the network left out). Of n chips of a TPU v5e slice that is not there: what the
compiler says of a step of a small classifier on 16 images a chip, in its cycles, a model and no measurement (needs genseg[tpu]).
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from genseg.dry_run import chips

os.environ.update(chips.ENVIRONMENT)

import jax
import numpy as np

from genseg import api, border_scores, metrics, windows
from genseg.data import prepare
from genseg.data.augment.transforms import segmentation_train
from genseg.data.batches.sampling import EVERY_RECORD
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec
from genseg.dry_run import compiling, hlo

DOCS = Path(__file__).resolve().parents[1] / "docs"


def images(n: int) -> Callable[[], object]:
    base, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for part, shape in (("img", (128, 128, 4)), ("mask", (128, 128))):
        (base / "train" / part).mkdir(parents=True)
        data = codec.encode_png(rng.integers(0, 3, shape, dtype=np.uint8))
        for i in range(n):
            (base / "train" / part / f"{i}.png").write_bytes(data)
    options = dict(
        name="folder_segmentation", source=str(base), image_pattern="{split}/img/{id}.png",
        mask_pattern="{split}/mask/{id}.png", splits=("train",), bands=("a", "b", "c", "d"), classes=("x", "y", "z"),
    )  # fmt: skip

    def run() -> None:
        shutil.rmtree(base / "data", ignore_errors=True)
        data = prepare.completed(options, "config.data") | {"skip_corrupt": 0}
        prepare.ensure_prepared(data, base / "data", threads=1, progress=False)

    return run


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


def cycles(n: int) -> float:
    """The compiler's, of a step on a slice of n chips, each with 16 images."""
    side = round(n**0.5)
    small = {"model.backbone": "convnext_micro", "augment.size": 64, "train.batch_size": 16 * n, "mixing.group": 16}
    config = api.load_config("configs/pretrain.py:convnext_tiny,channels=4", small)
    _, step, _ = compiling.compile_for(config, f"v5e:{side}x{side}")
    return sum(one.cycles for one in hlo.cycles(step.text))


PANELS = {
    "images": (images, (50, 200, 800, 3200)),
    "index entries": (records, (1000, 10_000, 100_000, 1_281_167)),
    "classes": (classes, (2, 8, 32, 128)),
    "bands": (bands, (3, 12, 50, 200)),
    "scene side, pixels": (scene, (2000, 5000, 10_000, 20_000)),
    "devices": (cycles, (4, 16, 64, 256)),
}


def unit(panel: str) -> str:
    return "cycles of a step" if panel == "devices" else "CPU seconds"


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
    parser.add_argument("panels", nargs="*", choices=[*PANELS, []], help="some of them; none = all")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of growth.png and growth.csv")
    options = parser.parse_args()
    found: dict[str, list[tuple[int, float]]] = {}
    if (options.out / "growth.csv").exists():
        for row in csv.DictReader((options.out / "growth.csv").read_text().splitlines()):
            found.setdefault(row["what"], []).append((int(row["n"]), float(row["cost"])))
    for name in options.panels or PANELS:
        build, sizes = PANELS[name]
        found[name] = [(n, build(n) if name == "devices" else least(build(n))) for n in sizes]
        print(name, found[name], flush=True)
    found = {name: found[name] for name in PANELS if name in found}
    with open(options.out / "growth.csv", "w", newline="") as file:
        rows = [(name, n, f"{cost:.4g}", unit(name)) for name, points in found.items() for n, cost in points]
        csv.writer(file).writerows([("what", "n", "cost", "unit"), *rows])
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(2, 3, figsize=(9.6, 5.6), layout="constrained")
    for axis, (name, points) in zip(axes.flat, found.items(), strict=False):
        axis.loglog(*zip(*points, strict=True), "o-")
        axis.set_xlabel(name)
        axis.set_ylabel(unit(name))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(True, which="both", alpha=0.3)
    figure.savefig(options.out / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
