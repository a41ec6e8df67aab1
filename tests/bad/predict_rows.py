"""predict on images and checkpoints that it cannot use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from tests.bad.bombs import DAMAGED, said_of
from tests.bad.row import DONE, Row, nothing, replaced
from tests.bad.runner import PREDICT


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
