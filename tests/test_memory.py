"""Memory that a process keeps for its next step, in processes of their own: it is a property of a whole process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")

# Like a step of XLA's on a CPU: 64 MB of temporary memory in a thread that is not the first, taken anew each time.
STEPS = """
import resource, threading
import numpy as np
from genseg import memory

memory.keep_freed()
faults = []

def steps():
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(64 << 20, np.uint8).fill(1)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

other = threading.Thread(target=steps)
other.start()
other.join()
print(min(faults[2:]))
"""


def fewest_faults(**environment: str) -> int:
    """Pages that the system mapped in the best of the later steps; 64 MB are 16,384 small pages or 32 huge ones."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment
    ended = subprocess.run(
        [sys.executable, "-c", STEPS], cwd=tiny.ROOT, env=kept, capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_on_a_cpu_a_steps_memory_is_mapped_once():
    assert fewest_faults(JAX_PLATFORMS="cpu") < 16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
@pytest.mark.skipif(not HUGE_PAGES.is_dir(), reason="the kernel was built without huge pages")
def test_on_a_cpu_the_heap_asks_for_huge_pages():
    """ "hg" among the flags of a mapping, as the kernel shows them, says that they were asked for; none was before."""
    heap = """
from pathlib import Path
from genseg import memory

def asked():
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8").split("[heap]")[1:]
    return any("hg" in part.split("VmFlags:")[1].splitlines()[0].split() for part in maps)

before = asked()
memory.keep_freed()
print(before, asked())
"""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | {"JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(
        [sys.executable, "-c", heap], cwd=tiny.ROOT, env=kept, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    "environment", [{"JAX_PLATFORMS": "cuda,cpu"}, {"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "4"}]
)
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_beside_an_accelerator_and_where_the_environment_decides_nothing_is_changed(environment):
    assert fewest_faults(**environment) >= 16
