"""predict and score on what they cannot use, and where nothing can be written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.bad.bombs import DAMAGED, said_of
from tests.bad.damage_rows import SMALL
from tests.bad.data_rows import OWN
from tests.bad.row import DONE, Row, config, nothing, replaced, write
from tests.bad.runner import EXCHANGE, MAIN, PREDICT, PREPARE, REPORT, SCORE, SHOW


def predictions() -> Iterator[Row]:
    run = ("--checkpoint", "{base}/run", "--out", "{here}/out")
    for name, content in DAMAGED.items():
        for suffix in (".png", ".tif"):

            def make(here, base, content=content, suffix=suffix):
                replaced(f"x{suffix}", content)(here)

            yield Row(f"predict x{suffix}: {name}", PREDICT, (*run, "{here}/x" + suffix), said_of(name), make)
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
    yield Row("predict: one name twice", PREDICT, (*run, "{base}/scene.png", "{here}/scene.png"), "", lambda h, b: shutil.copy(b / "scene.png", h), status=DONE, slow=True)  # fmt: skip
    yield Row(
        "predict: what import wrote",
        PREDICT,
        ("--checkpoint", "{base}/imported", "--out", "{here}/out", "{base}/rgb.png"),
        "",
        status=DONE,
        slow=True,
    )


def idle() -> Iterator[Row]:
    """Options that would say nothing, or nothing that can be meant."""
    run, scene = ("--checkpoint", "{base}/run", "--out", "{here}/out"), "{base}/scene.png"
    for name, more, sentence in (
        ("a band's place in superscript", ("--bands", "red=\u00b2,green=2,blue=3,thermal=4", scene), "write NAME=PLACE"),
        ("a band's place in another script", ("--bands", "red=\u0661,green=2,blue=3,thermal=4", scene), "write NAME=PLACE"),
        ("a band twice", ("--bands", "red=1,red=2,green=2,blue=3,thermal=4", scene), "twice"),
        ("bands in both ways", ("--bands", "red=4,green=3,blue=2,thermal=1", f"{scene}:1,2,3,4"), "give one of them"),
        ("a sensor without names", ("--sensor", "landsat", scene), "leave --sensor out"),
        ("smallest without polygons", ("--smallest", "5", scene), "with --polygons"), ("smallest below 0", ("--polygons", "--smallest", "-5", scene), "--smallest is -5"),
        ("resume and overwrite", ("--resume", "--overwrite", scene), "give one of them"), ("no scales", ("--scales", "--", scene), "--scales"),
        ("scales of 0", ("--scales", "0", "--", scene), "scales"), ("area absent", ("--aoi", "{here}/no", scene), "no area"), ("area is a picture", ("--aoi", scene, scene), "cannot be read"),
        ("area of no numbers", ("--aoi", "{here}/nan.geojson", scene), "polygon that is none"), ("area cut", ("--aoi", "{here}/cut.geojson", scene), "cannot be read"),
        ("area of a point", ("--aoi", "{here}/point.geojson", scene), "holds no polygons"), ("a list that is a picture", ("--from", scene), "no text in UTF-8"),
        ("a pattern of nothing", ("{here}/*.tif",), "No file matches"), ("a scene of no name", ("",), "is empty"), ("a device", ("/dev/zero",), "no file"), ("standard input", ("-",), "no file"),
        ("an archive that is not there", ("/vsizip/{here}/no.zip/a.tif",), "cannot be decoded"), ("an address that does not answer", ("http://127.0.0.1:9/a.tif",), "cannot be decoded"),
        ("one scene in two ways", (scene, "{base}/run/../scene.png"), "both be written"), ("a map as a scene", ("{base}/maps/scene_classes.png",), "band(s)"),
    ):  # fmt: skip

        def make(here, base):
            for file, text in (
                ("nan", '{"type":"Polygon","coordinates":[[[NaN,0],[1,1],[0,1],[NaN,0]]]}'),
                ("cut", '{"type":"Polygon","coordinates":[[[0'), ("point", '{"type":"Point","coordinates":[0,0]}'),
            ):  # fmt: skip
                (here / f"{file}.geojson").write_text(text, encoding="utf-8")

        yield Row(f"predict: {name}", PREDICT, (*run, *more), sentence, make)
    for name, change in (
        ("a link", lambda root: ((root / "mine").write_text("mine"), (root / "out" / ".scene.lock").symlink_to(root / "mine"))),
        ("another's file", lambda root: (root / "out" / ".scene.lock").write_text("mine")),
    ):  # fmt: skip

        def lock(here, base, change=change):
            (here / "out").mkdir()
            change(here)

        yield Row(f"predict: the lock is {name}", PREDICT, (*run, scene), "is not the lock", lock)
    for kind in ("symbolic", "hard"):

        def linked(here, base, kind=kind):
            (here / "out").mkdir()
            shutil.copy(base / "scene.png", here / "a.png")
            target = here / "out" / "a_classes.png"
            target.symlink_to(here / "a.png") if kind == "symbolic" else target.hardlink_to(here / "a.png")

        yield Row(f"predict: the output is a {kind} link to the input", PREDICT, (*run, "{here}/a.png"), "which is read", linked)  # fmt: skip


def full_disks() -> Iterator[Row]:
    """No file can be written whole: said with its name, and nothing half made is left under its name."""
    grey = np.zeros((40, 40), np.uint8)

    def masked(here, base):
        (here / "masks").mkdir()
        Image.fromarray(grey).save(here / "masks" / "scene.png")

    maps = ("--maps", "--out", "{here}/o", "--masks", "{here}/masks", "{base}/maps/scene_classes.png")
    for size in (3000, 20_000):
        for name, command, arguments, sentence, make, slow in (
            ("predict", PREDICT, ("--checkpoint", "{base}/run", "--out", "{here}/o", "--polygons", "--probabilities", "{base}/scene.png"), "cannot be written", nothing, True),
            ("export", EXCHANGE, ("export", "--checkpoint", "{base}/run", "--output", "{here}/o", "--format", "mmseg"), "model.safetensors cannot be written", nothing, False),
            ("import", EXCHANGE, ("import", "--input", "{base}/timm/model.safetensors", "--backbone", "convnext_micro", "--output", "{here}/o"), "could not be saved", nothing, True),
            ("prepare", PREPARE, tuple(a.replace("{here}/tiles", "{base}/tiles") for a in OWN), "File too large", nothing, False),
            ("show", SHOW, ("demo_segmentation", "--train_images", "4", "--val_images", "2", "--data_dir", "{base}/shown", "--output", "{here}/s.png"), "s.png: File too large", nothing, False),
            ("report", REPORT, ("{base}/run", "--out", "{here}/o"), "File too large", nothing, False),
            ("score", SCORE, maps, "File too large", masked, False),
        ):  # fmt: skip
            yield Row(f"full disk, {size} bytes: {name}", command, arguments, sentence, make, largest=size, slow=slow)


def doubled_truth() -> Iterator[Row]:
    run = ("--checkpoint", "{base}/run", "--out", "{here}/o")
    for name, more, sentence in (
        ("a split without --prepared", ("--split", "test", "--masks", "{here}/masks", "{base}/scene.png"), "--split says nothing"),
        ("scenes beside pairs", ("--pairs", "{here}/p.csv", "{base}/scene.png"), "leave them out"),
        ("scenes beside a split", ("--prepared", "{base}/data", "{base}/scene.png"), "leave them out"),
        ("classes beside a split", ("--prepared", "{base}/data", "--classes", "t.csv"), "--classes says nothing"),
        ("bands of maps", ("--maps", "--masks", "{here}/masks", "--bands", "red=1", "{base}/maps/scene_classes.png"), "--bands says nothing"),
        ("windows of maps", ("--maps", "--masks", "{here}/masks", "--flip", "{base}/maps/scene_classes.png"), "--flip says nothing"),
        ("a pair twice", ("--pairs", "{here}/p.csv"), "score each scene once"),
    ):  # fmt: skip

        def make(here, base):
            (here / "masks").mkdir()
            Image.fromarray(np.zeros((40, 40), np.uint8)).save(here / "masks" / "scene.png")
            (here / "p.csv").write_text(f"{base}/scene.png,masks/scene.png\n" * 2, encoding="utf-8")

        yield Row(f"score: {name}", SCORE, (*run, *more), sentence, make)


def others_files() -> Iterator[Row]:
    """In a workdir that no run has used."""
    demo = config("demo_segment.py")
    for file, mode, checkpoint in (
        ("metrics.jsonl", "train", ()), ("result.json", "train", ()), ("config.json", "train", ()),
        ("robustness.json", "eval", ("--checkpoint={base}/run",)), ("band_use.json", "band_use", ("--checkpoint={base}/run",)),
    ):  # fmt: skip
        run = (demo, "--workdir={here}/w", *SMALL, f"--mode={mode}", *checkpoint)
        yield Row(
            f"{mode} beside another's {file}", MAIN, run, "was not written by genseg", write(f"w/{file}", "mine\n")
        )
