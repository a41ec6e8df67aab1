"""Evaluations between the steps of training."""

from __future__ import annotations

from collections.abc import Callable

from genseg import evaluate, partition, tasks
from genseg import state as states
from genseg.data import doubts
from genseg.design import Setup
from genseg.report.writing import Writers


class ToldToEnd(Exception):
    """The job was told to end during an evaluation."""


class Evaluator:
    """Evaluates a state on the config's evaluation split; its compiled steps are kept between calls."""

    def __init__(self, run: Setup, writers: Writers, told_to_end: Callable[[], bool]):
        self._run, self._writers, self._told_to_end = run, writers, told_to_end
        self.notes = run.data.card.notes  # to be read with the scores of the last call
        self._evaluation = evaluate.Evaluation(run.task, run.data, run.mesh, self._between)

    def _between(self) -> None:
        if self._told_to_end():
            raise ToldToEnd

    def __call__(self, state: states.TrainState, step: int, *, final: bool) -> dict[str, float]:
        """Scores with the weights that `config.eval.ema` names; at the end also with the others, as raw_* or ema_*.

        Raises ToldToEnd.
        """
        run, config = self._run, self._run.config
        ema = config.eval.ema and bool(state.ema)
        params, stats = state.weights(ema)
        counts = self._evaluation(params, stats)
        scores = run.task.summarize(counts)
        pictures, split = run.workdir / "pictures", config.data.eval_split
        pictures.mkdir(exist_ok=True)
        if isinstance(run.task, tasks.Segment):
            self.notes = doubts.beside(run.task.card, split, counts["confusion"])
        evaluate.write_details(run.task, counts, pictures, self._writers, step, split, self.notes)
        if isinstance(run.task, tasks.Segment) and partition.is_main_process():
            path = run.workdir / f"{split}_scene_counts.npz"
            evaluate.write_scene_counts(path, counts, self._evaluation.scenes, run.task.card, step)
        if isinstance(run.task, tasks.Segment) and config.report.panels:
            evaluate.write_panels(
                self._evaluation,
                params,
                stats,
                pictures,
                self._writers,
                step,
                split,
                samples=config.report.panels,
                counts=counts,
            )
        if final and state.ema:
            params, stats = state.weights(not ema)
            other = run.task.summarize(self._evaluation(params, stats))
            name = "raw" if ema else "ema"
            scores |= {f"{name}_{k}": v for k, v in other.items()}
        return scores
