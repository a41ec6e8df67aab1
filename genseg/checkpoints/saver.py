"""Saving and restoring one run."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from genseg import processes, texts, tree
from genseg.checkpoints.checksums import checksums_of, leaves
from genseg.checkpoints.clock import use_monotonic_deadlines
from genseg.checkpoints.damage import read_json, saved_tree, sealed, set_damaged_aside
from genseg.checkpoints.layout import FOLDER, absolute, one_line, rank
from genseg.errors import UserError
from genseg.state import TrainState

logger = logging.getLogger(__name__)

FILES = ("config.json", "metrics.jsonl", "result.json")  # of a workdir, kept beside checkpoints that lie elsewhere

ON_ERROR = ("stop", "continue")


@dataclass(frozen=True)
class Restored:
    state: TrainState
    batches: int
    meta: dict[str, Any]


class Checkpoints:
    """Saves and restores one run; saving is asynchronous, and an unfinished save is never taken for a checkpoint."""

    def __init__(self, root: str, *, keep: int, on_error: str = "stop"):
        """Keeps the `keep` latest, and the best among those saved with a score, in ROOT/checkpoints.

        on_error: "stop" (raise UserError) or "continue" (log, and train on) when a checkpoint cannot be saved. Damaged
        checkpoints are set aside in ROOT/damaged. Raises UserError when no checkpoint of several is whole.
        """
        if keep < 1:
            raise UserError(f"config.checkpoint.keep is {keep}; keep at least the latest checkpoint")
        if on_error not in ON_ERROR:
            raise UserError(f"config.checkpoint.on_error is '{on_error}'; it must be one of {', '.join(ON_ERROR)}")
        use_monotonic_deadlines()
        self._root, self._folder = epath.Path(absolute(root)), f"{absolute(root)}/{FOLDER}"
        self._keep, self._on_error = keep, on_error
        try:
            processes.main_only(lambda: set_damaged_aside(root))
        except ImportError as error:  # of the package for an address such as gs://
            raise UserError(f"checkpoints cannot be kept in {root}: {one_line(error)}") from None
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        # best_fn alone would make max_to_keep delete the newest; it is given so that scores are written to disk and
        # a restarted run still knows which checkpoint was best.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(self._keep),
                checkpoint_managers.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=rank, preservation_policy=policy, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        return ocp.CheckpointManager(self._folder, options=options, item_names=("state", "data", "meta"))

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the best checkpoint that was saved with scores."""
        return self._manager.best_step()

    def scored(self, step: int) -> bool:
        """Whether the checkpoint at `step` was saved with a score."""
        return self._manager.metrics(step) is not None

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved as `meta` at `step`."""
        return read_json(self._manager.directory / str(step), "meta")

    def save(self, state: TrainState, *, batches: int, meta: dict[str, Any], score: float | None) -> None:
        """Starts saving at `state.step`; a step that is already there is left alone.

        Raises UserError, with on_error "stop", when this save or the one before it fails.
        """
        self.wait()
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        sums = jax.device_get(checksums_of(dict(leaves(state._asdict()))))
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave(sealed({"batches": batches})),
            meta=ocp.args.JsonSave(sealed(meta | {"checksums": {path: int(s) for path, s in sums.items()}})),
        )
        metrics = None if score is None else {"score": score}
        try:
            self._manager.save(step, args=items, metrics=metrics, force=True)
        except Exception as error:
            self._failed(error)

    def add_score(self, step: int, score: float) -> None:
        """Gives a checkpoint that was saved before its evaluation had ended the score that it lacked."""

        def write():
            folder = self._manager.directory / str(step) / "metrics"
            folder.mkdir(exist_ok=True)
            (folder / "metrics").write_text(texts.as_json({"score": score}), encoding="utf-8")

        self.wait()
        processes.main_only(write)
        self._manager.reload()

    def keep_files(self, workdir: Path) -> None:
        """Copies the FILES of a workdir to where the checkpoints are: a machine that is taken away takes its disk along."""
        try:
            for source in self._files_elsewhere(workdir):
                if source.exists():
                    (self._root / source.name).write_bytes(source.read_bytes())
        except Exception as error:  # storage reports in many types
            logger.error("metrics were not copied to %s: %s", self._root, one_line(error))

    def bring_files(self, workdir: Path) -> None:
        """Copies them back into a workdir that lacks them: metrics then go on where another machine stopped."""
        for target in self._files_elsewhere(workdir):
            if not target.exists() and (self._root / target.name).exists():
                target.write_bytes((self._root / target.name).read_bytes())

    def _files_elsewhere(self, workdir: Path) -> list[Path]:
        same = str(self._root) == absolute(str(workdir))
        return [] if same or jax.process_index() else [workdir / name for name in FILES]

    def restore(self, abstract: TrainState, step: int) -> Restored:
        """The checkpoint at `step`, with the shapes and shardings of `abstract`.

        Raises UserError when its parameters, averages or optimizer state are not of this network and config.
        """
        _check_structure(saved_tree(self._manager.directory / str(step)), abstract, step)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract._asdict()), data=ocp.args.JsonRestore(), meta=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        return Restored(TrainState(**restored["state"]), restored["data"]["batches"], restored["meta"])

    def wait(self) -> None:
        """Blocks until the save under way is complete; raises UserError, with on_error "stop", when it failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            self._failed(error)

    def close(self) -> None:
        """Waits for a save under way; never raises."""
        try:
            self._manager.close()
        except Exception as error:
            logger.error("the last checkpoint was not saved: %s", one_line(error))

    def _failed(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            self._manager.close()
        self._manager = self._open()  # removes what the failed save has left
        kept = ", ".join(str(step) for step in self._manager.all_steps()) or "none"
        text = f"a checkpoint could not be saved in {self._folder} ({one_line(error)}); those kept are of steps: {kept}"
        if self._on_error == "stop":
            raise UserError(
                f"{text}; mend that, for example by freeing space, and start the same command again, or train on "
                "without by --config.checkpoint.on_error=continue"
            ) from error
        logger.error("%s; training goes on", text)


def _check_structure(saved: dict[str, Any], abstract: TrainState, step: int) -> None:
    if bool(saved["ema"]) != bool(abstract.ema) or len(saved["opt"]) != len(abstract.opt):
        raise UserError(
            f"the checkpoint at step {step} of this workdir was written with another config.ema.decay, "
            f"config.optim.clip_norm or config.optim.layer_decay (on instead of off, or off instead of on); give "
            f"another --workdir or the config it was started with"
        )
    have = {p: tuple(leaf.shape) for p, leaf in tree.items({"params": saved["params"], "stats": saved["stats"]})}
    want = {p: tuple(leaf.shape) for p, leaf in tree.items({"params": abstract.params, "stats": abstract.stats})}
    if have != want:
        differing = sorted(p for p in have.keys() | want.keys() if have.get(p) != want.get(p))
        first = differing[0]
        raise UserError(
            f"the checkpoint at step {step} of this workdir is of another network: {len(differing)} parameters differ, "
            f"first '{first}' ({have.get(first, 'absent')} saved, {want.get(first, 'absent')} configured); "
            f"give another --workdir or the config it was started with"
        )
