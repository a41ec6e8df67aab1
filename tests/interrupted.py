"""Every command stopped at every file that it writes: `python -m tests.interrupted OUT [NAME ...] [--trained]`,
a JSON line a stop to OUT.

At the moment at which the n-th file or folder is whole under its temporary name and has not got its own yet, the command gets
a signal; then the same command is run again, undisturbed. Commands run in forks, see tests/bad/runner.py.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(
    JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1",
)  # fmt: skip

import numpy as np
import tifffile

from genseg import outputs
from genseg.data.card import Band, DatasetCard
from tests.bad import run as bad
from tests.bad import runner
from tests.test_report import workdir

OWN = ("folder_segmentation", "--image_pattern={split}/img/tile_{id}.tif", "--mask_pattern={split}/mask/mask_{id}.tif",
       "--bands=('red', 'green', 'blue', 'nir')", "--classes=('a', 'b', 'c')", "--source={base}/tiles")  # fmt: skip
UNTRAINED = {
    "prepare": (runner.PREPARE, (*OWN, "--data_dir={here}")),
    "show": (runner.SHOW, (*OWN, "--data_dir={here}", "--output={here}/sheet.png")),
    "report": (runner.REPORT, ("{base}/runs/a", "{base}/runs/b", "--out={here}")),
    "score": (runner.SCORE, ("--maps", "--errors", "--out={here}", "--masks={base}/masks", "{base}/drawn/x_classes.tif")),
}  # fmt: skip
TRAINED = {
    "export weights": (runner.EXCHANGE, ("export", "--checkpoint={base}/run", "--format=huggingface", "--output={here}/weights")),
    "export a program": (runner.EXCHANGE, ("export", "--checkpoint={base}/run", "--format=stablehlo", "--output={here}/p.bin")),
    "import": (runner.EXCHANGE, ("import", "--input={base}/timm", "--backbone=convnext_micro", "--output={here}/imported")),
    "predict": (
        runner.PREDICT,
        ("--checkpoint={base}/run", "--out={here}", "--polygons", "--probabilities", "{base}/scene.png", "{base}/other.tif"),
    ),
}  # fmt: skip


def make(base: Path) -> None:
    """What the untrained commands read, beside what tests/bad makes."""
    (base / "runs").mkdir()
    for seed, name in enumerate("ab"):
        workdir(base / "runs", name, seed=seed)
    ids = np.random.default_rng(0).integers(0, 2, (40, 40), dtype=np.uint8)
    for folder, name in (("drawn", "x_classes.tif"), ("masks", "x.tif")):
        (base / folder).mkdir()
        tifffile.imwrite(base / folder / name, ids)
    card = DatasetCard(
        name="x", task="segmentation", bands=(Band("a"),), classes=("no", "yes"), palette=((0, 0, 0), (9, 9, 9)),
        ignore_label=255, scored=(0, 1), splits={}, protocol="", synthetic=True,
    )  # fmt: skip
    (base / "drawn" / "x.json").write_text(json.dumps({"card": json.loads(card.to_json())}))
    tifffile.imwrite(
        base / "other.tif", np.zeros((40, 40, 4), np.uint8), photometric="minisblack", planarconfig="contig"
    )


@contextlib.contextmanager
def stopped_at(number: int, what: int):
    """In forks made meanwhile, the signal `what` comes when the file `number`, from 1, is whole and has no name yet."""
    kept, count = {name: getattr(outputs, name) for name in ("replacing", "staged")}, [0]

    def wrapped(original):
        @contextlib.contextmanager
        def inner(*arguments, **options):
            with original(*arguments, **options) as path:
                yield path
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), what)
                    time.sleep(0.2)  # a handler runs in the main thread, which need not be this one

        return inner

    for name, original in kept.items():
        setattr(outputs, name, wrapped(original))
    try:
        yield
    finally:
        for name, original in kept.items():
            setattr(outputs, name, original)


def names(folder: Path) -> list[str]:
    """Files below a folder, without those that Orbax gives random names."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.parent.name != "d")
    return sorted(map(str, found))


def stops(name: str, command: str, arguments: tuple[str, ...], base: Path, folder: Path):
    """A row for each file of the command and each signal."""

    def run(here: Path) -> runner.Outcome:
        here.mkdir(exist_ok=True)
        filled = [a.replace("{base}", str(base)).replace("{here}", str(here)) for a in arguments]
        return runner.run(command, filled, here, {}, memory=16 << 30)

    whole = run(folder / "whole")
    assert whole.status == 0, whole.err
    for what in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        for number in range(1, 99):
            here = folder / f"{what.name}-{number}"
            with stopped_at(number, what):
                first = run(here)
            if first.status == 0:
                break
            left = [n for n in names(here) if ".partial-" in n]
            again = run(here)
            yield {
                "command": name, "signal": what.name, "file": number, "status": first.status, "said": first.err,
                "left": left, "again": again.status, "error": again.err if again.status else "",
                "same": names(here) == names(folder / "whole"), "missing": sorted(set(names(folder / "whole")) ^ set(names(here))),
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("names", nargs="*", help="of commands; none: all")
    options = parser.parse_args()
    bad.narrow()
    runner.load()
    with tempfile.TemporaryDirectory() as place, open(options.out, "w") as out:
        base = Path(place) / "base"
        bad.make_base(base, not options.trained)
        make(base)
        for name, (command, arguments) in (TRAINED if options.trained else UNTRAINED).items():
            if options.names and name not in options.names:
                continue
            folder = Path(place) / name.replace(" ", "-")
            folder.mkdir()
            for row in stops(name, command, arguments, base, folder):
                print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    sys.exit(main())
