"""What every row of the benchmarks shares: cases, turn-by-turn timing, and the table."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"  # real images, where a checkout has some beside it
LIBRARIES = ("jax", "torch", "torchvision", "timm", "transformers", "nvidia-dali-cuda120", "albumentations",
             "torchmetrics", "scipy", "pillow", "opencv-python-headless")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One task done by several programs.

    what: a line of the table. paths: name -> a call that does it once; the first is genseg's. amount: of `unit` that a call
    makes; unit "s" prints seconds a call instead. clock: "cpu" seconds of this process and its children, which a busy
    machine changes little, for what runs in one thread; "wall" for what uses all cores. reach: what is aimed at, in words. same: compares what the programs make, raises where they differ, and says
    how close they are. rounds: at most.
    """

    what: str
    paths: dict[str, Callable[[], object]]
    unit: str
    clock: str
    same: Callable[[], str]
    amount: float = 1.0
    reach: str = ""
    rounds: int = 9


@dataclass(frozen=True)
class Result:
    """Seconds of every round, by path; `close` is what `Case.same` said."""

    case: Case
    close: str
    seconds: dict[str, list[float]] = field(repr=False)

    def lines(self) -> list[str]:
        """Rows of the Markdown table, genseg's first. The last figure is how many times as fast genseg is: the median over
        rounds, each against the same round's, so that a machine that slows down for a while slows both."""
        case, printed = self.case, []
        ours = next(iter(self.seconds.values()))
        for number, (name, spent) in enumerate(self.seconds.items()):
            values = spent if case.unit == "s" else [case.amount / s for s in spent]
            digits = 2 if max(values) < 20 else 1 if max(values) < 200 else 0
            figures = " | ".join(f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
            times = statistics.median(theirs / own for theirs, own in zip(spent, ours, strict=True))
            last = f"{times:.2f}" if number else case.reach and f"reach {case.reach}"
            printed.append(f"| {case.what if not number else ''} | {name} | {figures} | {case.unit} | {last} |")
        return printed


def cpu_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(case: Case, seconds: float) -> Result:
    """Checks that all paths do the same, calls each once to warm up, then times them turn by turn: three rounds at least,
    no new one after `seconds`."""
    close = case.same()
    clock = {"cpu": cpu_seconds, "wall": time.perf_counter}[case.clock]
    for call in case.paths.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in case.paths}
    began = time.monotonic()
    for number in range(case.rounds):
        if number >= 3 and time.monotonic() - began > seconds:
            break
        for name, call in case.paths.items():
            start = clock()
            call()
            found[name].append(clock() - start)
    return Result(case, close, found)


def machine() -> str:
    """Processor, cores, load, versions and day, in a line."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    versions = ", ".join(f"{name} {known[name]}" for name in LIBRARIES if name in known)
    return (
        f"{models[0] if models else platform.processor()}, {len(os.sched_getaffinity(0))} cores, load "
        f"{os.getloadavg()[0]:.1f}; {versions}; {datetime.date.today()}"
    )


HEAD = "| what | by | median | lowest | highest | unit | genseg is x times |\n|---|---|--:|--:|--:|---|--:|"


def section(row: str, results: Iterable[Result], notes: Iterable[str]) -> str:
    """The Markdown of a row: a heading with its command, the table, what was the same."""
    results = list(results)
    lines = [line for result in results for line in result.lines()]
    same = [f"* {result.case.what}: {result.close}." for result in results if result.close]
    rest = [f"* {note}" for note in notes]
    clocks = sorted({result.case.clock for result in results})
    seen = f"`make bench ROW={row}`, {' and '.join(clocks)} time, {machine()}."
    return "\n".join([f"## {row}", "", seen, "", HEAD, *lines, "", *same, *rest, ""]).rstrip() + "\n"


def put(section_text: str, path: Path, title: str) -> None:
    """Writes a row's section in the page, in place of the one of that name."""
    head, *old = path.read_text().split("\n## ") if path.exists() else [title]
    name = section_text.split("\n", 1)[0].removeprefix("## ")
    parts = {part.split("\n", 1)[0]: part for part in old}
    parts[name] = section_text.removeprefix("## ")
    path.write_text("\n## ".join([head.rstrip("\n") + "\n", *(part.rstrip("\n") + "\n" for part in parts.values())]))
