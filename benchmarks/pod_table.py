"""Compiles pre-training for TPU slices that are not there, and predicts the networks' times on 8 to 1024 chips.

    python benchmarks/pod_table.py --results pods.json                     # needs genseg[tpu]; hours on two cores
    python benchmarks/pod_table.py --results pods.json --networks convnext_tiny --whole

The step compiled is the one that is trained: configs/pretrain.py:NETWORK,channels=4 at its true sizes, by the real TPU
compiler. Only the depth is cut, since each block costs minutes: a stage gets one block (Swin: two, plain and shifted), and
what the compiler reports for the blocks of a stage is taken as often as the network has them. `--whole` compiles the whole
network as well, which shows how far that holds. What is in the results file is not compiled again.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from genseg.dry_run import chips

os.environ.update(chips.ENVIRONMENT)

import jax

from genseg import nets, tree
from genseg.dry_run import compiling, hlo, predicting

NETWORKS = ("convnext_tiny", "convnext_base", "convnext_large", "swin_tiny", "swin_base", "swin_large")
UPDATE = ("optimizer", "ema")  # scopes of what runs once a step, however many microbatches there are
IMAGES = 300 * 1_281_167
CHIP = chips.CHIPS["v5e"]
POD = 256  # chips of the largest slice; more are several slices
EACH = 16  # images of a microbatch on a chip: ConvNeXt's 4096 on 256 chips, Swin's 1024 on 64
CHIP_COUNTS = (8, 32, 64, 128, 256, 512, 1024)


@dataclasses.dataclass(frozen=True)
class Step:
    """What is known of one step on one chip.

    cycles: by scope; parameters: of the network; state: bytes of state and batch; temporaries, program: bytes; reduced:
    bytes of all-reduce results; seconds: that compiling took.
    """

    cycles: dict[str, float]
    parameters: int
    state: float
    temporaries: float
    program: float
    reduced: float
    seconds: float

    @property
    def update(self) -> float:
        """Cycles of optimizer and averages."""
        return sum(n for scope, n in self.cycles.items() if scope.split("/")[0] in UPDATE)

    @property
    def gradient(self) -> float:
        """Cycles of one microbatch's loss and gradient."""
        return sum(self.cycles.values()) - self.update

    @property
    def memory(self) -> float:
        return self.state + self.temporaries + self.program


def compiled(backbone: str, depths: tuple[int, ...], topology: str) -> Step:
    """The step of configs/pretrain.py with these depths, compiled for a slice."""
    began = time.monotonic()
    recipe = backbone.replace("swin_large", "swin_base")  # ImageNet-1K has no published recipe for Swin-L
    config = pretrain().get_config(f"{recipe},channels=4")
    config.model.backbone = backbone
    whole = nets.BACKBONES[backbone]
    nets.BACKBONES[backbone] = functools.partial(whole.func, **{**whole.keywords, "depths": depths})
    try:
        design, step, _ = compiling.compile_for(config.lock(), topology)
    finally:
        nets.BACKBONES[backbone] = whole
    collectives = hlo.collectives(step.text)
    assert {c.kind for c in collectives} == {"all-reduce"}, collectives
    cycles: dict[str, float] = {}
    for one in hlo.cycles(step.text):
        cycles[one.scope] = cycles.get(one.scope, 0) + one.cycles
    return Step(
        cycles, tree.count(design.abstract.params), step.arguments, step.temporaries + step.extra_outputs, step.code,
        sum(c.times * c.size for c in collectives), round(time.monotonic() - began),
    )  # fmt: skip


def pretrain():
    """configs/pretrain.py as a module."""
    path = Path(__file__).resolve().parents[1] / "configs" / "pretrain.py"
    spec = importlib.util.spec_from_file_location("pretrain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def extrapolated(step: Step, backbone: str, depths: tuple[int, ...]) -> Step:
    """From a step with `depths` to the network's own.

    Cycles of a stage's blocks, its downsampling left out, grow with their number; those of optimizer and averages with the
    parameters; the rest stays. State and what is sent are exact, since parameters are known. Temporaries are mostly what
    blocks keep for the gradient, and so grow as blocks times pixels times features; the program grows as all blocks.
    """
    own = nets.BACKBONES[backbone].keywords["depths"]
    times = {f"stage{i}": own[i] / depths[i] for i in range(4)}
    net = nets.classifier(backbone, channels=4, classes=1000, drop_path=0.1)
    parameters = tree.count(jax.eval_shape(net.init, jax.random.key(0))[0])

    def factor(scope: str) -> float:
        first, second = (*scope.split("/"), "")[:2]
        if first in UPDATE:
            return parameters / step.parameters
        return times.get(first, 1.0) if second != "downsample" else 1.0

    def kept(depths: tuple[int, ...]) -> float:
        # A stage has a quarter of the pixels and twice the features of the one before.
        return sum(depth / 2**i for i, depth in enumerate(depths))

    more = 4 * (parameters - step.parameters)
    copies = 3 if backbone.startswith("swin") else 4  # parameters, two moments; ConvNeXt's recipe has averages too
    return Step(
        {scope: n * factor(scope) for scope, n in step.cycles.items()}, parameters, step.state + copies * more,
        step.temporaries * kept(own) / kept(depths), step.program * sum(own) / sum(depths), step.reduced + more,
        step.seconds,
    )  # fmt: skip


def predicted(step: Step, chip_count: int, batch: int) -> tuple[int, float]:
    """(global batch, seconds of a step): microbatches of EACH images, and what is sent not hidden behind computation.

    Where there are more chips than batch / EACH the batch grows with them.
    """
    batch = max(batch, EACH * chip_count)
    slices = max(chip_count // POD, 1)
    within = chip_count // slices
    microbatches = batch // (EACH * chip_count)
    computing = (microbatches * step.gradient + step.update) / CHIP.clock
    moving = 2 * (within - 1) / within * step.reduced / CHIP.link
    if slices > 1:
        moving += predicting.between_slices_seconds(step.reduced, slices, within, CHIP.network)
    return batch, computing + moving


def memory_table(rows: list[tuple[str, str, Step]]) -> Iterator[str]:
    """One step of EACH images a chip, in Markdown."""
    yield (
        "| network | | state, batch | activations, temporaries | program | together, of 16 GB | cycles, loss and gradient | "
        "cycles, update | sent, float32 |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for backbone, how, step in rows:
        sizes = (step.state, step.temporaries, step.program, step.memory)
        yield (
            f"| {backbone} | {how} | {' | '.join(f'{x / 1e9:.2f} GB' for x in sizes)} | {step.gradient:,.0f} | "
            f"{step.update:,.0f} | {step.reduced / 1e6:.1f} MB |"
        )


def time_table(rows: list[tuple[str, str, Step]]) -> Iterator[str]:
    """300 epochs on 8 to 1024 chips, in Markdown: a step's time, hours, US dollars; batches larger than the recipe's are
    named."""
    yield f"| network | | {' | '.join(f'{n} chips' for n in CHIP_COUNTS)} | images/s a host of 4 chips |"
    yield "|---|---|" + "--:|" * (len(CHIP_COUNTS) + 1)
    for backbone, how, step in rows:
        recipe = 1024 if backbone.startswith("swin") else 4096
        cells, rates = [], []
        for chip_count in CHIP_COUNTS:
            batch, seconds = predicted(step, chip_count, recipe)
            hours = IMAGES / batch * seconds / 3600
            larger = f", batch {batch:,}" if batch > recipe else ""
            cells.append(f"{1e3 * seconds:,.1f} ms, {hours:.3g} h, {hours * chip_count * CHIP.price:,.0f} USD{larger}")
            rates.append(4 * batch / seconds / chip_count)
        yield f"| {backbone} | {how} | {' | '.join(cells)} | {min(rates):,.0f} to {max(rates):,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True, help="JSON file of what was compiled")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--whole", action="store_true", help="also compile the whole network")
    arguments = parser.parse_args()
    file = Path(arguments.results)
    known = json.loads(file.read_text()) if file.exists() else {}

    def of(backbone: str, depths: tuple[int, ...]) -> Step:
        topology = "v5e:8x8" if backbone.startswith("swin") else "v5e:16x16"  # EACH images a chip
        key = f"{backbone} {','.join(map(str, depths))} {topology}"
        if key not in known:
            known[key] = dataclasses.asdict(compiled(backbone, depths, topology))
            file.write_text(json.dumps(known, indent=1))
        return Step(**known[key])

    rows = []
    for backbone in arguments.networks:
        cut = (2, 2, 2, 2) if backbone.startswith("swin") else (1, 1, 1, 1)
        rows.append((backbone, "extrapolated", extrapolated(of(backbone, cut), backbone, cut)))
        if arguments.whole:
            rows.append((backbone, "compiled", of(backbone, nets.BACKBONES[backbone].keywords["depths"])))
    print("\n".join(memory_table(rows)), "\n".join(time_table(rows)), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
