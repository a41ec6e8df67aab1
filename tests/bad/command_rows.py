"""score, study, report, demo, the command `genseg` and the other modes of main."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.bad.damage_rows import SMALL
from tests.bad.row import WAYS, Row, config, copied, damaged, nothing, write
from tests.bad.runner import DEMO, GENSEG, MAIN, REPORT, SCORE, STUDY

STUDY_FILE = {
    "name": "tiny", "pretrain_source": "photos", "seeds": (0,),
    "pretrain": {"csp": {"config": "demo_pretrain", "set": {}, "seeds": (0,)}},
    "arms": {"csp": {"start": "csp", "set": {}}, "scratch": {"start": None, "set": {}}},
    "targets": {"a": {"config": "demo_segment", "source": "tiles", "set": {}}},
    "primary": {"score": "miou", "better": "csp", "than": "scratch"},
}  # fmt: skip


def a_study(change=lambda study: None, end: str = ""):
    """A study's file in the row's folder, its mapping changed."""

    def make(here, base):
        plain = json.loads(json.dumps(STUDY_FILE))
        change(plain)
        nan = "null = None\ntrue, false = True, False\nNaN = float('nan')\n"
        (here / "s.py").write_text(f"{nan}STUDY = {json.dumps(plain)}\n{end}\n")

    return make


def put(*path_and_value):
    """Sets a value deep in a study."""
    *path, last, value = path_and_value

    def change(study):
        for part in path:
            study = study[part]
        study[last] = value

    return change


def studies() -> Iterator[Row]:
    run = ("{here}/s.py", "--out", "{here}/out", "--list")
    for name, change, sentence in (
        ("not a mapping", put("arms", 5), "STUDY['arms']"),
        ("seeds a number", put("seeds", 3), "seeds"), ("seeds of text", put("seeds", ["a"]), "seeds"),
        ("seeds negative", put("seeds", [-1]), "seeds"), ("seed twice", put("seeds", [0, 0]), "seeds"), ("no seeds", put("seeds", []), "seeds"),
        ("a start's seeds a number", put("pretrain", "csp", "seeds", 3), "seeds"),
        ("a start's seeds nothing", put("pretrain", "csp", "seeds", None), "seeds"),
        ("config a number", put("pretrain", "csp", "config", 3), "config"), ("config nothing", put("targets", "a", "config", None), "config"),
        ("config that is not there", put("targets", "a", "config", "nosuch"), "nosuch"),
        ("set a list", put("pretrain", "csp", "set", [1]), "set"), ("set a text", put("arms", "csp", "set", "x"), "set"),
        ("set nothing", put("targets", "a", "set", None), "set"), ("set an unknown key", put("targets", "a", "set", {"nosuch.key": 1}), "nosuch"),
        ("set a value out of range", put("targets", "a", "set", {"optim.learning_rate": -1.0}), "learning_rate"),
        ("source a number", put("targets", "a", "source", 3), "source"), ("pretrain_source a list", put("pretrain_source", [1]), "pretrain_source"),
        ("name a number", put("name", 3), "name"), ("name upwards", put("name", "../x"), "name"), ("name empty", put("name", ""), "name"),
        ("an arm upwards", put("arms", "../../x", {"start": None, "set": {}}), "../../x"),
        ("a target with a slash", put("targets", "a/b", {"config": "demo_segment", "source": "tiles", "set": {}}), "a/b"),
        ("a start unknown", put("arms", "csp", "start", "nosuch"), "nosuch"), ("a start a list", put("arms", "csp", "start", [1]), "start"),
        ("primary a text", put("primary", "miou"), "STUDY['primary']"), ("primary of nothing", put("primary", "score", None), "primary"),
        ("primary of a list", put("primary", "better", []), "primary"), ("primary with itself", put("primary", "than", "csp"), "primary"),
        ("after itself", put("pretrain", "csp", "after", "csp"), "no other entry"), ("after a list", put("pretrain", "csp", "after", [1]), "after"),
        ("an unknown field", put("sedes", 1), "sedes"), ("a start's unknown field", put("pretrain", "csp", "sed", 1), "sed"),
    ):  # fmt: skip
        yield Row(f"study: {name}", STUDY, run, sentence, a_study(change))
    for name, end, sentence in (
        ("exits", "import sys; sys.exit(0)", "SystemExit"), ("raises", "1 / 0", "ZeroDivisionError"), ("no STUDY", "del STUDY", "STUDY"),
        ("STUDY is none", "STUDY = None", "no mapping"), ("no Python", "def (", "SyntaxError"), ("recursion", "def f(): f()\nf()", "RecursionError"),
        ("null bytes", "\0", "fails"),
    ):  # fmt: skip
        yield Row(f"study: {name}", STUDY, run, sentence, a_study(end=end))
    for name, arguments, sentence, make in (
        ("absent", ("{here}/no.py", "--out", "{here}/o", "--list"), "no Python file", nothing),
        ("a folder", ("{here}", "--out", "{here}/o", "--list"), "no Python file", nothing),
        ("empty", ("", "--out", "{here}/o", "--list"), "is empty", nothing),
        ("a pipe", ("{here}/p.py", "--out", "{here}/o", "--list"), "no Python file", lambda h, b: os.mkfifo(h / "p.py")),
        ("latin-1", ("{here}/s.py", "--out", "{here}/o", "--list"), "fails", write("s.py", b"STUDY = '\xe9'")),
        ("empty out", ("{here}/s.py", "--out", "", "--list"), "--out is empty", a_study()),
        ("out is a file", ("{here}/s.py", "--out", "{base}/scene.png", "--report"), "scene.png", a_study()),
        ("out in /proc", ("{here}/s.py", "--out", "/proc/x", "--report"), "/proc", a_study()),
        ("out of no home", ("{here}/s.py", "--out", "~nosuch/x", "--list"), "no such home", a_study()),
        ("side by side 0", ("{here}/s.py", "--out", "{here}/o", "--side-by-side", "0"), "--side-by-side", a_study()),
        ("side by side x", ("{here}/s.py", "--out", "{here}/o", "--side-by-side", "x"), "--side-by-side", a_study()),
        ("source without a folder", ("{here}/s.py", "--out", "{here}/o", "--source", "a"), "NAME=FOLDER", a_study()),
        ("a source not said", ("{here}/s.py", "--out", "{here}/o"), "--source", a_study()),
        ("unknown option", ("{here}/s.py", "--out", "{here}/o", "--nosuch"), "--nosuch", a_study()),
    ):  # fmt: skip
        yield Row(f"study: {name}", STUDY, arguments, sentence, make)
    folder = "out/finetune/a/scratch-s0"
    for name, file, content in (
        ("result cut", "result.json", b'{"scores": {"mi'), ("result a list", "result.json", b"[]"), ("result empty", "result.json", b""),
        ("result without seconds", "result.json", b"{}"), ("result latin-1", "result.json", b'{"a": "\xe9"}'),
        ("result nested", "result.json", b"[" * 100_000),
    ):  # fmt: skip

        def make(here, base, file=file, content=content):
            a_study()(here, base)
            write(f"{folder}/{file}", content)(here, base)

        for more in ("--list", "--report"):
            yield Row(f"study {more}: {name}", STUDY, (*run[:3], more), file, make)


def reports() -> Iterator[Row]:
    run = ("{here}/run", "--out", "{here}/out")
    for pattern in (
        "config.json",
        "result.json",
        "metrics.jsonl",
        "*_classes.csv",
        "*_confusion.csv",
        "*_scene_counts.npz",
    ):
        for name, way in WAYS.items():
            yield Row(
                f"report {pattern}: {name}", REPORT, run, "", damaged("run", pattern, way), status=None, own=("run",)
            )
    for name, text in (
        ("numbers", b"5\n6\n"), ("without steps", b'{"train/loss": 1}\n'), ("text for a number", b'{"step": 1, "train/loss": "x"}\n'),
        ("steps of text", b'{"step": "x", "train/loss": 1}\n'), ("nulls", b'{"step": null, "train/loss": null}\n'),
    ):  # fmt: skip
        yield Row(f"report metrics.jsonl: {name}", REPORT, run, "", damaged("run", "metrics.jsonl", lambda p, t=text: p.write_bytes(t)), status=None, own=("run",))  # fmt: skip
    for name, arguments, sentence, make in (
        ("absent", ("{here}/no", "--out", "{here}/o"), "no workdir", nothing),
        ("a file", ("{base}/scene.png", "--out", "{here}/o"), "no workdir", nothing),
        ("empty", ("", "--out", "{here}/o"), "empty", nothing),
        ("twice", ("{base}/run", "{base}/run", "--out", "{here}/o"), "named twice", nothing),
        ("empty out", ("{base}/run", "--out", ""), "--out is empty", nothing),
        ("out is a file", ("{base}/run", "--out", "{base}/scene.png"), "scene.png", nothing),
        ("out in /proc", ("{base}/run", "--out", "/proc/x"), "/proc", nothing),
        ("out too long", ("{base}/run", "--out", "{here}/" + "x" * 300), "too long", nothing),
        ("every negative", ("{base}/run", "--out", "{here}/o", "--follow", "--every", "-5"), "--every", nothing),
        ("every x", ("{base}/run", "--out", "{here}/o", "--every", "x"), "--every", nothing),
        ("over another's page", ("{base}/run", "--out", "{here}"), "was not made by genseg", write("runs.html", "mine")),
        ("over another's picture", ("{base}/run", "--out", "{here}"), "was not made by genseg", lambda h, b: shutil.copy(b / "scene.png", h / "runs.png")),
        ("unknown option", ("{base}/run", "--nosuch"), "--nosuch", nothing),
    ):  # fmt: skip
        yield Row(f"report: {name}", REPORT, arguments, sentence, make)


def mask(array, name: str = "masks/scene.png"):
    def make(here, base):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(here / name)

    return make


def scores() -> Iterator[Row]:
    grey = np.zeros((40, 40), np.uint8)
    run = ("--checkpoint", "{base}/run", "--out", "{here}/out", "--masks", "{here}/masks", "{base}/scene.png")
    of_maps = ("--maps", "--out", "{here}/out", "--masks", "{here}/masks", "{base}/maps/scene_classes.png")
    for name, arguments, sentence, make in (
        ("no truth", ("--checkpoint", "{base}/run", "--out", "{here}/o", "{base}/scene.png"), "--masks", nothing),
        ("two truths", (*run, "--pairs", "{here}/p.csv"), "one of", mask(grey)),
        ("empty masks", ("--checkpoint", "{base}/run", "--out", "{here}/o", "--masks", "", "{base}/scene.png"), "--masks", nothing),
        ("no network", ("--out", "{here}/o", "--masks", "{here}", "{base}/scene.png"), "--checkpoint", nothing),
        ("empty out", (*run[:2], "--out", "", *run[4:]), "--out is empty", mask(grey)),
        ("out is a file", (*run[:2], "--out", "{base}/scene.png", *run[4:]), "scene.png", mask(grey)),
        ("masks absent", run, "no folder of masks", nothing), ("masks a file", (*run[:5], "{base}/scene.png", run[6]), "no folder of masks", nothing),
        ("no mask of the name", run, "has no mask", mask(grey, "masks/other.png")),
        ("two masks", run, "two masks", lambda h, b: (mask(grey)(h, b), mask(grey, "masks/scene_gt.png")(h, b))),
        ("no scene", run[:6], "No scene", mask(grey)), ("scene absent", (*run[:6], "{here}/no.tif"), "no file", mask(grey)),
        ("mask of another size", run, "give those of one scene", mask(grey[:8])),
        ("label too large", run, "holds the label 9", mask(grey + 9)), ("mask of colours unknown", run, "holds the colour", mask(np.full((40, 40, 3), 7, np.uint8))),
        ("all ignored", run, "No pixel counts", mask(grey + 255)),
        ("mask is an image of floats", run, "", lambda h, b: (os.mkdir(h / "masks"), np.save(h / "masks" / "scene.npy", np.full((40, 40), 0.5, np.float32)))),
        ("mask not finite", run, "", lambda h, b: (os.mkdir(h / "masks"), np.save(h / "masks" / "scene.npy", np.full((40, 40), np.inf, np.float32)))),
        ("batch negative", (*run, "--batch", "-1"), "batch", mask(grey)), ("crop 0", (*run, "--mode", "slide", "--crop", "0", "0"), "crop", mask(grey)),
        ("huge crop", (*run, "--mode", "slide", "--crop", "200000", "200000"), "memory", mask(grey)),
        ("stride above crop", (*run, "--mode", "slide", "--crop", "16", "16", "--stride", "32", "32"), "gaps", mask(grey)),
        ("scales infinite", (*run[:6], "--scales", "inf", "--", run[6]), "scales", mask(grey)),
        ("scales huge", (*run[:6], "--scales", "1e9", "--", run[6]), "", mask(grey)),
        ("panels of files", (*run, "--panels", "3"), "--panels", mask(grey)), ("panels negative", (*run, "--panels", "-3"), "--panels", mask(grey)),
        ("bands unknown", (*run, "--bands", "x=1"), "--bands", mask(grey)), ("bands 0", (*run, "--bands", "red=0"), "--bands", mask(grey)),
        ("class table absent", (*run, "--classes", "{here}/no.csv"), "no class table", mask(grey)),
        ("class table empty name", (*run, "--classes", " "), "--classes", mask(grey)),
        ("class table too short", (*run, "--classes", "{here}/t.csv"), "class table names", lambda h, b: (mask(grey)(h, b), (h / "t.csv").write_text("id,name\n0,a\n"))),
        ("class table a pipe", (*run, "--classes", "{here}/t.csv"), "", lambda h, b: (mask(grey)(h, b), os.mkfifo(h / "t.csv"))),
        ("over another's tables", run, "was not made by genseg", lambda h, b: (mask(grey)(h, b), write("out/classes.csv", "mine")(h, b))),
        ("over another's score", run, "was not made by genseg", lambda h, b: (mask(grey)(h, b), write("out/score.json", "{}")(h, b))),
        ("prepared absent", (*run[:4], "--prepared", "{here}/no"), "no prepared data set", nothing),
        ("prepared, no split", (*run[:4], "--prepared", "{here}/no", "--split", ""), "", nothing),
        ("prepared and scenes", (*run[:4], "--prepared", "{here}/no", "{base}/scene.png"), "", nothing),
        ("pre-training", ("--checkpoint", "{base}/pre", *run[2:]), "of pre-training", mask(grey)),
        ("checkpoint absent", ("--checkpoint", "{here}/no", *run[2:]), "no checkpoint at", mask(grey)),
        ("maps: record absent", (*of_maps[:5], "{here}/scene_classes.png"), "has no record", lambda h, b: (mask(grey)(h, b), shutil.copy(b / "maps" / "scene_classes.png", h))),
        ("maps: of another size", of_maps, "give those of one scene", mask(grey[:8])),
        ("maps: of colours", (*of_maps, "--checkpoint", "{base}/run", "{base}/rgb.png"), "bands", lambda h, b: (mask(grey)(h, b), mask(grey, "masks/rgb.png")(h, b))),
        ("maps: prepared", ("--maps", "--out", "{here}/o", "--prepared", "{here}"), "--maps", nothing),
        ("pairs absent", (*run[:4], "--pairs", "{here}/no.csv"), "no list of pairs", nothing),
        ("pairs empty", (*run[:4], "--pairs", "{here}/p.csv"), "is empty", write("p.csv", "")),
        ("pairs of one", (*run[:4], "--pairs", "{here}/p.csv"), "Line 1 of the list", write("p.csv", "a.png\n")),
        ("pairs that are not there", (*run[:4], "--pairs", "{here}/p.csv"), "no", write("p.csv", "a.png,b.png\n")),
        ("pairs latin-1", (*run[:4], "--pairs", "{here}/p.csv"), "no text in UTF-8", write("p.csv", b"caf\xe9.png,b.png\n")),
        ("pairs utf-16", (*run[:4], "--pairs", "{here}/p.csv"), "There is no file", write("p.csv", "a.png,b.png\n".encode("utf-16"))),
        ("pairs with null", (*run[:4], "--pairs", "{here}/p.csv"), "null bytes", write("p.csv", b"a\0.png,b.png\n")),
        ("pairs a pipe", (*run[:4], "--pairs", "{here}/p.csv"), "", lambda h, b: os.mkfifo(h / "p.csv")),
    ):  # fmt: skip
        yield Row(f"score: {name}", SCORE, arguments, sentence, make)
    for name, way in WAYS.items():

        def change(here, base, way=way):
            mask(grey)(here, base)
            shutil.copytree(base / "maps", here / "maps")
            way(here / "maps" / "scene.json")

        yield Row(
            f"score maps, record: {name}",
            SCORE,
            (*of_maps[:5], "{here}/maps/scene_classes.png"),
            "",
            change,
            status=None,
        )


def others() -> Iterator[Row]:
    for name, command, arguments, sentence in (
        ("nothing", GENSEG, ("nosuch",), "no command"), ("a near name", GENSEG, ("trian",), "did you mean 'train'"), ("empty", GENSEG, ("",), "no command"),
        ("train without a config", GENSEG, ("train",), "--config is missing"), ("a null", GENSEG, ("\0",), "no command"),
        ("prepare without a name", GENSEG, ("prepare",), "NAME"), ("prepare unknown", GENSEG, ("prepare", "nosuch"), "nosuch"),
        ("prepare without a folder", GENSEG, ("prepare", "pst900"), "--data_dir"), ("show without a name", GENSEG, ("show",), "NAME"),
        ("exchange without a verb", GENSEG, ("exchange",), "import"), ("predict without anything", GENSEG, ("predict",), "--checkpoint"),
        ("score without anything", GENSEG, ("score",), "--out"), ("study without anything", GENSEG, ("study",), "study"),
        ("report without anything", GENSEG, ("report",), "RUN"), ("eval with another mode", GENSEG, ("eval", "--mode=foo"), "one of"),
        ("demo: steps negative", DEMO, ("--out", "{here}/o", "--steps", "-1"), "--steps"), ("demo: steps x", DEMO, ("--steps", "x"), "--steps"),
        ("demo: empty out", DEMO, ("--out", ""), "--out is empty"), ("demo: out is a file", DEMO, ("--out", "{base}/scene.png"), "scene.png"),
        ("demo: out in /proc", DEMO, ("--out", "/proc/x"), "/proc"), ("demo: out of no home", DEMO, ("--out", "~nosuch/x"), "no such home"),
    ):  # fmt: skip
        yield Row(f"genseg: {name}", command, arguments, sentence)
    demo, run = config("demo_segment.py"), ("--workdir={here}/w", *SMALL)
    script = (demo, *run, "--config.train.steps=\u0663")  # 3, to Python
    yield Row("main: a value of another script", MAIN, script, "", copied("data", lambda root: None), own=("data", "w"), status=None, slow=True)  # fmt: skip
    for mode in ("eval", "band_use"):
        for name, more, sentence in (
            ("nothing trained", (), "no checkpoint"), ("checkpoint absent", ("--checkpoint={here}/no",), "no checkpoint"),
            ("a pre-training checkpoint", ("--checkpoint={base}/pre",), ""), ("blank checkpoint", ("--checkpoint= ",), "empty"),
            ("a picture as checkpoint", ("--checkpoint={base}/scene.png",), "no"),
        ):  # fmt: skip
            yield Row(f"{mode}: {name}", MAIN, (demo, *run, f"--mode={mode}", *more), sentence, copied("data", lambda root: None), own=("data", "w"))  # fmt: skip
    for name, arguments, sentence in (
        ("band_use of pre-training", (config("demo_pretrain.py"), "--workdir={here}/w", "--mode=band_use"), "segmentation"),
        ("checkpoint and train", (demo, *run, "--checkpoint={base}/run"), "--checkpoint"),
        ("seen: workdir is a file", (demo, "--workdir={base}/scene.png", *SMALL, "--mode=seen"), "scene.png"),
        ("seen: no such split", (demo, *run, "--mode=seen", "--config.data.train_split=x"), "no split"),
        ("dry run: mesh", (demo, *run, "--mode=dry_run", "--config.mesh.data=7"), "does not cover"),
        ("dry run: topology empty", (demo, "--mode=dry_run", "--topology="), "--topology"),
        ("dry run: topology huge", (demo, "--mode=dry_run", "--topology=v5e:99999999x99999999"), "has no slice"),
        ("dry run: topology 0", (demo, "--mode=dry_run", "--topology=v5e:0x0"), "has no slice"),
        ("dry run: slices", (demo, "--mode=dry_run", "--topology=v5e:2x2*0"), "--topology"),
        ("init is the workdir", (demo, *run, "--config.init.checkpoint={here}/w"), "complete checkpoint"),
        ("init of a folder of folders", (demo, *run, "--config.init.checkpoint={base}"), "no complete checkpoint"),
        ("init head", (demo, *run, "--config.init.head=True"), "config.init.head"),
        ("init ema", (demo, *run, "--config.init.checkpoint={base}/pre", "--config.init.ema=True"), "averaged"),
        ("init of other bands", (demo, *run, "--config.init.checkpoint={base}/pre"), "stem"),
        ("allow_changes unknown", (demo, *run, "--config.checkpoint.allow_changes=nosuch.key"), "allow_changes"),
        ("also a list", (demo, *run, "--config.data.also={'a': [1]}"), "config.data.also"),
        ("also unknown", (demo, *run, "--config.data.also={'a': {'name': 'nosuch'}}"), "nosuch"),
        ("also of no name", (demo, *run, "--config.data.also={'a': {}}"), "name"),
        ("also with a wrong value", (demo, *run, "--config.data.also={'a': {'name': 'demo_segmentation', 'train_images': -1}}"), "train_images"),
        ("also with an unknown key", (demo, *run, "--config.data.also={'a': {'name': 'demo_segmentation', 'nosuch': 1}}"), "nosuch"),
        ("weights of none", (demo, *run, "--config.data.also_weights={'nosuch': 1.0}"), "also_weights"),
        ("weights zero", (demo, *run, "--config.data.also_weights={'demo_segmentation': 0.0}"), "also_weights"),
        ("class weights too few", (demo, *run, "--config.loss.class_weights=(1.0,)"), "class_weights"),
        ("class weights zero", (demo, *run, "--config.loss.class_weights=(0.0,0.0,0.0,0.0)"), "class_weights"),
        ("csp names unknown", (demo, *run, "--config.csp.names=('nosuch',)"), "nosuch"),
        ("profile backwards", (demo, *run, "--config.profile.steps=9:3"), "config.profile.steps"),
        ("size below a pixel of the stride", (demo, *run, "--config.augment.size=(1,1)"), "config.augment.size"),
        ("flag twice with text", (demo, *run, "--permutations=1", "--permutations=x"), "permutations"),
        ("config given twice", (demo, "--config={here}/no.py", *run), "no such file"),
        ("a value of 10 MB", (demo, *run, "--config.data.eval_split=" + "x" * 100_000), "no split"),

    ):  # fmt: skip
        yield Row(f"main: {name}", MAIN, arguments, sentence, copied("data", lambda root: None), own=("data", "w"), slow=True)  # fmt: skip
