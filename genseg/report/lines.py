"""Lines of the log: speed and remaining time, steps, scores."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Speed and remaining time, for one line of the log. The first step, which is compiled first, counts for neither."""

    def __init__(self, step: int, steps: int, batch_size: int):
        self._steps, self._batch_size, self._first = steps, batch_size, step + 1
        self._began = time.monotonic()
        self._mark = (self._began, step)
        self._waited = self._saved = 0.0

    def saved(self, seconds: float) -> None:
        """Adds time that the loop stood still for saving a checkpoint."""
        self._saved += seconds

    def save_wait(self) -> float:
        """Share of the time since the loop began that it stood still for saving."""
        return self._saved / max(time.monotonic() - self._began, 1e-9)

    def waited(self, seconds: float) -> None:
        """Adds time that the loop stood still for input."""
        self._waited += seconds

    def restart(self, step: int) -> None:
        """Leaves the time since the last line out, because something else than training took it."""
        self._mark, self._waited = (time.monotonic(), step), 0.0

    def lap(self, step: int) -> dict[str, float]:
        """{"images_per_second", "input_wait" (share of the time), "eta_seconds"} since the last lap, and "save_wait"; at the
        first step the shares alone."""
        now, (then, previous) = time.monotonic(), self._mark
        elapsed = max(now - then, 1e-9)
        rate = (step - previous) / elapsed
        lap = {
            "images_per_second": rate * self._batch_size,
            "input_wait": self._waited / elapsed,
            "save_wait": self.save_wait(),
            "eta_seconds": (self._steps - step) / max(rate, 1e-9),
        }
        if step == self._first:
            del lap["images_per_second"], lap["eta_seconds"]
        self._mark, self._waited = (now, step), 0.0
        return lap


@contextlib.contextmanager
def bar(first: int, steps: int, *, shown: bool = True) -> Iterator[Callable[[], Any]]:
    """A bar of the run's steps below the log where standard error is a terminal, nothing elsewhere: lines stand for
    themselves there. Gives what is called after each step. shown: False in all processes of a job but one."""
    with contextlib.ExitStack() as stack:
        drawn = stack.enter_context(
            tqdm(
                total=steps, initial=first, unit="step", leave=False, dynamic_ncols=True, disable=None if shown else True
            )
        )  # fmt: skip
        if not drawn.disable:
            stack.enter_context(logging_redirect_tqdm(loggers=[logging.getLogger("genseg")]))
        yield drawn.update


def beginning(what: str, data: str, start: str, scored: str, length: str, devices: str) -> str:
    """What a run is about to do, as lines of a log."""
    rows = {
        "what": what,
        "on": data,
        "from": start,
        "scored": scored,
        "length": length,
        "devices": devices,
    }
    return "\n".join(["this run", *(f"  {name:<9}{text}" for name, text in rows.items())])


def ending(scores: Mapping[str, float], result: Mapping[str, Any], workdir: Any) -> str:
    """What a run has given, where it lies and how to go on, as lines of a log."""
    synthetic = " (SYNTHETIC data)" if result["synthetic"] else ""
    best = result["best_step"]
    kept = f"step {result['step']}" + (f", best of step {best}" if best not in (None, result["step"]) else "")
    rows = {
        "scores": f"{score_line(scores)}{synthetic}",
        "scored": f"{result['data']} {result['split']}: {result['protocol']}",
        "kept": f"{workdir}: checkpoints ({kept}), result.json, metrics.jsonl, pictures/",
        "look": f"genseg report {workdir}",
    }
    if result["task"] == "segment":
        rows["maps"] = f"genseg predict --checkpoint={workdir} --out=maps scene.tif"
    said = [f"  {'note':<9}{note}" for note in result["notes"]]
    told = [f"  {name:<9}{text}" for name, text in rows.items()]
    return "\n".join([f"done in {duration(result['seconds'])}", *told, *said])


def beside(text: str, notes: Sequence[str]) -> str:
    """A table of scores, and below it a line for each note that is to be read with them."""
    return "\n".join([text, *(f"NOTE       {note}" for note in notes)])


def duration(seconds: float) -> str:
    """3725 -> '1h02m05s'."""
    hours, rest = divmod(int(round(seconds)), 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m{secs:02d}s" if hours else f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def log_step(step: int, steps: int, values: Mapping[str, float]) -> None:
    """One line: step, loss, learning rate, speed, ETA."""
    text = "step %d/%d | loss %.4f | lr %.2e | grad %.2f"
    parts = [step, steps, values["loss"], values["learning_rate"], values["grad_norm"]]
    if "eta_seconds" in values:
        text += " | %.0f img/s | input wait %.0f%% | ETA %s"
        parts += [values["images_per_second"], 100 * values["input_wait"], duration(values["eta_seconds"])]
    logger.info(text, *parts)


def score_line(scores: Mapping[str, float]) -> str:
    """{"miou": 0.5} -> 'miou 50.00'; scores in percent, as papers print them. Where there is one for each of several
    channel counts (top1_n3, ...), their mean stands for them."""
    return " | ".join(
        f"{name} {100 * value:.2f}" for name, value in scores.items() if not re.search(r"top\d\w*_n\d+$", name)
    )
