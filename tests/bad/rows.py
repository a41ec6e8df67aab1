"""The table: (command, input, what must come of it). Rows are made by code where they are many of a kind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from genseg import keys, recipes
from genseg.recipes import resolve
from tests.bad.runner import MAIN, PREPARE, SHOW

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DONE, MISTAKE, AGAIN = 0, 2, 75


def nothing(folder: Path, base: Path) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Row:
    """One bad input. arguments: with {base} for the folder of sound things and {here} for the row's own; make: called
    with (here, base) before; status and sentence (any part of the last line): what must come of it; slow: compiles a
    network; own: what the command may change of what was there before."""

    name: str
    command: str
    arguments: tuple[str, ...]
    sentence: str
    make: Callable[[Path, Path], None] = nothing
    status: int = MISTAKE
    environment: tuple[tuple[str, str], ...] = ()
    slow: bool = False
    own: tuple[str, ...] = ()


def config(name: str) -> str:
    return f"--config={CONFIGS / name}"


# Keys that take any text: a path, names of one's own.
FREE = {"data.data_dir", "init.checkpoint", "checkpoint.dir", "checkpoint.allow_changes", "data.train_split",
        "data.eval_split", "model.backbone", "data.name"}  # fmt: skip


def wrong_values(definition: keys.Key) -> list[str]:
    """As they would stand behind --config.key=: of another type, and out of range."""
    default = definition.default
    kind = type(default).__name__ if default is not ... else ""
    hint = str(definition.hint)
    if definition.hint is bool:
        return ["maybe", "2"]
    if definition.hint is int:
        found = ["abc", "1.5", "-7", "nan"]
    elif definition.hint is float:
        found = ["abc", "nan", "-7.0", "inf"]
    elif definition.hint is str:
        found = ["foo"] if any(rule.names_type for rule in definition.rules) else []
    elif "tuple" in hint and "int |" not in hint:
        found = ["(", "((),)", "({},)"]
    else:
        found = ["foo"] if kind == "int" else []
    return found


def every_key() -> Iterator[Row]:
    """Each key of both tasks and of the demos' data: wrong type, wrong range, missing."""
    for file, task, data in (
        ("demo_pretrain.py", "pretrain", "demo_classification"), ("demo_segment.py", "segment", "demo_segmentation"),
    ):  # fmt: skip
        known = resolve.definitions(recipes.TASKS[task], data)
        for name, definition in known.items():
            for value in [] if name in FREE else wrong_values(definition):
                yield Row(
                    f"key {task} {name}={value}",
                    MAIN,
                    (config(file), "--workdir={here}/w", f"--config.{name}={value}"),
                    "",
                )
            if definition.added_later:  # a config without it means what it did before: no mistake
                continue
            parts = name.split(".")
            place = "".join(f"[{part!r}]" for part in parts[:-1])

            def without(here, base, file=file, place=place, last=parts[-1]):
                (here / "mine.py").write_text(
                    f"import importlib.util\ns = importlib.util.spec_from_file_location('c', {str(CONFIGS / file)!r})\n"
                    "m = importlib.util.module_from_spec(s)\ns.loader.exec_module(m)\n"
                    f"def get_config():\n    c = m.get_config()\n    del c{place}[{last!r}]\n    return c\n"
                )

            yield Row(
                f"key {task} without {name}", MAIN, ("--config={here}/mine.py", "--workdir={here}/w"),
                f"config.{name} is missing", without,
            )  # fmt: skip


def write(name: str, content: str | bytes) -> Callable[[Path, Path], None]:
    def make(here, base):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def config_files() -> Iterator[Row]:
    run = ("--config={here}/c.py", "--workdir={here}/w")
    for name, text, sentence in (
        ("no python", "def get_config(:\n", "fails (line 1, SyntaxError"),
        ("import", "\nimport nothere\n", "fails (line 2, ModuleNotFoundError"),
        ("raises", "raise ValueError('boom')", "ValueError: boom"),
        ("no function", "x = 1", "has no function get_config"),
        ("function is none", "get_config = 5", "has no function get_config"),
        ("a number", "def get_config(): return 5", "gives int"),
        ("nothing", "def get_config(): pass", "gives NoneType"),
        ("a dict", "def get_config(): return {}", "gives dict"),
        ("raises inside", "def get_config():\n    raise KeyError('x')", "fails (line 2, KeyError"),
        ("exits", "import sys\nsys.exit(0)", "SystemExit"),
        ("empty config", "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()", "config.task is missing"),
        ("recursion", "def get_config(): return get_config()", "RecursionError"),
        ("null bytes", "x = 1\0", "fails"),
        ("latin-1", b"x = '\xe9'", "fails"),
        ("utf-16", "x = 1".encode("utf-16"), "fails"),
        ("unknown key", "from genseg.recipes import segment\ndef get_config(): return segment.config(data=dict(name='mfnet'), nosuch=1)", "unknown config key config.nosuch"),
        ("unknown data", "from genseg.recipes import segment\ndef get_config(): return segment.config(data=dict(name='nosuch'))", "no data set 'nosuch'"),
    ):  # fmt: skip
        yield Row(f"config file: {name}", MAIN, run, sentence, write("c.py", text))
    demo = config("demo_segment.py")
    for name, arguments, sentence in (
        ("none", ("--workdir={here}/w",), "--config is missing"),
        ("empty", ("--config=", "--workdir={here}/w"), "--config is empty"),
        ("absent", ("--config={here}/no.py", "--workdir={here}/w"), "no such file"),
        ("a folder", ("--config={here}", "--workdir={here}/w"), "no regular file"),
        ("a device", ("--config=/dev/zero", "--workdir={here}/w"), "no regular file"),
        ("a picture", ("--config={base}/tiles/train/img/tile_0.tif", "--workdir={here}/w"), "no Python file"),
        ("no workdir", (demo,), "--workdir is missing"),
        ("empty workdir", (demo, "--workdir="), "--workdir is empty"),
        ("blank workdir", (demo, "--workdir= "), "--workdir is empty"),
        ("address", (demo, "--workdir=gs://bucket/x"), "is an address"),
        ("workdir below a file", (demo, "--workdir={base}/tiles/train/img/tile_0.tif/w"), "Not a directory"),
        ("workdir is a file", (demo, "--workdir={base}/tiles/train/img/tile_0.tif"), "File exists"),
        ("workdir in /proc", (demo, "--workdir=/proc/nosuch"), "/proc/nosuch"),
        ("long workdir", (demo, "--workdir={here}/" + "x" * 300), "File name too long"),
        ("null in workdir", (demo, "--workdir={here}/a\0b"), "null byte"),
        ("surplus argument", (demo, "--workdir={here}/w", "more"), "unknown argument 'more'"),
        ("unknown flag", (demo, "--workdir={here}/w", "--wrkdir=x"), "nknown command line flag"),
        ("unknown mode", (demo, "--workdir={here}/w", "--mode=foo"), "one of"),
        ("unknown key", (demo, "--workdir={here}/w", "--config.optim.lr=1"), "unknown config key config.optim.lr"),
        ("unknown section", (demo, "--workdir={here}/w", "--config.trian.steps=1"), "unknown config key"),
        ("section as value", (demo, "--workdir={here}/w", "--config.train=3"), "config.train"),
        ("permutations 0", (demo, "--workdir={here}/w", "--mode=eval", "--permutations=0"), "--permutations is 0"),
        ("permutations x", (demo, "--workdir={here}/w", "--permutations=x"), "permutations"),
        ("topology and train", (demo, "--workdir={here}/w", "--topology=v5e:2x2"), "--mode=dry_run"),
        ("topology x", (demo, "--mode=dry_run", "--topology=x"), "--topology is 'x'"),
        ("colon where none is taken", (demo + ":x", "--workdir={here}/w"), "takes nothing there"),
        ("colon: unknown option", (config("pretrain.py") + ":chanels=4", "--workdir={here}/w"), "known are"),
        ("colon: twice", (config("pretrain.py") + ":channels=4,channels=5", "--workdir={here}/w"), "each once"),
        ("colon: text for a number", (config("pretrain.py") + ":channels=abc", "--workdir={here}/w"), "config.csp.channels"),
        ("colon: brackets", (config("pretrain.py") + ":channels=((((", "--workdir={here}/w"), "config.csp.channels"),
        ("colon: huge", (config("pretrain.py") + ":channels=" + "9" * 5000, "--workdir={here}/w"), "config.csp.channels"),
        ("colon: nested", (config("pretrain.py") + ":channels=" + "(" * 500, "--workdir={here}/w"), "config.csp.channels"),
        ("colon: zero", (config("pretrain.py") + ":channels=0", "--workdir={here}/w"), "config.csp.channels"),
        ("colon: no backbone", (config("pretrain.py") + ":backbone=", "--workdir={here}/w"), "no published recipe"),
        ("colon: unknown backbone", (config("segment_mfnet.py") + ":resnet50", "--workdir={here}/w"), "'resnet50'"),
        ("colon: unknown protocol", (config("segment_mfnet.py") + ":protocol=x", "--workdir={here}/w"), "config.data.protocol"),
        ("colon: unknown objective", (config("pretrain.py") + ":objective=x", "--workdir={here}/w"), "config.csp.objective"),
        ("colon: unknown data", (config("small_segment.py") + ":x", "--workdir={here}/w"), "known are"),
        ("colon: empty data", (config("small_segment.py") + ":", "--workdir={here}/w"), "known are"),
    ):  # fmt: skip
        yield Row(f"command: {name}", MAIN, arguments, sentence)


def contradictions() -> Iterator[Row]:
    """Keys that do not go together, and what only the data can tell: said before anything is written."""
    small = (
        "--workdir={here}/w",
        "--config.data.data_dir={here}/d",
        "--config.data.train_images=16",
        "--config.data.val_images=8",
    )
    for task, file in (("pretrain", "demo_pretrain.py"), ("segment", "demo_segment.py")):
        for name, more, sentence in (
            ("no length", ("train.epochs=0", "train.steps=0"), "give the length of training"),
            ("two lengths", ("train.epochs=1", "train.steps=1"), "give the length of training"),
            ("two warm-ups", ("train.warmup_epochs=1", "train.warmup_steps=1"), "give the warm-up by"),
            ("long warm-up", ("train.epochs=0", "train.steps=2", "train.warmup_epochs=0", "train.warmup_steps=9"), "does not fit"),
            ("microbatches", ("train.accumulation=3",), "is not divisible"),
            ("backbone", ("model.backbone=resnet",), "backbone 'resnet' is not known"),
            ("no backbone", ("model.backbone=",), "config.model.backbone"),
            ("data set", ("data.name=imagenet",), "There is no data set 'imagenet'"),
            ("train split", ("data.train_split=nosuch",), "no split 'nosuch'"),
            ("eval split", ("data.eval_split=nosuch",), "no split 'nosuch'"),
            ("mesh", ("mesh.data=3",), "does not cover"),
            ("scaling", ("optim.scaling=linear", "optim.scaling_batch=0"), "config.optim.scaling_batch"),
            ("pattern", ("optim.no_decay=('nosuch',)",), "matches no parameter"),
            ("checkpoint", ("init.checkpoint={here}/no",), "no checkpoint at"),
            ("blank data_dir", ("data.data_dir= ",), "config.data.data_dir"),
            ("no home", ("data.data_dir=~nosuch/x",), "home directory"),
            ("data_dir is a file", ("data.data_dir={base}/tiles/train/img/tile_0.tif",), "Cannot write to"),
            ("data_dir in /proc", ("data.data_dir=/proc/x",), "/proc/x"),
            ("checkpoint.dir is a file", ("checkpoint.dir={base}/tiles/train/img/tile_0.tif",), "tile_0.tif"),
            ("huge batch", ("train.batch_size=1000000000",), "less than one batch"),
            ("huge batch of steps", ("train.batch_size=1000000000", "train.epochs=0", "train.steps=1", "train.warmup_epochs=0", "train.warmup_steps=0"), "memory"),
        ):  # fmt: skip
            arguments = (config(file), *small, *(f"--config.{key}" for key in more))
            yield Row(f"{task}: {name}", MAIN, arguments, sentence)
    for name, more, sentence in (
        ("rgb of 4", ("csp.objective=rgb",), "keeps the data's 3 channels"),
        ("odd batch", ("mixing.prob=1.0", "mixing.mixup=0.8", "train.batch_size=7"), "leaves an odd number"),
        ("erasing", ("erasing.min_area=0.5",), "give the smaller first"),
        ("rand_augment", ("augment.rand_augment.layers=2",), "RandAugment is defined"),
    ):
        yield Row(
            f"pretrain: {name}", MAIN, (config("demo_pretrain.py"), *small, *(f"--config.{k}" for k in more)), sentence
        )
    for name, more, sentence in (
        ("stride", ("eval.mode=slide", "eval.stride=(65,64)"), "leaves gaps"),
        ("huge crop", ("eval.mode=slide", "eval.crop=(2000000,2000000)"), "memory"),
        ("huge size", ("augment.size=(2000000,2000000)",), "memory"),
    ):
        yield Row(
            f"segment: {name}", MAIN, (config("demo_segment.py"), *small, *(f"--config.{k}" for k in more)), sentence
        )


def environments() -> Iterator[Row]:
    run = (
        config("demo_segment.py"),
        "--workdir={here}/w",
        "--config.data.data_dir={here}/d",
        "--config.data.train_split=x",
    )
    for variables, sentence in (
        ({"JAX_COORDINATOR_ADDRESS": "x:1"}, "JAX_NUM_PROCESSES"),
        ({"JAX_COORDINATOR_ADDRESS": "x:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES is 'two'"),
        ({"JAX_COORDINATOR_ADDRESS": "x", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "give host:port"),
        ({"JAX_COORDINATOR_ADDRESS": "x:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "number them 0 to 1"),
        ({"JAX_COORDINATOR_ADDRESS": "x:99999999", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS"),
        ({"JAX_COORDINATOR_ADDRESS": "x:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0", "JAX_LOCAL_DEVICE_IDS": "a"}, "JAX_LOCAL_DEVICE_IDS"),
        ({"SLURM_NTASKS": "many"}, "SLURM_NTASKS is 'many'"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "SLURM_LOCALID"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "x", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n", "SLURM_JOB_ID": "1"}, "SLURM_PROCID is 'x'"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "", "SLURM_JOB_ID": "1"}, "SLURM_STEP_NODELIST"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "[", "SLURM_JOB_ID": "1"}, "SLURM_STEP_NODELIST"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n", "SLURM_JOB_ID": "x"}, "SLURM_JOB_ID is 'x'"),
        ({"MEGASCALE_NUM_SLICES": "x"}, "MEGASCALE_NUM_SLICES is 'x'"),
        ({"PYTHONIOENCODING": "ascii"}, "no split 'x'"),
        ({"XDG_CACHE_HOME": "/proc/x"}, "no split 'x'"),
        ({"XDG_CACHE_HOME": "~nosuch"}, "no such home directory"),
    ):  # fmt: skip
        name = ", ".join(f"{k}={v}" for k, v in variables.items())
        yield Row(f"environment: {name}", MAIN, run, sentence, environment=tuple(variables.items()))
    yield Row(
        "environment: cache that cannot be made", MAIN, (config("demo_segment.py"), "--workdir={here}/w"), "/proc/x",
        environment=(("XDG_CACHE_HOME", "/proc/x"),),
    )  # fmt: skip


def special(kind: str) -> Callable[[Path], None]:
    """Makes something that is no file of bytes."""

    def make(path: Path) -> None:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path is short
            socket.socket(socket.AF_UNIX).bind(path.name)
            os.chdir(here)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "dangling link":
            path.symlink_to("nowhere")
        elif kind == "circle of links":
            path.symlink_to(path.name)

    return make


SPECIAL = ("pipe", "socket", "device", "folder", "dangling link", "circle of links")


def copied(what: str, change: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """A copy of a sound folder of the base, changed."""

    def make(here, base):
        shutil.copytree(base / what, here / what, symlinks=True)
        change(here / what)

    return make


def replaced(name: str, content: Callable[[Path], None] | bytes | None) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        if path.exists() or path.is_symlink():
            path.unlink()
        if callable(content):
            content(path)
        elif content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return change


def picture(array: np.ndarray, **options) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(array).save(path, **options)


def tiff(array: np.ndarray, **options) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **options)


def bomb_png(path: Path) -> None:
    """A PNG that says 100,000 x 100,000 pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def bomb_jpeg(path: Path) -> None:
    """A JPEG whose header says 65,500 x 65,500."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, format="JPEG")
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xdc\xff\xdc"
    path.write_bytes(bytes(data))


def bomb_tiff(path: Path) -> None:
    tifffile.imwrite(path, shape=(60_000, 60_000, 4), dtype=np.uint8, compression="deflate", tile=(4096, 4096),
                     data=(np.zeros((4096, 4096, 4), np.uint8) for _ in range(225)) if False else None)  # fmt: skip


def bomb_npy(path: Path) -> None:
    head = str({"descr": "|u1", "fortran_order": False, "shape": (200_000, 200_000, 4)}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


def object_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{}], object))


DAMAGED = {
    "empty": b"", "text": b"hello", "zeros": bytes(100), "png signature": b"\x89PNG\r\n\x1a\n", "jpeg signature": b"\xff\xd8\xff",
    "tiff signature": b"II*\0", "npy signature": b"\x93NUMPY", "bomb png": bomb_png, "bomb jpeg": bomb_jpeg, "bomb npy": bomb_npy,
    "object npy": object_npy, **{kind: special(kind) for kind in SPECIAL},
}  # fmt: skip


def own_data() -> Iterator[Row]:
    """prepare and show on folders of images and masks."""
    options = ("--image_pattern", "{split}/img/tile_{id}.tif", "--mask_pattern", "{split}/mask/mask_{id}.tif",
               "--bands", "('r','g','b','n')", "--classes", "('a','b','c')")  # fmt: skip
    run = ("folder_segmentation", "--source", "{here}/tiles", "--data_dir", "{here}/d", *options)
    for name, content in DAMAGED.items():
        for kind, place in (
            ("image", "train/img/tile_0.tif"),
            ("later image", "val/img/tile_1.tif"),
            ("mask", "train/mask/mask_1.tif"),
        ):
            yield Row(f"{kind}: {name}", PREPARE, run, "", copied("tiles", replaced(place, content)))
    grey, four = np.zeros((24, 24), np.uint8), np.zeros((24, 24, 4), np.uint8)
    for name, place, content, sentence in (
        ("another size", "train/mask/mask_0.tif", tiff(np.zeros((8, 8), np.uint8)), "they must be of one size"),
        ("a label too many", "train/mask/mask_0.tif", tiff(grey + 9), "holds the label 9"),
        ("a mask of colours", "train/mask/mask_0.tif", tiff(four), "bands"),
        ("a band too few", "train/img/tile_0.tif", tiff(four[..., :3], photometric="rgb"), "band(s)"),
        ("another type", "val/img/tile_0.tif", tiff(four.astype(np.float32), photometric="minisblack", planarconfig="contig"), "give all files of a kind one type"),
        ("no partner", "train/mask/mask_0.tif", None, "has no mask"),
        ("no image", "train/img/tile_0.tif", None, "has no image"),
        ("complex numbers", "train/img/tile_0.tif", tiff(np.zeros((24, 24, 4), np.complex64), photometric="minisblack"), ""),
    ):  # fmt: skip
        yield Row(f"own: {name}", PREPARE, run, sentence, copied("tiles", replaced(place, content)))
    for name, more, sentence in (
        ("no source", ("--source", ""), "no prepared folder_segmentation"),
        ("blank source", ("--source", " "), "config.data.source"),
        ("absent source", ("--source", "{here}/no"), "no data set at"),
        ("file as source", ("--source", "{base}/tiles/train/img/tile_0.tif"), "no data set at"),
        ("no home", ("--source", "~nosuch/x"), "no such home directory"),
        ("null in source", ("--source", "a\0b"), "null byte"),
        ("long source", ("--source", "x" * 5000), ""),
        ("empty data_dir", ("--data_dir", ""), "--data_dir is empty"),
        ("data_dir below a file", ("--data_dir", "{base}/tiles/train/img/tile_0.tif/x"), "Cannot write to"),
        ("data_dir in /proc", ("--data_dir", "/proc/x"), "/proc"),
        ("data_dir too long", ("--data_dir", "{here}/" + "x" * 300), "too long"),
        ("no id", ("--image_pattern", "x.tif"), "has no {id}"),
        ("empty pattern", ("--image_pattern", ""), "config.data.image_pattern"),
        ("absolute pattern", ("--image_pattern", "/etc/{id}"), "below"),
        ("pattern upwards", ("--image_pattern", "../{id}.tif"), ""),
        ("pattern of stars", ("--image_pattern", "**{id}"), ""),
        ("nothing matches", ("--image_pattern", "no/{id}.tif"), "no"),
        ("no split in the pattern", ("--image_pattern", "train/img/tile_{id}.tif", "--mask_pattern", "train/mask/mask_{id}.tif"), "both in"),
        ("bands twice", ("--bands", "('r','r','g','b')"), "config.data.bands"),
        ("no bands", ("--bands", "()"), "config.data.bands"),
        ("bands as text", ("--bands", "rgbn"), "config.data.bands"),
        ("bands missing", ("--bands", "('r','g')"), "band(s)"),
        ("classes twice", ("--classes", "('a','a','b')"), "config.data.classes"),
        ("no classes", ("--classes", "()"), "config.data.classes is empty"),
        ("300 classes", ("--classes", str(tuple(f"c{i}" for i in range(300)))), "at most 255"),
        ("palette 300", ("--palette", "((300,0,0),(0,0,0),(1,1,1))"), "config.data.palette"),
        ("palette too short", ("--palette", "((0,0,0),)"), "palette"),
        ("scored twice", ("--scored", "(1,1)"), "config.data.scored"),
        ("scored outside", ("--scored", "(7,)"), "Scored class 7"),
        ("ignore_label a class", ("--ignore_label", "1"), "ignore_label is 1"),
        ("ignore_label 999", ("--ignore_label", "999"), "config.data.ignore_label"),
        ("stride without patch", ("--patch", "8", "--stride", "0"), "stride"),
        ("negative patch", ("--patch", "-8"), "config.data.patch"),
        ("splits twice", ("--splits", "('train','train')"), "config.data.splits"),
        ("split absent", ("--splits", "('train','nosuch')"), "no split 'nosuch'"),
        ("split upwards", ("--splits", "('train','../train')"), ""),
        ("empty split", ("--splits", "('',)"), "config.data.splits"),
        ("list absent", ("--split_lists", "{'train': 'no.txt', 'val': 'no.txt'}"), "no list"),
        ("list not for all", ("--split_lists", "{'train': 'train.txt'}"), "list"),
        ("list of numbers", ("--split_lists", "{'train': 3, 'val': 4}"), "config.data.split_lists"),
        ("blocks: sizes", ("--split_blocks", "{'size': -1}"), "split_blocks"),
        ("blocks: no place", ("--image_pattern", "train/img/tile_{id}.tif", "--mask_pattern", "train/mask/mask_{id}.tif",
                              "--split_blocks", "{'size':9.0,'seed':0,'apart':True,'train':0.5,'val':0.5}"), "no position on the ground"),
        ("table absent", ("--classes", "()", "--class_table", "no.csv"), "no class table"),
        ("table and classes", ("--class_table", "no.csv"), "one or the other"),
        ("skip_corrupt", ("--skip_corrupt", "-1"), "skip_corrupt"),
        ("threads", ("--threads", "-1"), "threads"),
        ("threads x", ("--threads", "x"), "--threads"),
        ("unknown option", ("--nosuch", "1"), "--nosuch"),
    ):  # fmt: skip
        yield Row(f"own: {name}", PREPARE, (*run, *more), sentence, copied("tiles", lambda root: None))
    for name, text, sentence in (
        ("latin-1", "caf\xe9\n".encode("latin-1"), "UTF-8"), ("utf-16", "0\n".encode("utf-16"), "UTF-8"),
        ("id twice", b"0\n0\n", "twice"), ("id in two lists", b"0\n1\n2\n", "both in"), ("an unknown id", b"0\nnosuch\n", "no file"),
        ("empty", b"", "no split"), ("upwards", b"../../x\n", "no file"), ("null", b"\0\n", ""),
    ):  # fmt: skip
        lists = ("--image_pattern", "train/img/tile_{id}.tif", "--mask_pattern", "train/mask/mask_{id}.tif",
                 "--split_lists", "{'train': 'a.txt', 'val': 'b.txt'}")  # fmt: skip

        def make(root, text=text):
            (root / "a.txt").write_bytes(text)
            (root / "b.txt").write_bytes(b"2\n")

        yield Row(f"list: {name}", PREPARE, (*run, *lists), sentence, copied("tiles", make))
    for name, text, sentence in (
        ("latin-1", b"id,name,colour\n0,caf\xe9,#000000\n", "UTF-8"), ("empty", b"", "is empty"), ("no columns", b"a,b\n1,2\n", "Entry 1"),
        ("ids twice", b"id,name,colour\n0,a,\n0,b,\n", "an id twice"), ("huge id", b"id,name,colour\n99999999999999999999,a,\n", ""),
        ("bad colour", b"id,name,colour\n0,a,#12\n", "Entry 1"), ("no names", b"id,name,colour\n0,,\n", "names no class"),
    ):  # fmt: skip
        yield Row(
            f"class table: {name}", PREPARE, (*run, "--classes", "()", "--class_table", "t.csv"), sentence,
            copied("tiles", replaced("t.csv", text)),
        )  # fmt: skip
    for name, text in (("no yaml", b"{{{"), ("python", b"!!python/object/apply:os.system ['true']"), ("a number", b"5"),
                       ("aliases", b"a: &a [x,x]\nb: &b [*a,*a]\n"), ("device", special("device")), ("pipe", special("pipe"))):  # fmt: skip
        yield Row(
            f"class table: {name}", PREPARE, (*run, "--classes", "()", "--class_table", "t.yaml"), "",
            copied("tiles", replaced("t.yaml", text)),
        )  # fmt: skip


def photographs() -> Iterator[Row]:
    run = ("folder_classification", "--source", "{here}/photographs", "--data_dir", "{here}/d")
    for name, content in DAMAGED.items():
        yield Row(
            f"photograph: {name}", PREPARE, run, "", copied("photographs", replaced("train/class_0/0.jpg", content))
        )
    for name, change, sentence in (
        ("an empty class", lambda root: (root / "train" / "empty").mkdir(), ""),
        ("a class in one split", lambda root: shutil.rmtree(root / "val" / "class_1"), "every split needs the same classes"),
        ("no val", lambda root: shutil.rmtree(root / "val"), "no split 'val'"),
        ("val is train", lambda root: (shutil.rmtree(root / "val"), (root / "val").symlink_to("train")), "both in"),
        ("16-bit", replaced("train/class_0/0.jpg", lambda p: Image.fromarray(np.zeros((8, 8), np.uint16)).save(p, format="TIFF")), ""),
    ):  # fmt: skip
        yield Row(f"photographs: {name}", PREPARE, run, sentence, copied("photographs", change))
    for name in (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir"):

        def change(root, name=name):
            (root / "train" / name).mkdir()
            shutil.copy(root / "train" / "class_0" / "0.jpg", root / "train" / name / "x.jpg")

        yield Row(
            f"photographs: folder {name} passed over",
            PREPARE,
            run,
            "passed over",
            copied("photographs", change),
            status=DONE,
        )
    for name in ("._0.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        yield Row(f"photographs: {name} passed over", PREPARE, run, "passed over",
                  copied("photographs", replaced(f"train/class_0/{name}", b"x")), status=DONE)  # fmt: skip


def shows() -> Iterator[Row]:
    run = ("demo_segmentation", "--train_images", "4", "--val_images", "2", "--data_dir", "{here}/d")
    for name, more, sentence, make in (
        ("no output", ("--output", ""), "--output is empty", nothing),
        ("onto an image", ("--output", "{here}/tiles/train/img/tile_0.tif"), "was not made by genseg", copied("tiles", lambda root: None)),
        ("onto text", ("--output", "{here}/notes.txt"), "was not made by genseg", write("notes.txt", "mine")),
        ("onto a folder", ("--output", "{here}/x"), "is a folder", lambda here, base: (here / "x").mkdir()),
        ("below a file", ("--output", "{base}/tiles/train/img/tile_0.tif/s.png"), "", nothing),
        ("no such split", ("--output", "{here}/s.png", "--show_split", "no"), "no split 'no'", nothing),
        ("count 0", ("--output", "{here}/s.png", "--count", "0"), "--count is 0", nothing),
        ("in /proc", ("--output", "/proc/x/s.png"), "/proc", nothing),
        ("long name", ("--output", "{here}/" + "x" * 300), "too long", nothing),
        ("onto a pipe", ("--output", "{here}/p"), "", lambda here, base: os.mkfifo(here / "p")),
        ("few images", ("--output", "{here}/s.png", "--train_images", "0"), "config.data.train_images", nothing),
    ):  # fmt: skip
        yield Row(f"show: {name}", SHOW, (*run, *more), sentence, make)
    yield Row("show: twice", SHOW, (*run, "--output", "{here}/s.png"), "", status=DONE, make=lambda here, base: shutil.copy(base / "sheet.png", here / "s.png"), own=("s.png",))  # fmt: skip
