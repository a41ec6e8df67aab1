"""Foreign weights in, and weights out."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator

from tests.bad.bombs import safetensors, torch_zip
from tests.bad.row import SPECIAL, Row, nothing, replaced, special, write
from tests.bad.runner import EXCHANGE


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


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
