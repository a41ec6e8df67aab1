"""Deadlines of saves by a clock that nobody sets."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

from orbax.checkpoint._src.futures import future, signaling_client


class _Monotonic:
    """The module `time`, but for `time()`."""

    time = staticmethod(time.monotonic)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def use_monotonic_deadlines() -> None:
    """Orbax counts the seconds that a save may take by `time.time()`: a wall clock that is set forward in the meantime
    ends a sound save as too late. Its modules that wait are given another clock; they use it for differences only."""
    for module in (future, signaling_client):
        if not isinstance(getattr(module, "time", None), ModuleType | _Monotonic):
            raise AttributeError(f"{module.__name__} no longer imports time: see how this Orbax counts its deadlines")
        module.time = _Monotonic()
