"""Bytes changed anywhere in every file that genseg writes and reads: `python -m tests.bad.flips OUT [--count N] [--word WORD]`.

A reader then gives what it gave before, gives something else where the format has no checksum, or raises UserError; in a
fork of its own with limits of time and memory, since a decoder may also crash. A JSON line a change that did otherwise.

Not here: what genseg writes for others and never reads (STAC items, Deepness's properties, pages, tables, pictures), and the
arrays of checkpoints, whose damage tests/test_checkpoints.py looks for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image
from safetensors.numpy import save_file

from genseg import outputs
from genseg.checkpoints import damage
from genseg.checkpoints.damage import Damaged
from genseg.data import prepare
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, maps, masks, qgis, rasters
from genseg.errors import UserError
from genseg.exchange import files as weights
from genseg.report import page, runs, tables, writing
from genseg.score import command as scoring
from genseg.score import pairs
from tests.bad.bombs import torch_zip

SECONDS, BYTES = 20, 3 << 30
RUN = (
    "config.json",
    "result.json",
    "metrics.jsonl",
    "val_scene_counts.npz",
    "pictures/val_classes.csv",
    "pictures/val_confusion.csv",
)
CARD = DatasetCard(
    name="drawn", task="segmentation", bands=(Band("red"), Band("green"), Band("blue")), classes=("ground", "tree"),
    palette=((1, 2, 3), (4, 5, 6)), ignore_label=255, scored=(0, 1), splits={"val": 6}, protocol="mIoU", synthetic=True,
)  # fmt: skip


class Kind(NamedTuple):
    """file: below the folder of sound files. read: of a folder -> what a user would see, compared by its text. sealed: the
    format has a checksum, so that nothing else may come of it."""

    file: str
    read: Callable[[Path], Any]
    sealed: bool = False


def changed(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a part cut off, taken out, repeated or overwritten; in half of the cases near the beginning."""
    place = rng.randrange(min(len(data), 600) if rng.random() < 0.5 else len(data))
    size = min(rng.choice((1, 2, 4, 8, 64)), len(data) - place)
    before, part, behind = data[:place], data[place : place + size], data[place + size :]
    way = rng.randrange(8)
    if way < 3:
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 4))):
            at = place if rng.random() < 0.5 else rng.randrange(len(data))
            flipped[at] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    return {
        3: before, 4: before + behind, 5: before + part + part + behind, 6: before + b"\xff" * size + behind,
        7: before + rng.randbytes(size) + behind,
    }[way]  # fmt: skip


def pixels(path: Path) -> list:
    """Of an image read in strips, as predictions are, and whole."""
    raster = rasters.Raster([path])
    height = raster.shape[0]
    strips = [raster[top : top + 7, : raster.shape[1]].copy() for top in range(0, min(height, 700), 7)]
    return [raster.shape, raster.nodata, str(raster.place.transform), [strip.tobytes() for strip in strips]]


def mask(path: Path) -> list:
    found = rasters.read_mask(path)
    return [found.ids.shape, found.ids.tobytes(), found.nodata]


def table(path: Path) -> str:
    return repr(masks.read_class_table(path))


def records(folder: Path) -> list:
    split = pipeline.open_split(folder, "val")
    out = []
    for index in range(len(split)):
        try:
            found = split.decode(index)
            out.append([found["image"].tobytes(), np.asarray(found["label"]).tobytes(), found["name"]])
        except codec.CorruptFile:  # counted, and passed over where config.data.skip_corrupt allows that
            out.append([])
    return out


def report(folder: Path) -> list:
    (run,) = runs.read([str(folder)])
    return [page.page([run]), run.result, run.records]


def prepared(folder: Path) -> list:
    card = DatasetCard.read(folder)
    return [card.describe(), pipeline.open_split(folder, "val").places, prepare._options_of(folder)]


def make(base: Path) -> None:
    """Sound files. In a fork of its own: what writes records starts threads, and their process cannot be forked."""
    rng = np.random.default_rng(0)
    four, ids = rng.integers(0, 255, (40, 50, 4), np.uint8), rng.integers(0, 2, (40, 50)).astype(np.uint8)
    Image.fromarray(four).save(base / "image.png")
    Image.fromarray(four[..., :3]).save(base / "image.jpg", quality=90)
    np.save(base / "image.npy", four)
    plain = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(base / "image.tif", four, compression="deflate", rowsperstrip=8, **plain)
    tifffile.imwrite(base / "tiles.tif", rng.random((64, 64, 2), np.float32), tile=(16, 16), **plain)
    tifffile.imwrite(base / "pages.tif", four.transpose(2, 0, 1), photometric="minisblack", compression="zstd")
    rasters.write_classes(base / "map.png", [ids], CARD)
    place = maps.Place(None, None, ())
    with maps.cog(
        base / "map.tif", ids.shape, place, bands=("class",), nodata=255, palette=CARD.palette, tags={"A": "b"}
    ) as sink:
        sink.write(ids)
    qgis.write_style(base / "map.qml", qgis.classes_of(CARD))
    for name, text in (
        ("classes.csv", "id,name,colour\n0,ground,#010203\n1,tree,#040506\n"),
        ("classes.yaml", "- {id: 0, name: ground}\n- {id: 1, name: tree}\n"),
        ("pairs.csv", "image.png,map.png\nimage.tif,map.tif\n"),
        ("map.json", json.dumps({"software": outputs.MARK, "card": json.loads(CARD.to_json()), "settings": {}})),
    ):
        (base / name).write_text(text, encoding="utf-8")
    tensors = {"stem.0.weight": rng.random((4, 3), np.float32), "b": rng.random(5, np.float32)}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    torch_file(base / "model.pth", tensors)
    _run(base / "run", rng)
    meta = base / "step" / "meta"
    meta.mkdir(parents=True)
    values = {"config": {"task": "segment"}, "card": CARD.to_json(), "versions": {}, "checksums": {"a": 1}}
    (meta / "metadata").write_text(json.dumps(damage.sealed(values)), encoding="utf-8")
    data = {"name": "demo_segmentation", "train_images": 2, "val_images": 6}
    prepare.ensure_prepared(prepare.completed(data, "config.data") | {"skip_corrupt": 0}, base / "data", progress=False)


def kinds(base: Path) -> dict[str, Kind]:
    """How each of the sound files is read."""
    found = {}
    for name in ("image.png", "image.jpg", "image.npy", "image.tif", "tiles.tif", "pages.tif"):
        found[name] = Kind(name, lambda folder, name=name: pixels(folder / name), sealed=name == "image.png")
        found[f"bytes of {name}"] = Kind(
            name, lambda folder, name=name: codec.decode_image((folder / name).read_bytes(), name).tobytes()
        )
    for name in ("map.png", "map.tif"):
        found[name] = Kind(name, lambda folder, name=name: mask(folder / name))
    for name in ("map.qml", "classes.csv", "classes.yaml"):
        found[name] = Kind(name, lambda folder, name=name: table(folder / name))
    for name in RUN:
        found[f"run {name}"] = Kind(f"run/{name}", lambda folder: report(folder / "run"))
    found |= {
        "pairs.csv": Kind("pairs.csv", lambda folder: pairs.listed(str(folder / "pairs.csv"))),
        "record of a map": Kind("map.json", lambda folder: scoring._card_of(folder / "map_classes.tif").describe()),
        "model.safetensors": Kind("model.safetensors", lambda folder: loaded(folder / "model.safetensors")),
        "model.pth": Kind("model.pth", lambda folder: loaded(folder / "model.pth"), sealed=True),
        "meta of a checkpoint": Kind(
            "step/meta/metadata", lambda folder: damage.read_meta(damage.epath.Path(folder / "step")), sealed=True
        ),
    }
    (made,) = (base / "data").glob("demo_segmentation-*")
    where = made.relative_to(base)
    for path in sorted(p for p in made.rglob("*") if p.is_file() and p.stat().st_size):
        read = records if "array_record" in path.name else prepared
        found[f"prepared {path.relative_to(made)}"] = Kind(
            str(path.relative_to(base)), lambda folder, read=read: read(folder / where)
        )
    return found


def loaded(path: Path) -> dict:
    return {name: (value.shape, value.tobytes()) for name, value in weights.read(str(path)).items()}


def torch_file(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """As torch.save writes it."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    body, members = b"", {}
    for place, (name, array) in enumerate(tensors.items()):
        strides = [stride // array.itemsize for stride in array.strides]
        storage = (
            b"("
            + text("storage")
            + b"ctorch\nFloatStorage\n"
            + text(str(place))
            + text("cpu")
            + number(array.size)
            + b"tQ"
        )
        size, steps = (b"(" + b"".join(map(number, values)) + b"t" for values in (array.shape, strides))
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + size + steps + b"tR"
        members[f"data/{place}"] = array.tobytes()
    torch_zip(path, pickled=b"\x80\x02}(" + body + b"u.", members=members)


def _run(folder: Path, rng: np.random.Generator) -> None:
    """What a run leaves, without a network."""
    (folder / "pictures").mkdir(parents=True)
    writing.write_json(folder / "config.json", {"task": "segment", "data": {"eval_split": "val", "name": "drawn"}})
    scores = {"miou": 0.5, "oa": 0.75}
    writing.write_json(
        folder / "result.json", {"scores": scores, "data": "drawn", "split": "val", "step": 4, "protocol": "mIoU"}
    )
    lines = [json.dumps({"step": step, "train/loss": 1 / (1 + step), "eval/miou": 0.1 * step}) for step in range(5)]
    writing.write_atomically(folder / "metrics.jsonl", "\n".join(lines) + "\n")
    rows = [["class", "IoU", "scored"], ["ground", "50.00", "yes"], ["tree", "50.00", "yes"]]
    writing.write_atomically(folder / "pictures" / "val_classes.csv", tables.csv_text(rows, ["p", "p"]))
    rows = [["", "ground", "tree"], ["ground", "5", "1"], ["tree", "2", "7"]]
    writing.write_atomically(folder / "pictures" / "val_confusion.csv", tables.csv_text(rows, ["p", "p"]))
    counts = rng.integers(0, 9, (6, 2, 2))
    np.savez_compressed(folder / "val_scene_counts.npz", confusion=counts, scenes=np.array(list("abcdef")))


def outcome(kind: Kind, folder: Path, before: str) -> str:
    """What is wrong with what came of a change; "" if nothing is. In the process of a fork."""
    try:
        found = repr(kind.read(folder))
    except (UserError, Damaged, codec.CorruptFile):
        return ""
    except BaseException:
        return traceback.format_exc()
    return "taken although it has a checksum" if kind.sealed and found != before else ""


def tried(name: str, kind: Kind, base: Path, seeds: range, scratch: Path) -> list[dict]:
    """The changes that ended otherwise; each batch of changes in a fork, which is begun anew behind a change that ends it."""
    folder, wrong, first = scratch / "here", [], seeds.start
    sound, note = (base / kind.file).read_bytes(), scratch / "note"
    while first < seeds.stop:
        note.write_text(f"{first}\n")
        child = os.fork()
        if not child:
            _child(kind, base, folder, sound, range(first, seeds.stop), note)
        _, ended = os.waitpid(child, 0)
        told = [line.split(" ", 1) for line in note.read_text().splitlines()]
        wrong += [{"kind": name, "seed": int(n[0]), "wrong": json.loads(n[1])} for n in told if len(n) > 1]
        last = int(told[-1][0])
        if ended:
            wrong.append({"kind": name, "seed": last, "wrong": f"status {os.waitstatus_to_exitcode(ended)}"})
        shutil.rmtree(folder, ignore_errors=True)
        first = last + 1
    return wrong


def _child(kind: Kind, base: Path, folder: Path, sound: bytes, seeds: range, note: Path) -> None:
    """Ends the process."""
    status = 3
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        shutil.copytree(base, folder)
        before = repr(kind.read(folder))
        with note.open("a") as file:
            for seed in seeds:
                print(seed, file=file, flush=True)
                (folder / kind.file).write_bytes(changed(sound, random.Random(f"{kind.file} {seed}")))
                signal.alarm(SECONDS)
                said = outcome(kind, folder, before)
                signal.alarm(0)
                if said:
                    print(seed, json.dumps(said), file=file, flush=True)
        status = 0
    finally:
        os._exit(status)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=20, help="changes of each file")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--word", default="", help="only files whose name holds one of these, separated by |")
    options = parser.parse_args()
    number = 0
    with tempfile.TemporaryDirectory() as scratch, options.out.open("w") as out:
        base = Path(scratch) / "base"
        base.mkdir()
        wrong = []
        child = os.fork()
        if not child:
            make(base)
            os._exit(0)
        os.waitpid(child, 0)
        for name, kind in kinds(base).items():
            if any(word in name for word in options.word.split("|")):
                number += options.count
                wrong += tried(name, kind, base, range(options.first, options.first + options.count), Path(scratch))
        out.writelines(json.dumps(entry) + "\n" for entry in wrong)
    for entry in wrong:
        print(f"{entry['kind']} {entry['seed']}: {entry['wrong'].strip().splitlines()[-1]}")
    print(f"{number} changes: {number - len(wrong)} as promised, {len(wrong)} not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
