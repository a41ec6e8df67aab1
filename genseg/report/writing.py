"""Files of a workdir: text and JSON written whole or not at all, metrics.jsonl, TensorBoard events.

TensorBoard files are written with tensorboardX: clu's writers import TensorFlow, which training does not need.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import outputs, texts
from genseg.report import trackers as services

logger = logging.getLogger(__name__)


class Writers:
    """metrics.jsonl and TensorBoard event files in a workdir, and services; does nothing outside the main process."""

    def __init__(
        self, workdir: str, *, step: int, active: bool, trackers: Sequence[str] = (), config: Mapping[str, Any] | None = None
    ):  # fmt: skip
        """step: training goes on after this step; lines of later steps, written before a crash, are dropped. trackers: of
        `trackers.KINDS`, which are told the config. Raises UserError for one that is not installed."""
        self._active = active
        if not active:
            return
        self._services = services.started(trackers, Path(workdir), config or {})
        import tensorboardX  # 0.3 s: kept out of `import genseg.train`

        self._path = Path(workdir) / "metrics.jsonl"
        keep_lines_up_to(self._path, step)
        self._lines = self._path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(workdir, purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl; values that are not finite are left out of it."""
        if self._active:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            try:
                self._lines.write(texts.as_json({"step": step, **finite}) + "\n")
                self._lines.flush()
            except OSError as error:  # a full disk: checkpoints say what to do about it, see config.checkpoint.on_error
                logger.error("the metrics of step %d are not in %s: %s", step, self._path, error)
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            for service in self._services:
                service.scalars(step, values)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """uint8 [h, w, 3]."""
        if self._active:
            self._board.add_image(name, pixels, step, dataformats="HWC")
            for service in self._services:
                service.image(step, name, pixels)

    def text(self, step: int, name: str, text: str) -> None:
        if self._active:
            self._board.add_text(name, f"```\n{text}\n```", step)

    def close(self) -> None:
        if self._active:
            self._lines.close()
            self._board.close()
            for service in self._services:
                service.close()


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drops lines of steps after `step`, and a last line that a crash cut short, from a metrics.jsonl."""
    if not path.exists():
        return
    write_atomically(path, "".join(line + "\n" for line, record in lines_of(path) if record["step"] <= step))


def lines_of(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """(line, what it says) of a metrics.jsonl; lines that are none, such as one that is being written, are left out."""
    for line in outputs.regular(path, "file").read_text(errors="replace", encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            numbers = [float(value) for value in record.values() if isinstance(value, int | float)]
            sound = isinstance(record["step"], int) and len(numbers) == len(record)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
        if sound:
            yield line, record


def write_atomically(path: Path, text: str) -> None:
    """A reader, or a crash, sees the old file or the new one, never half of it."""
    with outputs.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, texts.as_json(value, indent=2, sort_keys=True) + "\n")
