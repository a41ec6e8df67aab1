"""What all command lines share: genseg's log on standard error, how a command ends, and what SIGTERM does to it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from absl import logging as absl_logging

from genseg.errors import TryAgain, UserError

REPORT = (
    "This is a mistake in genseg, or a damage that it does not know: please report it in the project's issue tracker, with "
    "the command and the lines above."
)
INTERRUPTED = 130  # of a command that Control-C ends, as shells have it
KEPT = "what has its name is whole; the same command goes on or starts again"


def start_log(level: int = logging.INFO) -> None:
    """genseg's own lines on standard error; of the libraries none (Orbax writes 20 lines a save, warns of every checkpoint
    that it opens for reading, and prints tracebacks of what genseg then says in one sentence)."""
    absl_logging.set_verbosity(absl_logging.FATAL)
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
    sentence = " ".join(str(error).split())
    print(f"{'error' if isinstance(error, UserError) else 'stopped'}: {sentence}", file=sys.stderr, flush=True)
    return error.status


def run(command: Callable[[], None]) -> int:
    """Runs a command of one process; its exit status, after the sentence of what ended it has been printed.

    0: done; 2: UserError, and whatever `mistake_of` knows; 75: TryAgain, and SIGTERM; 130: Control-C. Anything else is
    raised, with a line that asks to report it.
    """
    start_log()
    with ending() as end:
        command()
    return end.status


class Ending:
    """How a command ended."""

    status = 0


@contextlib.contextmanager
def ending(known: Callable[[Exception], UserError | TryAgain | None] = lambda error: None) -> Iterator[Ending]:
    """Around a command: its mistakes end in one sentence and a status in the `Ending` that it gives.

    known: turns further exceptions into UserError or TryAgain, or returns None.
    """
    end = Ending()
    for stream in (sys.stdout, sys.stderr):  # terminals of ASCII, file names that are no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    failures: list[threading.ExceptHookArgs] = []
    former_hook, threading.excepthook = threading.excepthook, failures.append
    try:
        with told_by_exception(), unwrapped():
            yield end
    except BrokenPipeError:  # whoever read our output, such as `head`, has ended
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python flushes it at its end
        end.status = 128 + signal.SIGPIPE
    except Told as error:
        end.status = tell(error.as_try_again())
    except KeyboardInterrupt as error:
        print(f"stopped: interrupted; {error if str(error) else KEPT}", file=sys.stderr, flush=True)
        end.status = INTERRUPTED
    except Exception as error:
        mistake = known(error) or mistake_of(error)
        if mistake is None:
            for failure in failures:
                traceback.print_exception(failure.exc_value)
            error.add_note(REPORT)
            raise
        end.status = tell(mistake)
    finally:
        threading.excepthook = former_hook
        if not end.status:
            for failure in failures:
                logging.getLogger("genseg").warning("a thread of a library failed: %r", failure.exc_value)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Around a function that programs call: what would end a command in a sentence is raised as UserError or TryAgain."""
    try:
        with told_by_exception(), unwrapped():
            yield
    except Told as error:
        raise error.as_try_again() from None
    except Exception as error:
        mistake = mistake_of(error)
        if mistake is None or mistake is error:
            raise
        raise mistake from error


# What may be wrong with a path, and what to do about it. Behind "PATH: REASON; ".
MENDS = {
    errno.ENOENT: "give one that exists",
    errno.EACCES: "give yourself the permission, or another path",
    errno.EPERM: "give yourself the permission, or another path",
    errno.EEXIST: "give another path, or move that away",
    errno.ENOTEMPTY: "give another path, or move that away",
    errno.ENOTDIR: "give a path whose folders are folders",
    errno.EISDIR: "give a file",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ENOSPC: "free space and start the same command again",
    errno.EDQUOT: "free space and start the same command again",
    errno.EFBIG: "give a place that takes files of this size",
    errno.EROFS: "give a place that can be written to",
    errno.ELOOP: "give a path without a circle of links",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs' files",
    errno.EIO: "the disk or its network fails: mend that, or give another place",
    errno.ESTALE: "the network's file system was taken away: mount it again",
}


def mistake_of(error: BaseException) -> UserError | TryAgain | None:
    """The sentence for an exception that is no bug: what the system refused, text that is none, memory that is not there.

    None for anything else.
    """
    if isinstance(error, UserError | TryAgain):
        return error
    if isinstance(error, OSError):
        names = [os.fsdecode(n) if isinstance(n, bytes) else str(n) for n in (error.filename, error.filename2) if n]
        reason = error.strerror or str(error) or type(error).__name__
        mend = MENDS.get(error.errno or 0, "mend that and start the same command again")
        return UserError(f"{' and '.join(names) or 'a file or the network'}: {reason}; {mend}")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"a file is not text in UTF-8 ({error}); save it as UTF-8")
    if isinstance(error, UnicodeEncodeError):
        return UserError(
            f"a name cannot be written as text ({error.reason}): {error.object[-200:]!a}; rename the file, or set LC_ALL=C.UTF-8"
        )
    full = (
        re.search(r"write\(\) failed: ([^;]+); writing ([^;]+)", str(error))
        if isinstance(error, RuntimeError)
        else None
    )
    if full:  # of ArrayRecord's writer
        return UserError(f"{full[2]}: {full[1]}; {MENDS[errno.ENOSPC]}")
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return UserError("'~' stands for a home directory that is not known; write the whole path, or set HOME")
    if isinstance(error, ValueError) and "null byte" in str(error):
        return UserError("a path holds a null byte; give one without")
    if isinstance(error, MemoryError):
        return UserError(
            f"there is too little memory for this ({str(error) or 'none is left'}); ask for smaller images, windows or "
            "batches, or use a machine with more"
        )
    return None


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Libraries in C that are imported or called while Control-C or SIGTERM comes raise errors of their own from it: these are
    what they came of."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt | Told):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from None


@contextlib.contextmanager
def saying(kept: Callable[[], str]) -> Iterator[None]:
    """Around work that Control-C or SIGTERM may end: what the command's last line then says has been kept."""
    try:
        with unwrapped():
            yield
    except (KeyboardInterrupt, Told) as error:
        raise error if str(error) else type(error)(kept()) from None


class Told(BaseException):
    """SIGTERM has come. No Exception: nothing that handles errors may take it for one."""

    def as_try_again(self) -> TryAgain:
        return TryAgain(f"told to end (SIGTERM); {self if str(self) else KEPT}")


@contextlib.contextmanager
def told_by_exception():
    """SIGTERM raises `Told` in the main thread, as Control-C does KeyboardInterrupt, so that what is half done is cleared away;
    a second SIGTERM ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number, frame):
        signal.signal(signal.SIGTERM, end_at_once)
        raise Told

    former = {signal.SIGTERM: signal.signal(signal.SIGTERM, told)}
    if signal.getsignal(signal.SIGINT) is end_at_once:  # not where the shell has it ignored
        former[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def answer_from_the_start() -> None:
    """For the first line of a command, before its imports: from here on SIGTERM and Control-C end it with a sentence."""
    signal.signal(signal.SIGTERM, end_at_once)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(number: int, frame: Any) -> NoReturn:
    """Of SIGTERM and Control-C before a command has begun or after its end, and of a second SIGTERM."""
    interrupted = number == signal.SIGINT
    os.write(2, f"stopped: {'interrupted' if interrupted else 'told to end (SIGTERM)'}; {KEPT}\n".encode())
    os._exit(INTERRUPTED if interrupted else TryAgain.status)
