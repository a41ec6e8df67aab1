"""Lines of the log: speed and remaining time, steps, scores."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Progress:
    """Speed and remaining time, for one line of the log."""

    def __init__(self, step: int, steps: int, batch_size: int):
        self._steps, self._batch_size = steps, batch_size
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
        """{"images_per_second", "input_wait" (share of the time), "eta_seconds"} since the last lap, and "save_wait"."""
        now, (then, previous) = time.monotonic(), self._mark
        elapsed = max(now - then, 1e-9)
        rate = (step - previous) / elapsed
        lap = {
            "images_per_second": rate * self._batch_size,
            "input_wait": self._waited / elapsed,
            "save_wait": self.save_wait(),
            "eta_seconds": (self._steps - step) / max(rate, 1e-9),
        }
        self._mark, self._waited = (now, step), 0.0
        return lap


def duration(seconds: float) -> str:
    """3725 -> '1h02m05s'."""
    hours, rest = divmod(int(round(seconds)), 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m{secs:02d}s" if hours else f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def log_step(step: int, steps: int, values: Mapping[str, float]) -> None:
    """One line: step, loss, learning rate, speed, ETA."""
    logger.info(
        "step %d/%d | loss %.4f | lr %.2e | grad %.2f | %.0f img/s | input wait %.0f%% | ETA %s",
        step,
        steps,
        values["loss"],
        values["learning_rate"],
        values["grad_norm"],
        values["images_per_second"],
        100 * values["input_wait"],
        duration(values["eta_seconds"]),
    )


def score_line(scores: Mapping[str, float]) -> str:
    """{"miou": 0.5} -> 'miou 50.00'; scores in percent, as papers print them. Where there is one for each of several
    channel counts (top1_n3, ...), their mean stands for them."""
    return " | ".join(
        f"{name} {100 * value:.2f}" for name, value in scores.items() if not re.search(r"top\d\w*_n\d+$", name)
    )
