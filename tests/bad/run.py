"""All rows, or those whose name holds a word: `python -m tests.bad.run OUT [--quick] [--word WORD]`, a JSON line a row to OUT.

Standard output: rows that did not end as promised, and how many did.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.update(
    JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1",
)  # fmt: skip

import numpy as np
from PIL import Image

from tests.bad import command_rows, config_rows, damage_rows, data_rows, exchange_rows, predict_rows, runner, table_rows
from tests.bad.row import Row, config
from tests.data import made

UNTRAINED = (
    config_rows.every_key, config_rows.config_files, config_rows.environments, data_rows.own_data, data_rows.photographs,
    data_rows.shows, command_rows.studies, table_rows.tables, table_rows.containers, table_rows.options,
)  # fmt: skip
TRAINED = (
    config_rows.contradictions, predict_rows.predictions, predict_rows.idle, predict_rows.full_disks,
    predict_rows.doubled_truth, predict_rows.others_files, exchange_rows.exchange, damage_rows.prepared,
    damage_rows.checkpoints, damage_rows.workdirs, command_rows.reports, command_rows.scores, command_rows.others,
)  # fmt: skip


def table(untrained: bool = False) -> list[Row]:
    """All rows, or those for which no network need be trained."""
    if untrained:
        return [row for make in UNTRAINED for row in make() if not row.slow]
    return [row for make in (*UNTRAINED, *TRAINED) for row in make()]


def narrow() -> None:
    """The smallest network is made smaller: what a compiler's time is spent on."""
    from genseg import nets

    small = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)}
    nets.BACKBONES["convnext_micro"] = partial(nets.BACKBONES["convnext_micro"], **small)


def make_base(base: Path, untrained: bool) -> None:
    """Sound things: images, prepared data, trained and imported networks, exported weights."""
    base.mkdir()
    made.tiles(base / "tiles")
    made.photographs(base / "photographs")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 40, 4), np.uint8)).save(base / "scene.png")
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(base / "rgb.png")
    if untrained:
        shown = ("--data_dir", f"{base}/shown", "--output", f"{base}/sheet.png")
        runner.run(runner.SHOW, ["demo_segmentation", "--train_images", "4", "--val_images", "2", *shown], base, {})
        return
    small = tuple(a.replace("{here}", str(base)) for a in damage_rows.SMALL)
    pre = [a for a in small if "head_channels" not in a and "aux_channels" not in a]
    pre = [*pre, "--config.train.epochs=0.0", "--config.train.warmup_epochs=0.0"]
    for command, arguments in (
        (runner.MAIN, (config("demo_segment.py"), f"--workdir={base}/run", *small)),
        (runner.MAIN, (config("demo_pretrain.py") + ":objective=rgb,channels=3", f"--workdir={base}/pre", *pre)),
        (runner.EXCHANGE, ("export", "--checkpoint", f"{base}/pre", "--format", "timm", "--output", f"{base}/timm")),
        (runner.EXCHANGE, ("import", "--input", f"{base}/timm", "--backbone", "convnext_micro", "--task", "segmenter", "--parts", "backbone",
                           "--classes", "3", "--head-channels", "8", "--aux-channels", "8", "--output", f"{base}/imported")),
        (runner.SHOW, ("demo_segmentation", "--train_images", "4", "--val_images", "2", "--data_dir", f"{base}/shown",
                       "--output", f"{base}/sheet.png")),
        (runner.PREDICT, ("--checkpoint", f"{base}/run", "--out", f"{base}/maps", f"{base}/scene.png")),
    ):  # fmt: skip
        done = runner.run(command, list(arguments), base, {}, seconds=300, memory=16 << 30)
        if done.status:
            sys.exit(f"{command} {arguments} ended with {done.status}:\n{done.err}")


def judged(row: Row, base: Path, here: Path) -> dict:
    """What came of a row, and in words what of it was not as promised ("" if all was)."""
    here.mkdir()
    row.make(here, base)
    before = runner.fingerprint(here) | runner.changes(base)
    arguments = [a.replace("{here}", str(here)).replace("{base}", str(base)) for a in row.arguments]
    seconds = 5 * runner.SECONDS if row.slow else runner.SECONDS
    done = runner.run(row.command, arguments, here, dict(row.environment), largest=row.largest, seconds=seconds)
    after = runner.fingerprint(here) | runner.changes(base)
    lost = [
        p for p in before if after.get(p) != before[p] and not any(p.startswith(f"{here}/{own}") for own in row.own)
    ]
    sentences = [line for line in done.err.splitlines() if "error: " in line[:60] and not line.startswith(" ")]
    problems = []
    if "Traceback" in done.err + done.out:
        problems.append("traceback")
    if done.status not in ((0, 2) if row.status is None else (row.status,)):
        problems.append(f"status {done.status}")
    elif done.status == 2 and len(sentences) != 1:
        problems.append(f"{len(sentences)} sentences")
    elif row.sentence and row.sentence not in done.err + done.out:
        problems.append(f"another sentence than '{row.sentence}'")
    if lost:
        problems.append(f"changed {lost[0]}")
    shutil.rmtree(here, ignore_errors=True)
    return {
        "name": row.name, "problem": ", ".join(problems), "status": done.status, "seconds": round(done.seconds, 2),
        "peak": done.peak, "said": (sentences or done.err.splitlines()[-1:] or [""])[-1][:400],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="without rows that compile a network")
    parser.add_argument("--untrained", action="store_true", help="rows for which no network need be trained")
    parser.add_argument("--base", type=Path, help="keep the sound things here, and find them there again")
    parser.add_argument("--word", default="", help="only rows whose name holds one of these, separated by |")
    parser.add_argument("--resume", action="store_true", help="leave out the rows that OUT has")
    options = parser.parse_args()
    runner.load()
    narrow()
    chosen = [
        row
        for row in table(options.untrained)
        if any(w in row.name for w in options.word.split("|")) and not (options.quick and row.slow)
    ]
    ended = set()
    if options.resume and options.out.exists():
        ended = {json.loads(line)["name"] for line in options.out.read_text().splitlines()}
        chosen = [row for row in chosen if row.name not in ended]
    kept = 0
    with tempfile.TemporaryDirectory() as scratch, options.out.open("a" if options.resume else "w") as out:
        base = options.base or Path(scratch) / "base"
        if not base.exists():
            make_base(base, options.untrained)
        for number, row in enumerate(chosen):
            result = judged(row, base, Path(scratch) / f"row{number}")
            print(json.dumps(result), file=out, flush=True)
            kept += not result["problem"]
            if result["problem"]:
                print(f"{result['name']}: {result['problem']} | {result['said']}", flush=True)
    print(f"{len(chosen)} rows: {kept} as promised, {len(chosen) - kept} not ({kept / max(1, len(chosen)):.2%})")
    return 0 if kept == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
