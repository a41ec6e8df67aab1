"""The one loop, for both tasks: next batch, step, log, evaluate, save."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from genseg import checkpoints, evaluate, inputs, optim, partition, processes, recipes, report, tasks, transfer, tree
from genseg import state as states
from genseg.config import differences, section, to_json
from genseg.data.card import DatasetCard
from genseg.errors import TryAgain, UserError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Schedule arithmetic, in optimizer steps."""

    steps: int
    warmup_steps: int
    steps_per_epoch: float
    batch_size: int
    accumulation: int

    def __str__(self) -> str:
        parts = f" (in {self.accumulation} microbatches of {self.batch_size // self.accumulation})"
        return (
            f"{self.steps:,} steps of {self.batch_size} images{parts if self.accumulation > 1 else ''}, "
            f"{self.steps_per_epoch:.2f} steps an epoch, {self.steps / self.steps_per_epoch:.2f} epochs; the first "
            f"{self.warmup_steps:,} steps are warm-up"
        )


def plan(config: ConfigDict, examples: int, devices: int) -> Plan:
    """Epochs, steps, warm-up and accumulation of `config.train` for a split of `examples` images.

    The length is given in epochs or in steps, warm-up likewise: exactly one of each pair is not 0 (warm-up: at most
    one). Raises UserError when they contradict each other or the batch does not divide.
    """
    train = config.train
    if (train.epochs > 0) == (train.steps > 0):
        raise UserError("give the length of training by config.train.epochs or config.train.steps; set the other to 0")
    if train.warmup_epochs > 0 and train.warmup_steps > 0:
        raise UserError("give the warm-up by config.train.warmup_epochs or config.train.warmup_steps, not by both")
    if train.accumulation < 1 or train.batch_size % (train.accumulation * devices):
        raise UserError(
            f"config.train.batch_size {train.batch_size} is not divisible by {train.accumulation} microbatches on "
            f"{devices} devices; use a multiple of {max(train.accumulation, 1) * devices}"
        )
    # A fraction of an epoch is dropped once in the whole run, not once an epoch: batches cross epoch borders.
    per_epoch = examples / train.batch_size
    steps = train.steps or int(train.epochs * examples / train.batch_size)
    if steps < 1:
        raise UserError(f"{train.epochs} epochs of {examples} images are less than one batch of {train.batch_size}")
    warmup = train.warmup_steps or int(train.warmup_epochs * examples / train.batch_size)
    return Plan(steps, warmup, per_epoch, train.batch_size, train.accumulation)


def make_train_step(
    task: tasks.Task, optimizer: optax.GradientTransformation, schedule: optax.Schedule, *, accumulation: int,
    ema_decay: float, ema_warmup: bool, seed: int,
) -> Callable:  # fmt: skip
    """step(state, metrics, batch) -> (state, metrics); jit it with the shardings of `state`.

    The gradient is that of the mean loss over all valid images or pixels of the global batch, however many devices or
    microbatches share it. Everything random is a function of (seed, step, microbatch, position in it).
    """

    def gradients(params, stats, batch, key):
        total = jnp.maximum(task.weight(batch), 1.0)

        def loss(params, stats, part, key):
            value, stats = task.loss_sum(partition.gathered(params), stats, part, key)
            return value / total, stats

        if accumulation == 1:
            (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, batch, key)
            return value, stats, grads

        # Microbatch k takes rows k, k + A, k + 2A, ...: each device cuts its own rows, and nothing moves.
        parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, accumulation, *x.shape[1:]), 0, 1), batch)

        def add(carry, numbered):
            value, stats, grads = carry
            k, part = numbered
            part = partition.split_batch(part)
            more, more_grads = jax.value_and_grad(loss, has_aux=True)(params, stats, part, jax.random.fold_in(key, k))
            return (value + more[0], more[1], jax.tree.map(jnp.add, grads, more_grads)), None

        zero = (jnp.float32(0), stats, jax.tree.map(jnp.zeros_like, params))
        (value, stats, grads), _ = jax.lax.scan(add, zero, (jnp.arange(accumulation), parts))
        return value, stats, grads

    def step(state: states.TrainState, metrics: report.StepMetrics, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        value, stats, grads = gradients(state.params, state.stats, batch, key)
        with jax.named_scope("optimizer"):
            updates, opt = optimizer.update(grads, state.opt, state.params)
            params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            ema = states.update_ema(ema, params, stats, state.step, decay=ema_decay, warmup=ema_warmup)
        norm = optax.global_norm(grads)
        metrics = metrics.merge(
            report.StepMetrics.single_from_model_output(
                loss=value,
                grad_norm=norm,
                learning_rate=schedule(state.step),
                finite=jnp.isfinite(value) & jnp.isfinite(norm),
                step=state.step + 1,
            )  # fmt: skip
        )
        return states.TrainState(state.step + 1, params, stats, opt, ema), metrics

    return step


@dataclasses.dataclass(frozen=True)
class Design:
    """All that a config, a card and a mesh determine. No data is opened and no array made: the mesh may be of devices
    that are not there (`genseg.dry_run`)."""

    config: ConfigDict
    card: DatasetCard
    mesh: Mesh
    task: tasks.Task
    plan: Plan
    optim: optim.OptimSettings
    optimizer: optax.GradientTransformation
    abstract: states.TrainState
    sharding: states.TrainState
    train_step: Callable

    @property
    def rates(self) -> str:
        """The learning rates, in a line."""
        given = section(optim.OptimSettings, self.config.optim, "optim")
        return optim.describe_rates(given, self.plan.batch_size, self.plan.steps, self.plan.warmup_steps)


@dataclasses.dataclass(frozen=True)
class Setup(Design):
    """A design with its data and its workdir; nothing is trained or written yet."""

    workdir: Path
    data: inputs.Inputs

    @property
    def meta(self) -> dict[str, Any]:
        return {
            "config": to_json(self.config),
            "card": self.card.to_json(),
            "versions": checkpoints.versions(),
            "revision": checkpoints.revision(),
        }


def design(config: ConfigDict, card: DatasetCard, mesh: Mesh) -> Design:
    """Builds task, optimizer and step. Raises UserError for whatever does not fit together."""
    task = tasks.build(config, card)
    the_plan = plan(config, card.splits[config.data.train_split], mesh.size)
    settings = optim.scaled(section(optim.OptimSettings, config.optim, "optim"), config.train.batch_size)
    schedule = optim.learning_rate(settings, the_plan.steps, the_plan.warmup_steps)
    abstract_params, _ = jax.eval_shape(task.net.init, jax.random.key(0))
    optimizer = optim.build(settings, abstract_params, schedule)
    use_ema = config.ema.decay > 0
    abstract = jax.eval_shape(lambda key: states.init(task.net, key, optimizer, ema=use_ema), jax.random.key(0))
    sharding = partition.tree_sharding(mesh, abstract)
    step = make_train_step(
        task, optimizer, schedule, accumulation=the_plan.accumulation, ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup, seed=config.seed,
    )  # fmt: skip
    jitted = jax.jit(step, out_shardings=(sharding, partition.replicated(mesh)), donate_argnums=(0,))
    return Design(config, card, mesh, task, the_plan, settings, optimizer, abstract, sharding, jitted)


def setup(config: ConfigDict, workdir: str) -> Setup:
    """The design for the devices at hand, and its data. Raises UserError for whatever does not fit together."""
    config = recipes.complete(config)
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    partition.check_batch(config.train.batch_size, mesh)
    partition.check_batch(config.eval.batch_size, mesh)
    data = inputs.open_inputs(config)
    logger.info("%s", data.card.describe())
    return Setup(**vars(design(config, data.card, mesh)), workdir=Path(workdir), data=data)


def initial_state(run: Setup) -> states.TrainState:
    """The state before step 1: from scratch, or with the backbone of `config.init.checkpoint`."""
    key, stem_key = jax.random.split(jax.random.key(run.config.seed))
    params, stats = jax.jit(run.task.net.init, out_shardings=(run.sharding.params, run.sharding.stats))(key)
    if run.config.init.checkpoint:
        init = run.config.init
        weights = checkpoints.load_weights(init.checkpoint, ema=init.ema, best=init.best, only="backbone/")
        params, summary = transfer.adopt_backbone(
            params, weights.params, rule=init.stem, key=stem_key, origin=weights.path
        )
        logger.info("start: backbone from %s: %s", weights.path, summary)
        params = jax.device_put(params, run.sharding.params)
    else:
        logger.info("start: from scratch, seed %d", run.config.seed)
    use_ema = run.config.ema.decay > 0
    create = jax.jit(lambda p, s: states.create(p, s, run.optimizer, ema=use_ema), out_shardings=run.sharding)
    return create(params, stats)


# What may differ from the config that a workdir was trained with: it changes how training is watched, stored and spread
# over devices, not what is trained. Where the data lies may change too, its card may not.
FREE = ("report", "checkpoint", "eval", "mesh", "model.remat", "data.source", "data.data_dir", "data.threads", "data.workers",
        "data.skip_corrupt")  # fmt: skip


def check_same_run(run: Setup, meta: dict[str, Any]) -> None:
    """Raises UserError naming the keys in which config or data differ from those that the workdir was trained with.

    Keys in FREE, and those named in config.checkpoint.allow_changes, may differ; they are logged.
    """

    def card(text):
        return {"card": {key: value for key, value in json.loads(text).items() if key != "notes"}}

    lines = differences(to_json(ConfigDict(recipes.completed(meta["config"]))), to_json(run.config))
    lines += differences(card(meta["card"]), card(run.data.card.to_json()))
    free = (*FREE, *(key.strip() for key in run.config.checkpoint.allow_changes.split(",") if key.strip()))
    refused = [line for line in lines if not any(f"{line.split(':')[0]}.".startswith(f"{key}.") for key in free)]
    if refused:
        keys = ",".join(line.split(":")[0] for line in refused)
        raise UserError(
            f"this workdir was trained with another config ({'; '.join(refused)}): give the old values, another "
            f"--workdir, or, if the change is meant, --config.checkpoint.allow_changes={keys}"
        )
    for line in lines:
        logger.warning("config differs from the checkpoint's: %s", line)


def start(run: Setup, saved: checkpoints.Checkpoints) -> tuple[states.TrainState, int]:
    """(state, batches consumed): the workdir's own newest checkpoint, else other weights, else scratch.

    Raises UserError when the workdir was trained with another config.
    """
    step = saved.latest()
    if step is None:
        return initial_state(run), 0
    check_same_run(run, saved.meta(step))
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), run.abstract, run.sharding)
    restored = saved.restore(abstract, step)
    logger.info("start: resumed from this workdir's checkpoint at step %d", step)
    return restored.state, restored.batches


def train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Trains to the end of the config's schedule, or from where an earlier run in `workdir` stopped.

    Writes config.json, metrics.jsonl, TensorBoard events, pictures/, checkpoints/ and result.json; returns the result.
    Raises TryAgain after a last save when the job is told to end (SIGTERM), UserError for what a user can mend.
    """
    if "://" in workdir:
        raise UserError(
            f"--workdir {workdir} is an address; give a folder, and --config.checkpoint.dir={workdir} for the checkpoints"
        )
    try:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        with contextlib.closing(processes.Preemption()) as told_to_end, checkpoints.sole_use(workdir):
            return _train(config, workdir, told_to_end)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise UserError(
            f"{error.filename or workdir} cannot be written ({error.strerror}); free space and start the same command again"
        ) from error


def _train(config: ConfigDict, workdir: str, told_to_end: processes.Preemption) -> dict[str, Any]:
    began = time.monotonic()
    run = setup(config, workdir)
    logger.info("plan: %s", run.plan)
    logger.info("learning rate: %s", run.rates)
    logger.info("optimizer groups:\n%s", optim.group_table(run.optim, run.abstract.params))
    logger.info("parameters:\n%s", tree.size_table(run.abstract.params))

    saved = checkpoints.Checkpoints(
        config.checkpoint.dir or workdir, keep=config.checkpoint.keep, on_error=config.checkpoint.on_error
    )
    with contextlib.closing(saved), partition.use_mesh(run.mesh):  # closing waits for a save under way
        state, position = start(run, saved)  # refuses another run's workdir before anything in it is changed
        saved.bring_files(run.workdir)
        if partition.is_main_process():
            report.write_json(run.workdir / "config.json", to_json(config))
        writers = report.Writers(workdir, step=int(state.step), active=partition.is_main_process())
        with contextlib.closing(writers):
            scores = loop(run, state, position, saved, writers, told_to_end)
        saved.wait()
        result = {
            "task": config.task,
            "data": run.data.card.name,
            "synthetic": run.data.card.synthetic,
            "protocol": run.data.card.protocol,
            "inference": run.task.inference.describe() if isinstance(run.task, tasks.Segment) else "",
            "split": config.data.eval_split,
            "notes": list(run.data.card.notes),
            "step": run.plan.steps,
            "scores": scores,
            "best_step": saved.best(),
            "parameters": tree.count(run.abstract.params),
            "seed": config.seed,
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "seconds": round(time.monotonic() - began, 1),
        }
    if partition.is_main_process():
        report.write_json(run.workdir / "result.json", result)
    saved.keep_files(run.workdir)
    logger.info("done in %s: %s", report.duration(result["seconds"]), report.score_line(scores))
    return result


def loop(
    run: Setup, state: states.TrainState, position: int, saved: checkpoints.Checkpoints, writers: report.Writers,
    told_to_end: Callable[[], bool],
) -> dict[str, float]:  # fmt: skip
    """From `state` to the end of the plan; returns the final scores. `state` is consumed.

    told_to_end: asked once a step and once a batch of evaluation, equally often in all processes. When it says yes, the
    state is saved and TryAgain raised.
    """
    config, first, steps = run.config, int(state.step), run.plan.steps
    evaluator = Evaluator(run, writers, told_to_end)
    progress = report.Progress(first, steps, run.plan.batch_size)
    watch = NonFiniteWatch(run)
    metrics = fresh_metrics(run.mesh)
    scores: dict[str, float] = {}

    # A finished run started again is evaluated anew, and one that was told to end during an evaluation repeats that.
    if first >= steps or (first and due(first, config.eval.every) and not saved.scored(first)):
        try:
            scores = evaluator(state, first, final=first >= steps)
        except ToldToEnd:
            raise TryAgain(f"told to end; the checkpoint is that of step {first}, the same command goes on") from None
        if not saved.scored(first):
            writers.scalars(first, {f"eval/{k}": v for k, v in scores.items()})
            saved.add_score(first, scores[run.task.score])
        progress.restart(first)

    batches = device_batches(run, position, progress, watch)
    under_way: collections.deque = collections.deque()
    for step, batch in zip(range(first + 1, steps + 1), batches, strict=False):
        state, metrics = run.train_step(state, metrics, batch)
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
            report.log_step(step, steps, values)
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
    return scores


def due(step: int, every: int) -> bool:
    """Every `every` steps; 0 is never."""
    return every > 0 and step % every == 0


def fresh_metrics(mesh: Mesh) -> report.StepMetrics:
    """Empty metrics, whole on every device."""
    return jax.device_put(report.StepMetrics.empty(), partition.replicated(mesh))


def device_batches(
    run: Setup, position: int, progress: report.Progress, watch: NonFiniteWatch
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
        if step == report.NEVER:
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


class ToldToEnd(Exception):
    """The job was told to end during an evaluation."""


class Evaluator:
    """Evaluates a state on the config's evaluation split; its compiled steps are kept between calls."""

    def __init__(self, run: Setup, writers: report.Writers, told_to_end: Callable[[], bool]):
        self._run, self._writers, self._told_to_end = run, writers, told_to_end
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
        pictures, split = run.workdir / "pictures", config.data.eval_split
        pictures.mkdir(exist_ok=True)
        evaluate.write_details(run.task, counts, pictures, self._writers, step, split)
        scores = run.task.summarize(counts)
        if isinstance(run.task, tasks.Segment) and config.report.panels:
            evaluate.write_panels(
                self._evaluation, params, stats, pictures, self._writers, step, split, samples=config.report.panels
            )
        if final and state.ema:
            params, stats = state.weights(not ema)
            other = run.task.summarize(self._evaluation(params, stats))
            name = "raw" if ema else "ema"
            scores |= {f"{name}_{k}": v for k, v in other.items()}
        return scores
