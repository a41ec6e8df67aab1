"""One process that has imported all of genseg and forks for each command: `python -m tests.pages.server`.

A line of JSON on standard input: command (one of `runner.MODULES`), arguments, folder, environment. A line out: status, out,
err, seconds of CPU, peak. Every ConvNeXt has one block a stage, every Swin two, and few features, which is what a compiler's time is spent on.
"""

import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path

os.environ.update(
    JAX_PLATFORMS="cpu", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1",
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)  # fmt: skip

from genseg import nets
from genseg.data.sets import mfnet, potsdam, pst900
from tests.bad import runner
from tests.pages import small

DEPTHS, DIMS = (1, 1, 1, 1), (8, 16, 32, 64)


def main() -> None:
    runner.MODULES["snippet"] = "tests.pages.snippet"
    runner.load()
    for name in nets.BACKBONES:
        if name.startswith("convnext"):
            nets.BACKBONES[name] = partial(nets.BACKBONES[name], depths=DEPTHS, dims=DIMS)
        else:
            nets.BACKBONES[name] = partial(nets.BACKBONES[name], embed=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))
    mfnet.SIZE, pst900.SIZE, potsdam.SIZE = (24, 32), (18, 32), small.SIDE  # of what is drawn
    print("ready", flush=True)
    for line in sys.stdin:
        asked, before = json.loads(line), os.times()
        done = runner.run(
            asked["command"],
            asked["arguments"],
            Path(asked["folder"]),
            asked["environment"],
            seconds=300,
            memory=16 << 30,
        )
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        print(json.dumps(dataclasses.asdict(done) | {"seconds": cpu}), flush=True)


if __name__ == "__main__":
    main()
