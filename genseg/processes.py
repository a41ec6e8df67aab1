"""The processes of one job among each other: who is alive, what process 0 decided, when all are told to end.

All of it goes through the key-value store of JAX's coordinator (process 0), never through a device: it works while a
device hangs. A job of one process needs none of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
from jax._src import distributed  # the key-value store has no public name; Orbax takes it from here too
from jax.experimental import multihost_utils

from genseg import cli, texts
from genseg.errors import TryAgain, UserError

Result = TypeVar("Result")

PEER_SECONDS = 60  # silence after which a process is taken for dead
WAIT_SECONDS = 50  # of one request to the store; waiting goes on in another
_POLL_SECONDS = 3
_KEYS = "genseg/"


_finished = threading.Event()
_watching: list[threading.Thread] = []


def several() -> bool:
    """Whether this process has joined others. Starts no backend."""
    return distributed.global_state.client is not None


def _is_main() -> bool:
    return jax.process_index() == 0


def _store():
    return distributed.global_state.client


def check_count(count: int) -> None:
    """Raises UserError unless process 0 was told the same number of processes."""
    if _is_main():
        _store().key_value_set(f"{_KEYS}count", str(count))
    other = int(_store().blocking_key_value_get(f"{_KEYS}count", 1000 * WAIT_SECONDS))
    if other != count:
        raise UserError(f"this process was told of {count} processes, process 0 of {other}; give all the same number")


def out_of_memory(error: Exception) -> UserError | None:
    """What to do when the compiler or a device has run out of memory; None for any other error."""
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    reason = re.search(r"Used \S+ of \S+ hbm|trying to allocate [\w.]+", str(error))
    return UserError(
        f"this does not fit into a device's memory ({reason[0] if reason else str(error).splitlines()[0]}); raise "
        "config.train.accumulation (or lower config.eval.batch_size, if that is what ran), use more devices, or set "
        "config.model.remat=True"
    )


def fail(error: Exception) -> NoReturn:
    """Ends this process with the sentence and status of `error`, and all others of the job with the same.

    A process that ends so is noticed within seconds, one that is killed or hangs within PEER_SECONDS, and the loss of
    process 0, which keeps the store, by JAX within 100 s. None waits longer in a collective operation.
    """
    error = out_of_memory(error) or cli.mistake_of(error) or error
    if isinstance(error, jax.errors.JaxRuntimeError):
        reason = str(error).splitlines()[0]
        error = TryAgain(f"an operation shared with other processes failed, one of them may have ended ({reason})")
    elif not isinstance(error, UserError | TryAgain):
        error.add_note(cli.REPORT)
        traceback.print_exception(error)
        error = RuntimeError(f"{type(error).__name__}: {error}")
    message = texts.as_json([_status(error), f"process {jax.process_index()}: {error}"])
    try:
        _store().key_value_set(f"{_KEYS}{'end' if _is_main() else f'beat/{jax.process_index()}'}", message, True)
        if _is_main():  # the store ends with this process
            time.sleep(_POLL_SECONDS)
    except jax.errors.JaxRuntimeError:
        pass  # process 0 is gone, and with it all that could be told
    leave(error)


def finish() -> None:
    """At the end of the work: from here on nobody's silence is an alarm."""
    _finished.set()
    if several() and not _is_main():
        _store().key_value_set(f"{_KEYS}beat/{jax.process_index()}", "done", True)
    for thread in _watching:  # Python must not end below a thread that is inside JAX
        thread.join(2 * _POLL_SECONDS)


def _status(error: Exception) -> int:
    return error.status if isinstance(error, UserError | TryAgain) else 1


def _end_as_told(message: str) -> NoReturn:
    status, text = json.loads(message)
    leave({TryAgain.status: TryAgain, UserError.status: UserError}.get(status, RuntimeError)(text))


def leave(error: Exception) -> NoReturn:
    """At once: the orderly way out waits for the other processes."""
    print(f"{'stopped' if _status(error) == TryAgain.status else 'error'}: {error}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(_status(error))


def watch() -> None:
    """Starts the thread that ends this process when another one has ended, see `fail`."""
    _watching.append(threading.Thread(target=_watch, daemon=True))
    _watching[0].start()


def _watch() -> None:
    """In a thread: process 0 looks whether all others are alive, and they wait for its verdict."""
    store, own = _store(), f"{_KEYS}beat/{jax.process_index()}"
    beats = {i: ("", time.monotonic()) for i in range(1, jax.process_count())}
    for beat in range(2**62):
        try:
            if _is_main():
                time.sleep(_POLL_SECONDS)
                _look(store, beats)
            else:
                store.key_value_set(own, str(beat), True)
                _end_as_told(store.blocking_key_value_get(f"{_KEYS}end", 1000 * _POLL_SECONDS))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error) and not _finished.is_set():
                leave(TryAgain("process 0 of this job has ended; the same command goes on from the newest checkpoint"))
        if _finished.is_set():
            return


def _look(store: Any, beats: dict[int, tuple[str, float]]) -> None:
    for key, value in store.key_value_dir_get(f"{_KEYS}beat/"):
        index = int(key.rsplit("/", 1)[1])
        if value != beats[index][0]:
            beats[index] = (value, time.monotonic())
    for index, (value, when) in beats.items():
        silent = time.monotonic() - when > PEER_SECONDS and not _finished.is_set()
        if value.startswith("["):
            store.key_value_set(f"{_KEYS}end", value, True)
            time.sleep(_POLL_SECONDS)
            _end_as_told(value)
        elif silent and value != "done":
            fail(
                TryAgain(
                    f"process {index} has not answered for {PEER_SECONDS} s; the same command goes on from the newest "
                    "checkpoint"
                )
            )


def main_first(function: Callable[[], Result]) -> Result:
    """function() in process 0, and then in all others: what it makes on a shared disk is made once.

    Machines with disks of their own make it too, after process 0. All return together. A UserError in process 0 is
    raised in all.
    """
    if jax.process_count() == 1:
        return function()
    if _is_main():
        result, error = None, ""
        try:
            result = function()
        except UserError as problem:
            error = str(problem)
        _told(error)
        if error:
            raise UserError(error)
    else:
        if error := _told(""):
            raise UserError(error)
        result = function()
    multihost_utils.sync_global_devices("main_first")
    return result


def main_only(function: Callable[[], Any]) -> Any:
    """function() in process 0 alone; its result, which must be JSON, in all. A UserError in it is raised in all."""
    if jax.process_count() == 1:
        return function()
    answer = ""
    if _is_main():
        try:
            answer = texts.as_json({"result": function()})
        except UserError as problem:
            answer = texts.as_json({"error": str(problem)})
    answer = json.loads(_told(answer))
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["result"]


_told_so_far = 0


def _told(text: str) -> str:
    """What process 0 gives as `text`, in all processes; waits however long process 0 takes, while it lives."""
    global _told_so_far
    _told_so_far += 1
    key = f"{_KEYS}told/{_told_so_far}"
    if _is_main():
        _store().key_value_set(key, text)
        return text
    while True:
        try:
            return _store().blocking_key_value_get(key, 1000 * WAIT_SECONDS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


class Preemption:
    """Asked once a step: has the job been told to end (SIGTERM), here or in any other process?

    All processes get the answer yes at the same call, if they call equally often. Of one process a first Control-C says so
    too (`interrupted`); a second raises KeyboardInterrupt.
    """

    def __init__(self):
        self._calls, self._told, self.interrupted = 0, False, False
        self._former: dict[int, Any] = {}
        # With several processes JAX's preemption service holds SIGTERM's handler. Signals are the main thread's alone.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._former[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
                self._former[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)

    def close(self) -> None:
        """Gives the signals back to who had them."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.interrupted = True
            os.write(2, b"interrupted: saving after the step under way; Control-C again ends at once\n")
        self._told = True

    def __call__(self) -> bool:
        self._calls += 1
        if jax.process_count() > 1:
            self._told = self._told or multihost_utils.reached_preemption_sync_point(self._calls)
        return self._told
