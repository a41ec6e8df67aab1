"""The watch for a loss that is no number."""

from __future__ import annotations

import collections

import numpy as np

from genseg import checkpoints, partition
from genseg.design import Setup
from genseg.errors import UserError
from genseg.report.step_metrics import NEVER


class NonFiniteWatch:
    """Remembers which records the last batches held, to name those of a batch that broke the loss."""

    def __init__(self, run: Setup):
        self._checkpoints = f"{run.config.checkpoint.dir or run.workdir}/{checkpoints.FOLDER}"
        # Losses are read every log_every steps at the latest; one batch more is on its way to the device.
        self._recent: collections.deque = collections.deque(maxlen=run.config.report.log_every + 2)

    def saw(self, step: int, index: np.ndarray) -> None:
        self._recent.append((step, index))

    def check(self, first_non_finite: float) -> None:
        """Raises UserError when the loss or gradient of a step since the last check was not finite."""
        step = int(first_non_finite)
        if step == NEVER:
            return
        records = next((index.tolist() for number, index in self._recent if number == step), [])
        whose = (
            f"process {partition.process_index()}'s rows of the batch" if partition.process_count() > 1 else "the batch"
        )
        raise UserError(
            f"the loss or its gradient is not finite at step {step}; training stops, the last good checkpoint is in "
            f"{self._checkpoints}; lower config.optim.learning_rate or set config.optim.clip_norm; "
            f"{whose} held records {records}"
        )
