"""Runs the cells that are missing, side by side, in any number of processes on a shared folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from genseg import outputs, texts
from genseg.config import load_file, to_json
from genseg.errors import TryAgain, UserError
from genseg.report import lines, writing
from genseg.study.design import Cell

logger = logging.getLogger(__name__)

ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
}
"""Two runs on one core each do more in an hour than two that share two cores."""


def result(out: Path, cell: Cell) -> dict | None:
    """result.json of a cell that has ended well; else None. Raises UserError for one that is damaged."""
    path = out / cell.folder / "result.json"
    if not path.exists():
        return None
    mend = f"remove it, and the same command ends {cell.folder} once more"
    found = texts.mapping(path, "result", mend)
    with outputs.undamaged(path, mend):
        if not (isinstance(found["scores"], dict) and isinstance(found["split"], str) and found["seconds"] >= 0):
            raise TypeError("it lacks scores")
    return found


def failure(out: Path, cell: Cell) -> str:
    """The last line of a cell that ended with a mistake; "" of any other."""
    path = out / f"{cell.folder}.failed"
    return path.read_text(encoding="utf-8").strip() if path.exists() and result(out, cell) is None else ""


@contextlib.contextmanager
def claim(out: Path, cell: Cell, how: int = fcntl.LOCK_EX) -> Iterator[int | None]:
    """A file descriptor that holds the cell, for the run to inherit, or None where another process has it.

    The lock ends when this process and the run have both ended, however that happens: nobody needs to clear it away.
    how: LOCK_SH to look only, so that two that look do not take each other for a run; one that claims may still meet a look.
    """
    path = out / f"{cell.folder}.claim"
    path.parent.mkdir(parents=True, exist_ok=True)
    # "+": over NFS a lock that is shared asks for a file open for reading, one that is not for writing.
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()


def _made_of(cell: Cell) -> str:
    """What decides a cell's result, as text: a list whose last entry is a digest of what its config file holds now, "" of one
    that does not load."""
    try:
        config = texts.as_json(to_json(load_file(cell.config)), sort_keys=True)
        digest = hashlib.blake2b(config.encode(), digest_size=8).hexdigest()
    except UserError:
        digest = ""
    return texts.as_json(
        [cell.config, {key: str(value) for key, value in cell.set}, cell.seed, cell.needs, digest], sort_keys=True
    )


def check_same_cells(out: Path, cells: Sequence[Cell]) -> dict[str, str]:
    """What each cell, by its folder, is made of. Raises UserError naming a cell whose folder holds a run of other settings, such as
    another study's on this folder, or of its config file before it was edited."""
    made = {cell.folder: _made_of(cell) for cell in cells}
    for cell in cells:
        path = out / f"{cell.folder}.cell"
        if not path.exists():
            continue
        mend = f"remove {path} and {out / cell.folder}, to run it again"
        with outputs.undamaged(path, mend):
            *before, old = (*json.loads(texts.read(path, "description of a run")), "")[:5]
        *wanted, new = json.loads(made[cell.folder])
        if before != wanted:
            raise UserError(
                f"{out / cell.folder} holds a run of {texts.as_json(before)}, and this study wants {texts.as_json(wanted)} there; "
                "give its start or arm another name, or another --out"
            )
        if old and new and old != new:  # runs of earlier versions do not say
            raise UserError(
                f"{cell.config} holds other values than when {out / cell.folder} was run: runs of two configs are not compared; "
                "give it its old values, or another --out"
            )
    return made


def state(out: Path, cell: Cell) -> str:
    """ "done", "running" (here or elsewhere), "failed" or "missing"."""
    if result(out, cell) is not None:
        return "done"
    if (out / f"{cell.folder}.claim").exists():
        with claim(out, cell, fcntl.LOCK_SH) as held:
            if held is None:
                return "running"
    return "failed" if failure(out, cell) else "missing"


def remaining(out: Path, cells: Sequence[Cell], side_by_side: int) -> str:
    """ "12 of 30 runs remain, about 34 min with 2 side by side": by the mean time of the runs of the same kind that ended."""
    states = [state(out, cell) for cell in cells]
    left = [cell for cell, now in zip(cells, states, strict=True) if now not in ("done", "failed")]
    took: dict[str, list[float]] = {}
    for cell in cells:
        if (found := result(out, cell)) is not None:
            took.setdefault(cell.kind, []).append(found["seconds"])
    alike: dict[str, list[float]] = {}  # by task and target, where no run of the same arm has ended
    for kind, seconds in took.items():
        alike.setdefault(kind.rpartition("/")[0], []).extend(seconds)
    guesses = [took[c.kind] if c.kind in took else alike.get(c.kind.rpartition("/")[0]) for c in left]
    text = f"{len(left)} of {len(cells)} runs remain"
    if failed := states.count("failed"):
        text += f", {failed} failed"
    if left and all(guesses):
        seconds = sum(mean(guess) for guess in guesses) / side_by_side
        text += f", about {lines.duration(seconds)} with {side_by_side} side by side"
    elif left:
        text += "; how long is not known before one of each kind has ended"
    return text


class Runner:
    """Takes cells one after the other, `side_by_side` at a time, until none is left that can be run.

    A run that ends with a mistake is marked as failed, with its last line, and not tried again unless `retry`. With
    side_by_side > 1 every run has one core of the CPU; a single one has the machine as the environment says.

    program: the command that takes a cell's arguments.
    """

    def __init__(
        self, out: Path, cells: Sequence[Cell], sources: Mapping[str, str], data_dir: str, *, side_by_side: int,
        retry: bool = False, program: Sequence[str] = (sys.executable, "-m", "genseg.main"),
    ):  # fmt: skip
        self.out, self.cells, self.sources, self.data_dir = out, list(cells), sources, data_dir
        self.side_by_side, self.program, self._told, self._children = side_by_side, program, threading.Event(), {}
        self._lock, self._tried = threading.Lock(), set()
        for folder in {(out / cell.folder).parent for cell in cells}:
            outputs.clear_abandoned(folder)
        self._made = check_same_cells(out, cells)
        if retry:
            for cell in cells:
                (out / f"{cell.folder}.failed").unlink(missing_ok=True)
        left = [cell for cell in cells if state(out, cell) != "done"]
        if lacking := sorted({cell.source for cell in left} - set(sources)):
            raise UserError(
                f"where the data '{lacking[0]}' lies is not said; add --source {lacking[0]}=FOLDER"
                + (f" (and of {', '.join(lacking[1:])})" if lacking[1:] else "")
            )

    def run(self) -> None:
        """Raises TryAgain when this process is told to end: the runs under way are told too, and save."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        workers = [
            threading.Thread(target=self._work, args=(cores[i % len(cores)] if cores else None,), daemon=True)
            for i in range(self.side_by_side)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.5)
        except BaseException:
            self._told.set()
            with self._lock:
                for child in self._children.values():
                    child.terminate()
            for worker in workers:
                worker.join()
            raise
        if self._told.is_set():
            raise TryAgain("a run was told to end; the same command goes on")

    def _work(self, core: int | None) -> None:
        while not self._told.is_set():
            if not any(self._take(cell, core) for cell in self.cells):
                if not self._waiting():
                    return
                time.sleep(2.0)

    def _waiting(self) -> bool:
        """Whether a cell can be run, which was only looked at elsewhere when it was to be taken, or a run under way, here or
        elsewhere, is one that a missing cell starts from."""
        if any(self._free(cell) for cell in self.cells):
            return True
        running = {cell.folder for cell in self.cells if state(self.out, cell) == "running"}
        return any(c.needs in running for c in self.cells if c.needs and state(self.out, c) == "missing")

    def _free(self, cell: Cell) -> bool:
        """Whether the cell is missing, can be run, was not tried here, and no run has it."""
        if cell.needs and not (self.out / cell.needs / "result.json").exists():
            return False
        return cell.folder not in self._tried and state(self.out, cell) == "missing"

    def _take(self, cell: Cell, core: int | None) -> bool:
        """Runs the cell if it is free and nobody locks it; says whether it did."""
        if self._told.is_set() or not self._free(cell):
            return False
        with claim(self.out, cell) as held:
            if held is None or result(self.out, cell) is not None:
                return False
            self._run(cell, core, held)
        return True

    def _run(self, cell: Cell, core: int | None, held: int) -> None:
        environment = dict(os.environ)
        if self.side_by_side > 1:
            environment |= ONE_THREAD
        logger.info("starts %s: %s", cell.folder, cell.command(self.out, self.sources, self.data_dir))
        command = [*self.program, *cell.arguments(self.out, self.sources, self.data_dir)]
        writing.write_atomically(self.out / f"{cell.folder}.cell", self._made[cell.folder])
        log = self.out / f"{cell.folder}.log"
        with log.open("a", encoding="utf-8") as output:
            with self._lock:
                if self._told.is_set():
                    return
                child = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment, pass_fds=(held,)
                )
                self._children[cell.folder] = child
            if core is not None and self.side_by_side > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(child.pid, {core})
            status = child.wait()
        with self._lock:
            del self._children[cell.folder]
        if status == TryAgain.status or self._told.is_set():
            self._told.set()
            return
        self._tried.add(cell.folder)
        if status or result(self.out, cell) is None:
            said = [line for line in log.read_text(errors="replace", encoding="utf-8").splitlines() if line.strip()]
            last = said[-1] if said else "it said nothing"
            writing.write_atomically(self.out / f"{cell.folder}.failed", f"status {status}: {last}\n")
            logger.error("%s failed with status %d: %s (%s)", cell.folder, status, last, log)
        else:
            logger.info("%s is done; %s", cell.folder, remaining(self.out, self.cells, self.side_by_side))
