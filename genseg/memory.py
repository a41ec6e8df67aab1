"""Whether a machine can hold what a command is asked for or given, said before memory is taken; and memory kept for a step."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

from genseg.errors import UserError

LIMIT_VARIABLE = "GENSEG_MAX_IMAGE_BYTES"
SCENES = 64
"""Times the limit that an image may take which is read a few rows at a time."""
TEXTS = 8
"""What part of the limit a text may take."""

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # names of malloc.h, less their M
_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux


def keep_freed() -> None:
    """For the start of a command that runs a network: memory that is freed stays with the process, where a CPU is all it has.

    XLA takes a step's temporary memory anew at each step. glibc gives blocks of this size back to the system, which maps and
    zeroes each page again: hundreds of thousands of them in a step of ConvNeXt-T (`benchmarks/kept_memory.py`). Kept they need one heap
    for all threads, and no block outside it; and there it pays to ask for huge pages. Does nothing without glibc, beside an
    accelerator (JAX keeps the memory of those itself), or where MALLOC_... in the environment says how it is to be. Holds
    for threads that start afterwards.
    """
    if not _cpu_alone() or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "mallopt"):
        return
    for name, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):  # -1: the largest there is
        libc.mallopt(name, value)
    if _promises_memory():
        _ask_for_huge_pages(libc, physical() // 2)


def _ask_for_huge_pages(libc: ctypes.CDLL, size: int) -> None:
    """For the next `size` bytes of the heap: it is made so long, and then free again; no page of it is taken. Products of
    matrices of tens of MB look up fewer pages. The system may say no, or have none."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if block := libc.malloc(size):
        page = os.sysconf("SC_PAGE_SIZE")
        libc.madvise(-(-block // page) * page, size - page, _HUGE_PAGES)
        libc.free(block)


def _promises_memory() -> bool:
    """Whether the system lets a process have more addresses than there is memory, where they cost others nothing."""
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_bytes().strip() != b"2"
    except OSError:
        return False


def _cpu_alone() -> bool:
    """Whether JAX will run on the CPU, as far as can be told before it starts."""
    if platforms := os.environ.get("JAX_PLATFORMS", ""):
        return platforms == "cpu"
    return not any(importlib.util.find_spec(plugin) for plugin in ("libtpu", "jax_plugins"))


def physical() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_beyond(size: float, what: str, mend: str) -> None:
    """Raises UserError if `size` bytes, the least that `what` takes in this process, are more than the machine has."""
    if size > physical():
        raise UserError(
            f"{what} takes at least {size / 1e9:,.0f} GB of memory, this machine has {physical() / 1e9:,.0f}; {mend}"
        )


def limit() -> int:
    """Bytes that what a file holds may take when it is read whole: GENSEG_MAX_IMAGE_BYTES, 4 GiB where that is not set.
    Raises UserError if the variable is no whole number."""
    said = os.environ.get(LIMIT_VARIABLE, str(4 << 30))
    if not (said.isascii() and said.isdigit() and len(said) < 20):
        raise UserError(f"{LIMIT_VARIABLE} is '{said}'; set it to a whole number of bytes")
    return int(said)


def excess(size: float, share: float = 1) -> str:
    """In words, by how much `size` bytes, which a file says that it takes, are more than `share` times the limit; "" if they
    are not. Files of a few bytes may say anything: this is asked before memory is taken."""
    most = share * limit()
    if size <= most:
        return ""
    return f"it says that it takes {_shown(size)}, more than the {_shown(most)} that {LIMIT_VARIABLE} allows"


def _shown(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size:,.0f} bytes"
