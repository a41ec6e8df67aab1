"""Config keys and files, command lines of training, and what the environment says."""

from __future__ import annotations

from collections.abc import Iterator

from genseg import keys, recipes
from genseg.recipes import resolve
from tests.bad.row import CONFIGS, Row, config, write
from tests.bad.runner import MAIN

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
            ("huge batch", ("train.batch_size=1000000000",), "memory"),
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
