"""TrainState: all that training carries from step to step. No keys are stored: the key of a step is fold_in(seed, step)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genseg.nets.functional import Net


class TrainState(NamedTuple):
    """step: int32 []; params, stats: nested dicts; opt: optax state; ema: {"params", "stats"}, or {} without EMA."""

    step: jax.Array
    params: Any
    stats: Any
    opt: Any
    ema: Any

    def weights(self, ema: bool) -> tuple[Any, Any]:
        """(params, stats) to evaluate with: the averaged ones or the raw ones."""
        return (self.ema["params"], self.ema["stats"]) if ema else (self.params, self.stats)


def create(params: Any, stats: Any, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """The state before the first step. Runs under jit and eval_shape."""
    averages = {"params": params, "stats": stats} if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), averages)


def init(net: Net, key: jax.Array, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """A freshly initialised state. Runs under jit and eval_shape."""
    params, stats = net.init(key)
    return create(params, stats, optimizer, ema=ema)


@jax.named_scope("ema")
def update_ema(ema: Any, params: Any, stats: Any, step: jax.Array, *, decay: float | jax.Array, warmup: bool) -> Any:
    """ema <- d ema + (1 - d) current, for parameters and BatchNorm statistics alike.

    d = decay, or with `warmup` min(decay, (1 + step) / (10 + step)): a function of the step alone, so that nothing is
    lost at a restart.
    """
    if warmup:
        decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda e, x: e + (1 - decay) * (x - e), ema, {"params": params, "stats": stats})
