"""One run a workdir."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from genseg import processes
from genseg.errors import UserError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def sole_use(workdir: str) -> Iterator[None]:
    """Keeps other runs out of a workdir; the lock ends with the process, however that ends.

    Raises UserError when another run has the workdir. File systems without locks are used without.
    """
    held = []

    def lock() -> None:
        path = Path(workdir) / ".lock"
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError(
                f"{path} is a link or no file; genseg makes it itself: remove it, or give another --workdir"
            )
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"workdir {workdir} is in use by {file.read().strip() or 'another run'}; wait until that has ended, or "
                "give another --workdir"
            ) from None
        except OSError as error:
            logger.warning(
                "the file system of %s has no locks (%s): see to it that no second run uses it", workdir, error
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        held.append(file)

    processes.main_only(lock)
    try:
        yield
    finally:
        for file in held:
            file.close()
