"""One optimizer step: gradients of the global batch, update, averages, metrics."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from genseg import draws, partition, tasks
from genseg import state as states
from genseg.report.step_metrics import StepMetrics


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

    def step(state: states.TrainState, metrics: StepMetrics, batch: dict[str, jax.Array]):
        key = draws.key_of_step(seed, state.step)
        value, stats, grads = gradients(state.params, state.stats, batch, key)
        with jax.named_scope("optimizer"):
            updates, opt = optimizer.update(grads, state.opt, state.params)
            params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            ema = states.update_ema(ema, params, stats, state.step, decay=ema_decay, warmup=ema_warmup)
        norm = optax.global_norm(grads)
        metrics = metrics.merge(
            StepMetrics.single_from_model_output(
                loss=value,
                grad_norm=norm,
                learning_rate=schedule(state.step),
                finite=jnp.isfinite(value) & jnp.isfinite(norm),
                step=state.step + 1,
            )  # fmt: skip
        )
        return states.TrainState(state.step + 1, params, stats, opt, ema), metrics

    return step
