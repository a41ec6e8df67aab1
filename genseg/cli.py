"""What all command lines share: genseg's log on standard error, and how a mistake ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from absl import logging as absl_logging

from genseg.errors import TryAgain, UserError


def start_log(level: int = logging.INFO) -> None:
    """genseg's own lines on standard error; of the libraries only errors (Orbax writes 20 lines a save, and warns of
    every checkpoint that it opens for reading)."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("genseg")
    log.handlers, log.propagate = [handler], False
    log.setLevel(level)
    # The first array of a damaged checkpoint that cannot be read is an error that we name. Those that are read beside it
    # fail later, in threads of tensorstore, for an event loop that is gone: a traceback an array.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _without_closed_loops


def _without_closed_loops(unraisable: sys.UnraisableHookArgs) -> None:
    if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def tell(error: UserError | TryAgain) -> int:
    """Prints the one sentence that ends a command, and returns the command's exit status."""
    print(f"{'error' if isinstance(error, UserError) else 'stopped'}: {error}", file=sys.stderr, flush=True)
    return error.status


def run(command: Callable[[], None]) -> int:
    """Runs a command of one process; the exit status: 0, or that of the UserError that ended it, which is printed."""
    start_log()
    try:
        command()
    except (UserError, TryAgain) as error:
        return tell(error)
    return 0
