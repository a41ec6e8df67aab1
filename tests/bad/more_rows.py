"""Rows that need a trained network, prepared data or foreign weights."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Iterator

from tests.bad.rows import (
    DAMAGED,
    DONE,
    MAIN,
    MISTAKE,
    SPECIAL,
    Row,
    config,
    copied,
    nothing,
    replaced,
    special,
    write,
)  # fmt: skip
from tests.bad.runner import EXCHANGE, PREDICT

SMALL = ("--config.data.data_dir={here}/data", "--config.data.train_images=16", "--config.data.val_images=8",
         "--config.train.batch_size=8", "--config.eval.batch_size=8", "--config.train.steps=1", "--config.train.warmup_steps=0",
         "--config.report.panels=0", "--config.model.head_channels=8", "--config.model.aux_channels=8")  # fmt: skip
TRAIN = (config("demo_segment.py"), "--workdir={here}/run", *SMALL)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(seed: int):
    """Four bits of a file, anywhere."""

    def change(path) -> None:
        data, rng = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(4):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))

    return change


WAYS = {
    "deleted": lambda path: path.unlink(), "empty": lambda path: path.write_bytes(b""), "cut": cut,
    "text": lambda path: path.write_bytes(b"hello"), "null": lambda path: path.write_bytes(b"null"),
    "a list": lambda path: path.write_bytes(b"[]"), "a number": lambda path: path.write_bytes(b"5"),
    "an empty mapping": lambda path: path.write_bytes(b"{}"), "latin-1": lambda path: path.write_bytes(b'{"a": "\xe9"}'),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()), "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    **{f"flipped {seed}": flipped(seed) for seed in range(3)},
}  # fmt: skip


def damaged(what: str, pattern: str, way):
    """A copy of base/WHAT in which the first file that matches is damaged."""

    def change(root) -> None:
        way(sorted(p for p in root.rglob(pattern) if p.is_file())[0])

    return copied(what, change)


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
    more = (config("demo_segment.py"), "--workdir={here}/run", *SMALL, "--mode=eval")
    for pattern in ("config.json", "metrics.jsonl", "result.json"):
        for name, way in WAYS.items():
            yield Row(
                f"workdir {pattern}: {name}",
                MAIN,
                more,
                "",
                both(damaged("run", pattern, way)),
                status=None,
                own=("run", "data"),
                slow=True,
            )
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
    for key in ("config", "card", "versions", "checksums"):
        yield Row(f"checkpoint meta without {key}", PREDICT, run, "", without(key), own=("run",))
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


def predictions() -> Iterator[Row]:
    run = ("--checkpoint", "{base}/run", "--out", "{here}/out")
    for name, content in DAMAGED.items():
        for suffix in (".png", ".tif"):

            def make(here, base, content=content, suffix=suffix):
                replaced(f"x{suffix}", content)(here)

            yield Row(f"predict x{suffix}: {name}", PREDICT, (*run, "{here}/x" + suffix), "", make)
    for name, arguments, sentence, make in (
        ("no checkpoint", ("--checkpoint", "{here}/no", "--out", "{here}/out", "{base}/scene.png"), "no checkpoint at", nothing),
        ("empty checkpoint", ("--checkpoint", "", "--out", "{here}/out", "{base}/scene.png"), "--checkpoint is empty", nothing),
        ("empty folder", ("--checkpoint", "{here}", "--out", "{here}/out", "{base}/scene.png"), "no complete checkpoint", nothing),
        ("a file", ("--checkpoint", "{base}/scene.png", "--out", "{here}/out", "{base}/scene.png"), "", nothing),
        ("empty out", ("--checkpoint", "{base}/run", "--out", "", "{base}/scene.png"), "--out is empty", nothing),
        ("out below a file", ("--checkpoint", "{base}/run", "--out", "{base}/scene.png/x", "{base}/scene.png"), "", nothing),
        ("out is a file", ("--checkpoint", "{base}/run", "--out", "{base}/scene.png", "{base}/scene.png"), "", nothing),
        ("out in /proc", ("--checkpoint", "{base}/run", "--out", "/proc/x", "{base}/scene.png"), "/proc", nothing),
        ("no file", (*run, "{here}/no.tif"), "no file", nothing),
        ("band 9", (*run, "{base}/scene.png:9"), "band", nothing),
        ("band 0", (*run, "{base}/scene.png:0,1,2,3"), "no band 0", nothing),
        ("too few bands", (*run, "{base}/scene.png:1,2"), "band(s)", nothing),
        ("negative crop", (*run, "--crop", "-1", "-1", "{base}/scene.png"), "crop", nothing),
        ("zero stride", (*run, "--stride", "0", "0", "{base}/scene.png"), "stride", nothing),
        ("nan scale", (*run, "--scales", "nan", "--", "{base}/scene.png"), "scales", nothing),
        ("negative batch", (*run, "--batch", "-1", "{base}/scene.png"), "batch", nothing),
        ("huge crop", (*run, "--crop", "200000", "200000", "{base}/scene.png"), "memory", nothing),
        ("huge batch", (*run, "--batch", "1000000000", "{base}/scene.png"), "memory", nothing),
        ("a pre-training checkpoint", ("--checkpoint", "{base}/pre", "--out", "{here}/out", "{base}/scene.png"), "of pre-training", nothing),
        ("no averaged weights", (*run, "--ema", "{base}/scene.png"), "no averaged weights", nothing),
        ("one name twice", (*run, "{base}/scene.png", "{here}/scene.png"), "both be written", lambda h, b: shutil.copy(b / "scene.png", h)),
        ("output is an input", ("--checkpoint", "{base}/run", "--out", "{here}", "{here}/a.png", "{here}/a_classes.png"), "a_classes.png",
         lambda h, b: (shutil.copy(b / "scene.png", h / "a.png"), shutil.copy(b / "scene.png", h / "a_classes.png"))),
        ("output is another's file", ("--checkpoint", "{base}/run", "--out", "{here}", "{base}/scene.png"), "was not made by genseg",
         lambda h, b: shutil.copy(b / "scene.png", h / "scene_classes.png")),
    ):  # fmt: skip
        yield Row(f"predict: {name}", PREDICT, arguments, sentence, make)
    yield Row(
        "predict: a name that is no text",
        PREDICT,
        (*run, "{here}/caf\udce9.png"),
        "",
        lambda h, b: shutil.copy(b / "scene.png", h / "caf\udce9.png"),
        status=DONE,
        slow=True,
    )
    yield Row("predict: an ASCII terminal", PREDICT, (*run, "{here}/caf\xe9.png"), "", lambda h, b: shutil.copy(b / "scene.png", h / "caf\xe9.png"), status=DONE,
              environment=(("PYTHONIOENCODING", "ascii"),), slow=True)  # fmt: skip
    yield Row(
        "predict: what import wrote",
        PREDICT,
        ("--checkpoint", "{base}/imported", "--out", "{here}/out", "{base}/rgb.png"),
        "",
        status=DONE,
        slow=True,
    )


def safetensors(head: dict | bytes, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def torch_zip(path, *, pickled: bytes, members: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, data in (members or {}).items():
            archive.writestr(f"x/{name}", data)


def exchange() -> Iterator[Row]:
    run = ("import", "--output", "{here}/out", "--backbone", "convnext_micro", "--input")
    for name, content, sentence in (
        ("empty", b"", ""), ("text", b"hello", ""), ("length too long", (1 << 62).to_bytes(8, "little") + b"{}", ""),
        ("no json", safetensors(b"hello"), ""), ("a list", safetensors(b"[]"), ""), ("no tensors", safetensors({}), "no tensors"),
        ("F8", safetensors({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"12"), "F8_E4M3"),
        ("F8_E5M2", safetensors({"a": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}}, b"12"), "F8_E5M2"),
        ("F4", safetensors({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, b"12"), "F4"),
        ("unknown type", safetensors({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 2]}}, b"12"), ""),
        ("offsets outside", safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"12"), ""),
        ("overlap", safetensors({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, b"12"), ""),
        ("rank 0 kernel", safetensors({"stem.0.weight": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, b"1234"), "stem.0.weight"),
        ("rank 1 kernel", safetensors({"stem.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"), "stem.0.weight"),
        ("rank 7 kernel", safetensors({"stem.0.weight": {"dtype": "F32", "shape": [1] * 7, "data_offsets": [0, 4]}}, b"1234"), "stem.0.weight"),
        ("foreign names", safetensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"), "no tensor named"),
        *((kind, special(kind), "") for kind in SPECIAL),
    ):  # fmt: skip
        yield Row(f"safetensors: {name}", EXCHANGE, (*run, "{here}/w.safetensors"), sentence,
                  lambda h, b, content=content: replaced("w.safetensors", content)(h))  # fmt: skip
    for name, content, sentence in (
        ("empty", b"", ""), ("text", b"hello", ""), ("no zip", pickle.dumps({}), ""),
        ("no data.pkl", lambda p: zipfile.ZipFile(p, "w").writestr("a", "b"), ""),
        ("runs code", lambda p: torch_zip(p, pickled=pickle.dumps(Evil())), ""),
        ("a number", lambda p: torch_zip(p, pickled=pickle.dumps(5)), "no tensors"),
        ("no tensors", lambda p: torch_zip(p, pickled=pickle.dumps({"a": 1})), "no tensors"),
        ("cut pickle", lambda p: torch_zip(p, pickled=pickle.dumps({"a": 1})[:-3]), ""),
        ("deep pickle", lambda p: torch_zip(p, pickled=b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), ""),
        ("long integer", lambda p: torch_zip(p, pickled=b"\x80\x02\x8b\xff\xff\xff\x7f1."), ""),
        ("long text", lambda p: torch_zip(p, pickled=b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"."), ""),
        ("bytearray of 1 TB", lambda p: torch_zip(p, pickled=b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"."), ""),
        ("memo far away", lambda p: torch_zip(p, pickled=b"\x80\x02]r\xff\xff\xff\x7f."), ""),
        ("zip bomb", lambda p: torch_zip(p, pickled=bytes(1 << 28)), ""),
        ("encrypted", lambda p: torch_zip(p, pickled=b"."), ""),
        *((kind, special(kind), "") for kind in SPECIAL),
    ):  # fmt: skip
        yield Row(
            f"torch file: {name}",
            EXCHANGE,
            (*run, "{here}/w.pth"),
            sentence,
            lambda h, b, content=content: replaced("w.pth", content)(h),
        )
    sound = ("import", "--input", "{base}/timm/model.safetensors", "--backbone", "convnext_micro")
    for name, more, sentence, make in (
        ("no file", ("--output", "{here}/o", "--input", "{here}/no.pth"), "no checkpoint file", nothing),
        ("empty input", ("--output", "{here}/o", "--input", ""), "--input is empty", nothing),
        ("empty output", ("--output", ""), "--output is empty", nothing),
        ("output not empty", ("--output", "{here}/o"), "is not empty", write("o/x", "mine")),
        ("output is a file", ("--output", "{base}/scene.png"), "", nothing),
        ("output below a file", ("--output", "{base}/scene.png/x"), "", nothing),
        ("output in /proc", ("--output", "/proc/x"), "/proc", nothing),
        ("unknown backbone", ("--output", "{here}/o", "--backbone", "resnet50"), "resnet50", nothing),
        ("another backbone", ("--output", "{here}/o", "--backbone", "swin_tiny"), "", nothing),
        ("channels 0", ("--output", "{here}/o", "--channels", "0"), "--channels", nothing),
        ("channels -3", ("--output", "{here}/o", "--channels", "-3"), "--channels", nothing),
        ("channels x", ("--output", "{here}/o", "--channels", "x"), "--channels", nothing),
        ("huge channels", ("--output", "{here}/o", "--channels", "1000000000"), "", nothing),
        ("classes 0", ("--output", "{here}/o", "--classes", "0"), "--classes", nothing),
        ("other classes", ("--output", "{here}/o", "--classes", "7"), "", nothing),
        ("unknown part", ("--output", "{here}/o", "--parts", "nose"), "nose", nothing),
        ("unknown stem", ("--output", "{here}/o", "--stem", "foo"), "foo", nothing),
        ("negative seed", ("--output", "{here}/o", "--seed", "-1"), "--seed", nothing),
        ("unknown option", ("--output", "{here}/o", "--nosuch"), "--nosuch", nothing),
    ):  # fmt: skip
        yield Row(f"import: {name}", EXCHANGE, (*sound, *more), sentence, make)
    out = ("export", "--checkpoint", "{base}/run", "--output")
    for name, arguments, sentence, make in (
        ("no checkpoint", ("export", "--checkpoint", "{here}/no", "--output", "{here}/o", "--format", "mmseg"), "no checkpoint at", nothing),
        ("empty checkpoint", ("export", "--checkpoint", "", "--output", "{here}/o", "--format", "mmseg"), "--checkpoint is empty", nothing),
        ("empty output", (*out, "", "--format", "mmseg"), "--output is empty", nothing),
        ("unknown format", (*out, "{here}/o", "--format", "foo"), "foo", nothing),
        ("timm of a segmenter", (*out, "{here}/o", "--format", "timm"), "timm has no UperNet", nothing),
        ("no averaged weights", (*out, "{here}/o", "--format", "mmseg", "--ema"), "no averaged weights", nothing),
        ("onnx without size", (*out, "{here}/o", "--format", "onnx"), "--size", nothing),
        ("size 0", (*out, "{here}/o", "--format", "onnx", "--size", "0", "0"), "--size", nothing),
        ("program of a classifier", ("export", "--checkpoint", "{base}/pre", "--output", "{here}/o", "--format", "stablehlo"), "classifier", nothing),
        ("onto a file", (*out, "{base}/scene.png", "--format", "mmseg"), "", nothing),
        ("over another's weights", (*out, "{here}/o", "--format", "mmseg"), "was not made by genseg", write("o/model.safetensors", safetensors({}))),
        ("program over another's file", (*out, "{here}/o.bin", "--format", "stablehlo"), "", write("o.bin", "mine")),
        ("in /proc", (*out, "/proc/x", "--format", "mmseg"), "/proc", nothing),
    ):  # fmt: skip
        yield Row(f"export: {name}", EXCHANGE, arguments, sentence, make)
