"""Whether a machine can hold what a command is asked for or given, said before memory is taken."""

from __future__ import annotations

import os

from genseg.errors import UserError

LIMIT_VARIABLE = "GENSEG_MAX_IMAGE_BYTES"
SCENES = 64
"""Times the limit that an image may take which is read a few rows at a time."""
TEXTS = 8
"""What part of the limit a text may take."""


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
