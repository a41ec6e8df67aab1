"""Reading ahead and writing behind in threads, so that they overlap with the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """The same items, made in a thread up to `depth` before they are asked for; what that raises is raised here.

    Left early, it ends the thread at its next item."""
    made: queue.Queue = queue.Queue(depth)
    ended, left = object(), threading.Event()

    def put(entry: tuple[Any, BaseException | None]) -> None:
        while not left.is_set():
            try:
                return made.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        error = None
        try:
            for item in items:
                put((item, None))
                if left.is_set():
                    return
        except BaseException as raised:  # raised again where the items are used
            error = raised
        put((ended, error))

    thread = threading.Thread(target=work, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is ended:
                return
            yield item
    finally:
        left.set()
        thread.join()


class Behind:
    """Calls done in their order by one thread; at most `depth` wait. A context manager: leaving it waits for all, or, left by
    an exception, drops those that wait. The first exception of a call is raised at the next `do`, or at the end."""

    def __init__(self, depth: int = 4):
        self._calls: queue.Queue = queue.Queue(depth)
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="writing behind", daemon=True)

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            raise self._error
        self._calls.put((call, arguments))

    def _work(self) -> None:
        while (entry := self._calls.get()) is not None:
            if self._error is None:
                try:
                    entry[0](*entry[1])
                except BaseException as raised:  # raised again in `do` or `__exit__`
                    self._error = raised
        self._ended.set()

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and self._error is None:
            self._error = error
        try:
            self._end()
        except (
            BaseException
        ) as interrupted:  # Control-C while the last calls are waited for: the one under way ends, too
            self._error = self._error or interrupted
            self._end()
            raise
        if error is None and self._error is not None:
            raise self._error

    def _end(self) -> None:
        self._calls.put(None)
        self._ended.wait()  # not `join`: interrupted, it takes a thread that goes on for one that has ended
