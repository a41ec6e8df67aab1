"""A profiler's trace of some steps of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

logger = logging.getLogger(__name__)


class Trace:
    """Steps `steps` ("FIRST:LAST", both included; "": none) of this process as a trace under `folder`/profile.

    It holds what the host's threads did and what ran on each device, with the networks' named scopes (docs/performance.md
    says how to read it). Of a run that starts within the span, what is left of it is traced; of one that starts behind it, nothing.
    """

    def __init__(self, steps: str, folder: Path):
        self._span = tuple(int(step) for step in steps.split(":")) if steps else None
        self._folder, self._running = folder / "profile", False

    def before(self, step: int) -> None:
        """To be called before a step is dispatched."""
        if self._span and not self._running and self._span[0] <= step <= self._span[1]:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, outcome: Any) -> None:
        """To be called behind it; the trace ends when the arrays of `outcome`, of the last step, are there."""
        if self._running and step >= self._span[1]:
            jax.block_until_ready(outcome)
            self.close()

    def close(self) -> None:
        """Writes what has been traced until now."""
        if self._running:
            self._running, self._span = False, None
            jax.profiler.stop_trace()
            logger.info("trace: %s", self._folder)
