"""Damage in what genseg itself has written: prepared data, workdirs, checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from tests.bad.row import DONE, MISTAKE, WAYS, Row, config, copied, damaged
from tests.bad.runner import MAIN, PREDICT

SMALL = ("--config.data.data_dir={here}/data", "--config.data.train_images=16", "--config.data.val_images=8",
         "--config.train.batch_size=8", "--config.eval.batch_size=8", "--config.train.steps=1", "--config.train.warmup_steps=0",
         "--config.report.panels=0", "--config.model.head_channels=8", "--config.model.aux_channels=8")  # fmt: skip
TRAIN = (config("demo_segment.py"), "--workdir={here}/run", *SMALL)


def prepared() -> Iterator[Row]:
    for pattern in (
        "card.json",
        "places.json",
        "source.json",
        "dataset_info.json",
        "features.json",
        "*train*array_record*",
    ):
        for name, way in WAYS.items():
            # What is no longer noticed, or made again, is as good as a sentence: status None.
            yield Row(
                f"prepared {pattern}: {name}", MAIN, (*TRAIN, "--config.data.eval_split=train", "--config.train.accumulation=3"), "",
                damaged("data", pattern, way), status=None, own=("data",),
            )  # fmt: skip


def workdirs() -> Iterator[Row]:
    """A run that has ended, started again."""
    more = (config("demo_segment.py"), "--workdir={here}/run", *SMALL)
    for pattern in ("config.json", "metrics.jsonl", "result.json"):
        for name in ("cut", "nested", "latin-1", "a folder", "a pipe", "flipped 0"):
            yield Row(
                f"workdir {pattern}: {name}", MAIN, more, "", both(damaged("run", pattern, WAYS[name])), status=None,
                own=("run", "data"), slow=True,
            )  # fmt: skip
    for name in ("²", "0006", "٣", "-3", "6.5", "x"):
        yield Row(
            f"workdir: folder {name} among checkpoints", MAIN, more, "",
            both(copied("run", lambda root, name=name: (root / "checkpoints" / name).mkdir())), status=MISTAKE if name.isdigit() else DONE, own=("run", "data"), slow=True,
        )  # fmt: skip


def both(make):
    def made(here, base):
        make(here, base)
        if not (here / "data").exists():
            shutil.copytree(base / "data", here / "data", symlinks=True)

    return made


def checkpoints() -> Iterator[Row]:
    """Damage in a checkpoint's small files, seen by predict: named, never a traceback."""
    run = ("--checkpoint", "{here}/run", "--out", "{here}/out", "{base}/scene.png")
    for pattern in (
        "meta/metadata",
        "_METADATA",
        "_CHECKPOINT_METADATA",
        "manifest.ocdbt",
        "_sharding",
        "data/metadata",
    ):
        for name, way in WAYS.items():
            yield Row(
                f"checkpoint {pattern}: {name}",
                PREDICT,
                run,
                "",
                damaged_step("run", pattern, way),
                status=None,
                own=("run",),
                slow=True,
            )
    for key in ("config", "card", "versions"):
        yield Row(f"checkpoint meta without {key}", PREDICT, run, "", without(key), own=("run",))
    yield Row(
        "checkpoint meta without checksums, of an earlier genseg", PREDICT, run, "saved without checksums",
        without("checksums"), status=DONE, own=("run",), slow=True,
    )  # fmt: skip
    for key in ("eval", "augment", "model", "loss", "task"):
        yield Row(
            f"checkpoint config without {key}",
            PREDICT,
            run,
            "",
            without("config", key),
            status=None,
            own=("run",),
            slow=True,
        )


def damaged_step(what, pattern, way):
    def change(root) -> None:
        step = sorted((root / "checkpoints").iterdir())[-1]
        found = sorted(p for p in step.rglob("*") if p.is_file() and str(p).endswith(pattern))
        way(found[0])

    return copied(what, change)


def without(*keys):
    def change(root) -> None:
        step = sorted((root / "checkpoints").iterdir())[-1]
        path = step / "meta" / "metadata"
        values = json.loads(path.read_text())
        values.pop("crc32", None)
        place = values
        for key in keys[:-1]:
            place = place[key]
        place.pop(keys[-1], None)
        path.write_text(json.dumps(values))

    return copied("run", change)
