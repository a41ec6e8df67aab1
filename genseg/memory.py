"""Whether a machine can hold what a command is asked for, said before the work begins."""

from __future__ import annotations

import os

from genseg.errors import UserError


def physical() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_beyond(size: float, what: str, mend: str) -> None:
    """Raises UserError if `size` bytes, the least that `what` takes in this process, are more than the machine has."""
    if size > physical():
        raise UserError(
            f"{what} takes at least {size / 1e9:,.0f} GB of memory, this machine has {physical() / 1e9:,.0f}; {mend}"
        )
