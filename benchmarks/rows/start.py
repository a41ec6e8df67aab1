"""CPU seconds until a command has answered: `--help` of each; and a second start, which must compile nothing."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import measure

HELP = ("genseg", "genseg.main", "genseg.predict", "genseg.data.prepare", "genseg.data.show")
NOTES: list[str] = []
RUN = (
    "--config=configs/demo_pretrain.py", "--config.data.train_images=48", "--config.data.val_images=20",
    "--config.train.batch_size=8", "--config.train.epochs=0", "--config.train.steps=4", "--config.train.warmup_epochs=0",
    "--config.train.warmup_steps=1", "--config.eval.batch_size=8",
)  # fmt: skip


def python(*arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, check=True, capture_output=True, cwd=measure.ROOT, env={**os.environ, **environment})


def cases() -> Iterator[measure.Case]:
    bare = functools.partial(python, "this")
    for module in HELP:
        name = "genseg.commands" if module == "genseg" else module
        paths = {"genseg": functools.partial(python, name, "--help"), "Python alone": bare}
        what = f"python -m {name} --help"
        yield measure.Case(what, paths, "s", "cpu", lambda: "", reach="below 0.5 s", rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        cache, number = Path(folder) / "xla", iter(range(1000))

        def start() -> None:
            where = [f"--workdir={folder}/run{next(number)}", f"--config.data.data_dir={folder}/data"]
            python("genseg.main", *RUN, *where, JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PLATFORMS="cpu")

        def same() -> str:
            start()
            before = {path.name for path in cache.iterdir() if path.name.endswith("-cache")}
            start()
            new = {path.name for path in cache.iterdir() if path.name.endswith("-cache")} - before
            assert before and not new, f"a second start compiled {len(new)} programs"
            return f"the first start compiled {len(before)} programs, the second none"

        yield measure.Case("demo pre-training, started again", {"genseg": start}, "s", "cpu", same, rounds=3)
