"""Checkpoints through Orbax: training state, data position, config and card; latest and best kept.

Layout: WORKDIR/checkpoints/STEP/{state, data, meta}. `state` is the TrainState as plain nested dicts of arrays, `data`
{"batches": global batches consumed}, `meta` {"config", "card", "versions"}. Nothing in them depends on the number of
processes or devices.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from genseg import tree
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.state import TrainState

FOLDER = "checkpoints"
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that training depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@dataclass(frozen=True)
class Restored:
    state: TrainState
    batches: int
    meta: dict[str, Any]


class Checkpoints:
    """Saves and restores one run; saving is asynchronous, and an unfinished save is never taken for a checkpoint."""

    def __init__(self, workdir: str, *, keep: int):
        """Keeps the `keep` latest, and the best among those saved with a score."""
        if keep < 1:
            raise UserError(f"config.checkpoint.keep is {keep}; keep at least the latest checkpoint")
        # best_fn alone would make max_to_keep delete the newest; it is given so that scores are written to disk and
        # a restarted run still knows which checkpoint was best.
        policy = checkpoint_managers.AnyPreservationPolicy([
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False),
        ])
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank, preservation_policy=policy, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(
            f"{_absolute(workdir)}/{FOLDER}", options=options, item_names=("state", "data", "meta")
        )

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the best checkpoint that was saved with scores."""
        return self._manager.best_step()

    def save(self, state: TrainState, *, batches: int, meta: dict[str, Any], score: float | None) -> None:
        """Starts saving at `state.step`; a step that is already there is left alone."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave({"batches": batches}),
            meta=ocp.args.JsonSave(meta),
        )
        self._manager.save(step, args=items, metrics=None if score is None else {"score": score}, force=True)

    def restore(self, abstract: TrainState, step: int) -> Restored:
        """The checkpoint at `step`, with the shapes and shardings of `abstract`.

        Raises UserError when its parameters, averages or optimizer state are not of this network and config.
        """
        _check_structure(_saved_tree(self._manager.directory / str(step)), abstract, step)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract._asdict()), data=ocp.args.JsonRestore(), meta=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        return Restored(TrainState(**restored["state"]), restored["data"]["batches"], restored["meta"])

    def wait(self) -> None:
        """Blocks until the save under way is complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


@dataclass(frozen=True)
class Weights:
    """Parameters and statistics read from a checkpoint: NumPy arrays in nested dicts; config as plain dicts."""

    params: tree.Tree
    stats: tree.Tree
    config: dict[str, Any]
    card: DatasetCard
    path: str


def load_weights(path: str, *, ema: bool, best: bool = False, only: str = "") -> Weights:
    """Weights of a checkpoint, without optimizer state.

    path: a workdir (its latest, or with `best` its best checkpoint), its checkpoints folder, or one step's folder.
    ema: the averaged weights instead of the raw ones. only: read just parameters below this path, e.g. "backbone/"
    (other bytes are not touched). Raises UserError when there is no checkpoint or no EMA in it.
    """
    step_dir = _step_directory(path, best)
    saved = _saved_tree(step_dir)
    branch = saved["ema"] if ema else saved
    if not branch:
        raise UserError(f"checkpoint {step_dir} holds no averaged weights; set ema to False or train with config.ema")
    chosen = dict(tree.items({"params": branch["params"], "stats": branch["stats"]}))
    chosen = {p: leaf for p, leaf in chosen.items() if p.startswith(f"params/{only}") or (not only)}
    if not chosen:
        raise UserError(f"checkpoint {step_dir} holds no parameters below '{only}'")
    prefix = "ema/" if ema else ""
    wanted = tree.from_items({
        prefix + p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for p, leaf in chosen.items()
    })
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays = checkpointer.restore(
            str(step_dir / "state"),
            args=ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args, partial_restore=True),
        )
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        meta = checkpointer.restore(str(step_dir / "meta"), args=ocp.args.JsonRestore())
    arrays = arrays["ema"] if ema else arrays
    return Weights(
        arrays["params"], arrays.get("stats", {}), meta["config"], DatasetCard.from_json(meta["card"]), str(step_dir)
    )


def _rank(metrics: dict[str, float]) -> float:
    return metrics["score"] if math.isfinite(metrics["score"]) else -math.inf


def _absolute(path: str) -> str:
    """Orbax wants absolute paths; addresses such as gs://bucket/x pass unchanged."""
    return path.rstrip("/") if "://" in path else str(Path(path).absolute())


def _step_directory(path: str, best: bool):
    root = epath.Path(_absolute(path))
    if (root / "state").exists() and (root / "meta").exists():
        return root
    folder = root / FOLDER if (root / FOLDER).exists() else root
    if not folder.exists():
        raise UserError(f"no checkpoint at {path}: the folder does not exist; give a workdir or a step's folder")
    with ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(read_only=True, best_fn=_rank),
        item_names=("state", "data", "meta"),
    ) as manager:
        step = manager.best_step() if best else manager.latest_step()
    if step is None:
        kind = "scored" if best else "complete"
        raise UserError(f"no {kind} checkpoint in {folder}; give a workdir whose training has saved one")
    return folder / str(step)


def _saved_tree(step_dir) -> dict[str, Any]:
    """Shapes and dtypes of a saved state as nested dicts; empty branches are {}."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(str(step_dir / "state"))
    return dict(metadata.item_metadata.tree)


def _check_structure(saved: dict[str, Any], abstract: TrainState, step: int) -> None:
    if bool(saved["ema"]) != bool(abstract.ema) or len(saved["opt"]) != len(abstract.opt):
        raise UserError(
            f"the checkpoint at step {step} of this workdir was written with another config.ema.decay, "
            f"config.optim.clip_norm or config.optim.layer_decay (on instead of off, or off instead of on); give "
            f"another --workdir or the config it was started with"
        )
    have = {
        p: tuple(leaf.shape) for p, leaf in tree.items({"params": saved["params"], "stats": saved["stats"]})
    }
    want = {
        p: tuple(leaf.shape)
        for p, leaf in tree.items({"params": abstract.params, "stats": abstract.stats})
    }
    if have != want:
        differing = sorted(p for p in have.keys() | want.keys() if have.get(p) != want.get(p))
        first = differing[0]
        raise UserError(
            f"the checkpoint at step {step} of this workdir is of another network: {len(differing)} parameters differ, "
            f"first '{first}' ({have.get(first, 'absent')} saved, {want.get(first, 'absent')} configured); "
            f"give another --workdir or the config it was started with"
        )
