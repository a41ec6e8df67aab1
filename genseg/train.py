"""The one loop, for both tasks: next batch, step, log, evaluate, save."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from genseg import checkpoints, optim, outputs, partition, processes, tasks, texts, tree
from genseg import state as states
from genseg.config import to_json
from genseg.design import Setup, setup
from genseg.errors import TryAgain, UserError
from genseg.report import lines, trace, writing
from genseg.report.step_metrics import fresh_metrics
from genseg.start import start
from genseg.validation import Evaluator, ToldToEnd
from genseg.watch import NonFiniteWatch

logger = logging.getLogger(__name__)


def train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Trains to the end of the config's schedule, or from where an earlier run in `workdir` stopped.

    Writes config.json, metrics.jsonl, TensorBoard events, pictures/, checkpoints/ and result.json; returns the result.
    Raises TryAgain after a last save when the job is told to end (SIGTERM), KeyboardInterrupt after one at a first Control-C,
    UserError for what a user can mend.
    """
    if "://" in workdir:
        raise UserError(
            f"--workdir {workdir} is an address; give a folder, and --config.checkpoint.dir={workdir} for the checkpoints"
        )
    workdir = str(outputs.given(workdir, "--workdir"))
    try:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        with checkpoints.sole_use(workdir):
            for folder in (Path(workdir), Path(workdir) / "pictures"):
                outputs.clear_abandoned(folder)
            refuse_others(Path(workdir), "config.json", "metrics.jsonl", "result.json")
            return _train(config, workdir)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise UserError(
            f"{error.filename or workdir} cannot be written ({error.strerror}); free space and start the same command again"
        ) from error


# What commands write into a workdir, and keys that tell it from another's file of the name.
OURS = {
    "config.json": {"task", "data"}, "result.json": {"scores"}, "metrics.jsonl": {"step"}, "robustness.json": {"rows"},
    "band_use.json": {"rows"},
}  # fmt: skip


def refuse_others(workdir: Path, *names: str) -> None:
    """Raises UserError if one of these files of OURS lies in a workdir without checkpoints and no command of genseg wrote it: it
    would be written over."""
    for path in (workdir / name for name in names):
        if (path.exists() or path.is_symlink()) and not (workdir / checkpoints.FOLDER).exists():
            try:
                text = texts.read(path, "file")
                said = text.strip().split("\n")[0] if path.suffix == ".jsonl" else text
                ours = not text or json.loads(said).keys() >= OURS[path.name]  # empty: of a run that was cut off
            except (ValueError, AttributeError, RecursionError):
                ours = False
            if not ours:
                raise UserError(f"{path} was not written by genseg; move it away, or give another --workdir")


def _train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    began = time.monotonic()
    if config.init.checkpoint and not (config.checkpoint.dir or (Path(workdir) / checkpoints.FOLDER).exists()):
        # A wrong one is told before data is prepared.
        checkpoints.load_card(config.init.checkpoint, best=config.init.best)
    run = setup(config, workdir)
    config = run.config
    saved = checkpoints.Checkpoints(
        config.checkpoint.dir or workdir, keep=config.checkpoint.keep, on_error=config.checkpoint.on_error
    )
    # From here on SIGTERM and a first Control-C end the run after a last save; before, they end it at once.
    told = contextlib.closing(processes.Preemption())
    with (
        contextlib.closing(saved),
        told as told_to_end,
        partition.use_mesh(run.mesh),
    ):  # closing waits for a save under way
        state, position = start(run, saved)  # refuses another run's workdir before anything in it is changed
        saved.bring_files(run.workdir)
        if partition.is_main_process():
            writing.write_json(run.workdir / "config.json", to_json(config))
        writers = writing.Writers(
            workdir, step=int(state.step), active=partition.is_main_process(), trackers=config.report.trackers,
            config=to_json(config),
        )  # fmt: skip
        traced = trace.Trace(config.profile.steps, run.workdir)
        logger.info("learning rate: %s", run.rates)
        logger.info("optimizer groups:\n%s", optim.group_table(run.optim, run.abstract.params, run.task.freezing))
        logger.info("parameters:\n%s", tree.size_table(run.abstract.params))
        logger.info("%s", beginning(run, int(state.step)))
        bar = lines.bar(int(state.step), run.plan.steps, shown=partition.is_main_process())
        with contextlib.closing(writers), contextlib.closing(traced):
            try:
                with bar as moved:
                    scores, step, notes = loop(run, state, position, saved, writers, traced, told_to_end, moved)
            except (KeyboardInterrupt, TryAgain) as error:
                if isinstance(error, TryAgain) and not told_to_end.interrupted:
                    raise
                saved.wait()
                kept = f"the last checkpoint is of step {saved.latest()}, the same command goes on there"
                raise KeyboardInterrupt(kept if saved.latest() else "no checkpoint was saved yet") from None
        saved.wait()
        result = {
            "task": config.task,
            "data": run.data.card.name,
            "synthetic": run.data.card.synthetic,
            "protocol": run.data.card.protocol,
            "inference": run.task.inference.describe() if isinstance(run.task, tasks.Segment) else "",
            "split": config.data.eval_split,
            "images": len(run.data.eval_split),
            "notes": list(notes),
            "step": step,
            "scores": scores,
            "best_step": saved.best(),
            "parameters": tree.count(run.abstract.params),
            "seed": config.seed,
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "seconds": round(time.monotonic() - began, 1),
        }
    if partition.is_main_process():
        writing.write_json(run.workdir / "result.json", result)
    saved.keep_files(run.workdir)
    logger.info("%s", lines.ending(scores, result, workdir))
    return result


def beginning(run: Setup, first: int) -> str:
    """What, on what, from which weights, scored how."""
    config, card = run.config, run.data.card
    net = f"{config.model.backbone}, {tree.count(run.abstract.params) / 1e6:.1f} M parameters"
    head = f" with {config.model.head}" if config.task == "segment" else ""
    start = config.init.checkpoint or f"scratch, seed {config.seed}"
    seen = f", seen in {run.task.inference.describe()}" if isinstance(run.task, tasks.Segment) else ""
    return lines.beginning(
        f"{config.task}: {net}{head}",
        f"{card.name}{' (SYNTHETIC)' if card.synthetic else ''}, {len(run.data.train_split):,} images of "
        f"{config.data.train_split}, {card.channels} bands",
        f"step {first} of this workdir" if first else start,
        f"{config.data.eval_split}, {card.splits[config.data.eval_split]:,} images{seen}; {card.protocol}",
        str(run.plan),
        f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    )


def loop(
    run: Setup, state: states.TrainState, position: int, saved: checkpoints.Checkpoints, writers: writing.Writers,
    traced: trace.Trace, told_to_end: Callable[[], bool], moved: Callable[[], Any],
) -> tuple[dict[str, float], int, tuple[str, ...]]:  # fmt: skip
    """From `state` to the end of the plan, or until `stalled`; the final scores, the step, and what is to be read with the
    scores. `state` is consumed.

    told_to_end: asked once a step and once a batch of evaluation, equally often in all processes. When it says yes, the
    state is saved and TryAgain raised. moved: called after each step.
    """
    config, first, steps = run.config, int(state.step), run.plan.steps
    evaluator = Evaluator(run, writers, told_to_end)
    progress = lines.Progress(first, steps, run.plan.batch_size)
    watch = NonFiniteWatch(run)
    metrics = fresh_metrics(run.mesh)
    scores: dict[str, float] = {}

    def evaluate_saved(step: int, final: bool) -> dict[str, float]:
        """Scores of the state that the checkpoint of `step` holds, so that nothing is lost where it is told to end."""
        try:
            return evaluator(state, step, final=final)
        except ToldToEnd:
            saved.wait()
            raise TryAgain(f"told to end; the checkpoint is that of step {step}, the same command goes on") from None

    def stop_early(step: int, scores: dict[str, float]) -> dict[str, float]:
        logger.info(
            "stopped early at step %d: no %s as good as that of step %d for %d evaluations",
            step, run.task.score, saved.best(), config.train.patience,
        )  # fmt: skip
        return evaluate_saved(step, final=True) if state.ema else scores

    # A finished run started again is evaluated anew, and one that was told to end during an evaluation repeats that.
    ended = first >= steps or bool(first and saved.scored(first) and stalled(run, saved, first))
    if ended or (first and due(first, config.eval.every) and not saved.scored(first)):
        scores = evaluate_saved(first, final=ended)
        if not saved.scored(first):
            writers.scalars(first, {f"eval/{k}": v for k, v in scores.items()})
            saved.add_score(first, scores[run.task.score])
            if not ended and stalled(run, saved, first):
                ended, scores = True, stop_early(first, scores)
        progress.restart(first)
    if ended:
        return scores, first, evaluator.notes

    logger.info("the first step is compiled before it runs: a minute or so on a CPU, less where it was compiled before")
    batches = device_batches(run, position, progress, watch)
    under_way: collections.deque = collections.deque()
    for step, batch in zip(range(first + 1, steps + 1), batches, strict=False):
        traced.before(step)
        state, metrics = run.train_step(state, metrics, batch)
        traced.after(step, metrics)
        moved()
        # At most two steps wait for the device: a queue of many would outlast the grace period of a preempted machine.
        under_way.append(metrics.first_non_finite.step)
        if len(under_way) > 2:
            jax.block_until_ready(under_way.popleft())

        last = told_to_end()
        now_eval = not last and (step == steps or due(step, config.eval.every))
        now_save = last or now_eval or due(step, config.checkpoint.every)
        if now_save or step == 1 or due(step, config.report.log_every):
            values = {k: float(v) for k, v in metrics.compute().items()}
            watch.check(values.pop("first_non_finite"))  # before a save: a broken state is never kept
            metrics = fresh_metrics(run.mesh)
            values |= progress.lap(step)
            lines.log_step(step, steps, values)
            writers.scalars(step, {f"train/{k}": v for k, v in values.items()})
        if now_eval:
            try:
                scores = evaluator(state, step, final=step == steps)
                writers.scalars(step, {f"eval/{k}": v for k, v in scores.items()})
            except ToldToEnd:
                last, now_eval = True, False
        if now_save:
            began = time.monotonic()
            saved.save(state, batches=step, meta=run.meta, score=scores[run.task.score] if now_eval else None)
            saved.keep_files(run.workdir)
            progress.saved(time.monotonic() - began)
            progress.restart(step)
        if last:
            saved.wait()
            raise TryAgain(
                f"told to end; the last checkpoint is of step {saved.latest()}, the same command goes on there"
            )
        if now_eval and step < steps and stalled(run, saved, step):
            return stop_early(step, scores), step, evaluator.notes
    return scores, steps, evaluator.notes


def stalled(run: Setup, saved: checkpoints.Checkpoints, step: int) -> bool:
    """Whether training ends by `config.train.patience` at a step that was saved with a score: read from the checkpoints, so
    that a run that was started again decides as one that was not."""
    patience, every, best = run.config.train.patience, run.config.eval.every, saved.best()
    if not patience or not every or best is None:
        return False
    return step // every - best // every >= patience


def due(step: int, every: int) -> bool:
    """Every `every` steps; 0 is never."""
    return every > 0 and step % every == 0


def device_batches(
    run: Setup, position: int, progress: lines.Progress, watch: NonFiniteWatch
) -> Iterator[dict[str, jax.Array]]:
    """Global training batches from `position` on, the next one already on its way to the device."""
    batches = run.data.train_batches(start=position, mesh=run.mesh)
    ahead: collections.deque = collections.deque()
    for number in itertools.count(position + 1):
        began = time.monotonic()
        batch = next(batches)
        progress.waited(time.monotonic() - began)
        watch.saw(number, batch["index"])
        ahead.append(partition.to_global(batch, run.mesh))
        if len(ahead) > 1:
            yield ahead.popleft()
