"""What training starts from: the workdir's own checkpoint, else other weights, else scratch."""

from __future__ import annotations

import json
import logging
from typing import Any

import jax
from ml_collections import ConfigDict

from genseg import checkpoints, recipes, transfer
from genseg import state as states
from genseg.config import differences, to_json
from genseg.design import Setup
from genseg.errors import UserError

logger = logging.getLogger(__name__)


def initial_state(run: Setup) -> states.TrainState:
    """The state before step 1: from scratch, or with the backbone of `config.init.checkpoint`."""
    key, stem_key = jax.random.split(jax.random.key(run.config.seed))
    init, weights = run.config.init, None
    if init.checkpoint:  # before anything is compiled: it may not be there
        if init.head and run.config.task != "pretrain":
            raise UserError("config.init.head takes a classifier's head and this task is segmentation; set it to False")
        only = "" if init.head else "backbone/"
        weights = checkpoints.load_weights(init.checkpoint, ema=init.ema, best=init.best, only=only)
    elif init.head:
        raise UserError("config.init.head takes a classifier and config.init.checkpoint names none; name a checkpoint")
    params, stats = jax.jit(run.task.net.init, out_shardings=(run.sharding.params, run.sharding.stats))(key)
    if weights is not None:
        params, summary = transfer.adopt_backbone(
            params, weights.params, rule=init.stem, key=stem_key, origin=weights.path, head=init.head
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
FREE = ("report", "profile", "checkpoint", "eval", "mesh", "model.remat", "model.attention", "model.fusion", "data.source", "data.data_dir", "data.threads", "data.workers",
        "data.skip_corrupt")  # fmt: skip


FILES = "card.files"  # in config.checkpoint.allow_changes: what the data's files hold


def check_same_run(run: Setup, meta: dict[str, Any]) -> None:
    """Raises UserError naming the keys in which config or data differ from those that the workdir was trained with, and data sets
    whose files were edited.

    Keys in FREE, and those named in config.checkpoint.allow_changes, may differ; they are logged.
    """

    def card(text):
        return {"card": {key: value for key, value in json.loads(text).items() if key != "notes"}}

    lines = differences(to_json(ConfigDict(recipes.completed(meta["config"]))), to_json(run.config))
    lines += differences(card(meta["card"]), card(run.data.card.to_json()))
    before, now = meta.get("contents", {}), run.data.contents  # labels are in no card
    if edited := [name for name in before if name in now and before[name] != now[name]]:
        lines.append(f"{FILES}: those of {', '.join(edited)} hold something else than those trained on")
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
    if step > run.plan.steps:
        raise UserError(
            f"this workdir's checkpoint is of step {step}, and the config ends at step {run.plan.steps}; give a "
            "config.train.steps that is not below it, or another --workdir"
        )
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), run.abstract, run.sharding)
    restored = saved.restore(abstract, step)
    logger.info("start: resumed from this workdir's checkpoint at step %d", step)
    return restored.state, restored.batches
