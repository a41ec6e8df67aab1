"""What keeping freed memory (`genseg.memory.keep_freed`) is worth on a CPU: CPU seconds and page faults of a call, peak of memory.

    python benchmarks/kept_memory.py

Every job runs in a process of its own, turn by turn with and without; MALLOC_TOP_PAD_ at glibc's default switches it off.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

OFF = {"MALLOC_TOP_PAD_": "131072"}
JOBS = (
    "convnext_tiny 64 32 train",
    "convnext_tiny 224 8 train",
    "convnext_tiny 224 8",
    "swin_tiny 224 8 train",
    "swin_tiny 224 8",
)
CALLS = 4


def one(backbone: str, size: str, batch: str, train: str = "") -> None:
    """Prints user and system seconds and faults of a call, the best of some, and the peak in MiB."""
    from genseg import memory

    memory.keep_freed()
    import side_genseg
    from job import Job

    call, _, _ = side_genseg.build(Job(backbone, int(size), int(batch), "float32", bool(train)))
    call(1)
    found = []
    for _ in range(CALLS):
        before = resource.getrusage(resource.RUSAGE_SELF)
        call(1)
        after = resource.getrusage(resource.RUSAGE_SELF)
        found.append([after[i] - before[i] for i in (0, 1, 6)])  # ru_utime, ru_stime, ru_minflt
    user, system, faults = min(found, key=lambda spent: spent[0] + spent[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{user:.2f} | {system:.2f} | {faults:,} | {peak:,}")


def main() -> None:
    print("| job | memory | user s | system s | page faults | peak, MiB |\n|---|---|--:|--:|--:|--:|")
    for job in JOBS:
        for name, environment in (("given back", OFF), ("kept", {})):
            kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
            command = [sys.executable, __file__, *job.split()]
            ended = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
            print(f"| {job} | {name} | {ended.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    one(*sys.argv[1:]) if sys.argv[1:] else main()
