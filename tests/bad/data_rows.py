"""prepare and show on one's own files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.bad.bombs import DAMAGED, said_of
from tests.bad.row import DONE, Row, copied, nothing, replaced, special, tiff, write
from tests.bad.runner import PREPARE, SHOW

OWN = ("folder_segmentation", "--source", "{here}/tiles", "--data_dir", "{here}/d",
       "--image_pattern", "{split}/img/tile_{id}.tif", "--mask_pattern", "{split}/mask/mask_{id}.tif",
       "--bands", "('r','g','b','n')", "--classes", "('a','b','c')")  # fmt: skip


def own_data() -> Iterator[Row]:
    """prepare and show on folders of images and masks."""
    run = OWN
    for name, content in DAMAGED.items():
        for kind, place in (
            ("image", "train/img/tile_0.tif"),
            ("later image", "val/img/tile_1.tif"),
            ("mask", "train/mask/mask_1.tif"),
        ):
            yield Row(f"{kind}: {name}", PREPARE, run, said_of(name), copied("tiles", replaced(place, content)))
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
        ("no source", ("--source", ""), "--source is missing"),
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
        ("latin-1", "caf\xe9\n".encode("latin-1"), "UTF-8"), ("utf-16 without its mark", "0\n".encode("utf-16-le"), "UTF-8"),
        ("id twice", b"0\n0\n", "twice"), ("id in two lists", b"0\n1\n2\n", "both in"), ("an unknown id", b"0\nnosuch\n", "no file"),
        ("empty", b"", "no split"), ("upwards", b"../../x\n", "no file"), ("null", b"\0\n", "null bytes"),
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
            f"photograph: {name}",
            PREPARE,
            run,
            said_of(name),
            copied("photographs", replaced("train/class_0/0.jpg", content)),
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
