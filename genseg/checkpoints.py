"""Checkpoints through Orbax: training state, data position, config and card; latest and best kept.

Layout: WORKDIR/checkpoints/STEP/{state, data, meta}. `state` is the TrainState as plain nested dicts of arrays, `data`
{"batches": global batches consumed}, `meta` {"config", "card", "versions", "revision", "checksums"}. Nothing in them
depends on the number of processes or devices. Checksums are those of the arrays themselves, so that they hold from the
device that saved to the device that restores, through every file format and file system between. A checkpoint that does
not fit its checksums is set aside in WORKDIR/damaged/.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.metadata
import json
import logging
import math
import os
import socket
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from genseg import processes, recipes, tree
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.state import TrainState

logger = logging.getLogger(__name__)

FOLDER, ASIDE = "checkpoints", "damaged"
FILES = ("config.json", "metrics.jsonl", "result.json")  # of a workdir, kept beside checkpoints that lie elsewhere
ON_ERROR = ("stop", "continue")
# What errors of storage that is out of reach say; only other errors make a checkpoint a damaged one.
UNREACHABLE = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that training depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def revision() -> str:
    """The git commit of the running source, with "-dirty" after local changes; "" where it is in no repository."""
    here = Path(__file__)

    def git(*arguments):
        return subprocess.run(["git", "-C", here.parent, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", here.name)  # a repository around an installed copy is not ours
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@contextlib.contextmanager
def sole_use(workdir: str) -> Iterator[None]:
    """Keeps other runs out of a workdir; the lock ends with the process, however that ends.

    Raises UserError when another run has the workdir. File systems without locks are used without.
    """
    held = []

    def lock() -> None:
        file = (Path(workdir) / ".lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"workdir {workdir} is in use by {file.read().strip() or 'another run'}; wait until that has ended, or "
                "give another --workdir"
            ) from None
        except OSError as error:
            logger.warning(
                "the file system of %s has no locks (%s): see to it that no second run uses it", workdir, error
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        held.append(file)

    processes.main_only(lock)
    try:
        yield
    finally:
        for file in held:
            file.close()


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
        self._root, self._folder = epath.Path(_absolute(root)), f"{_absolute(root)}/{FOLDER}"
        self._keep, self._on_error = keep, on_error
        try:
            processes.main_only(lambda: set_damaged_aside(root))
        except ImportError as error:  # of the package for an address such as gs://
            raise UserError(f"checkpoints cannot be kept in {root}: {_one_line(error)}") from None
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        # best_fn alone would make max_to_keep delete the newest; it is given so that scores are written to disk and
        # a restarted run still knows which checkpoint was best.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(self._keep),
                checkpoint_managers.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank, preservation_policy=policy, cleanup_tmp_directories=True, enable_async_checkpointing=True
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
        return _read_json(self._manager.directory / str(step), "meta")

    def save(self, state: TrainState, *, batches: int, meta: dict[str, Any], score: float | None) -> None:
        """Starts saving at `state.step`; a step that is already there is left alone.

        Raises UserError, with on_error "stop", when this save or the one before it fails.
        """
        self.wait()
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        sums = jax.device_get(_checksums(dict(_leaves(state._asdict()))))
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave(_sealed({"batches": batches})),
            meta=ocp.args.JsonSave(_sealed(meta | {"checksums": {path: int(s) for path, s in sums.items()}})),
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
            (folder / "metrics").write_text(json.dumps({"score": score}))

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
            logger.error("metrics were not copied to %s: %s", self._root, _one_line(error))

    def bring_files(self, workdir: Path) -> None:
        """Copies them back into a workdir that lacks them: metrics then go on where another machine stopped."""
        for target in self._files_elsewhere(workdir):
            if not target.exists() and (self._root / target.name).exists():
                target.write_bytes((self._root / target.name).read_bytes())

    def _files_elsewhere(self, workdir: Path) -> list[Path]:
        same = str(self._root) == _absolute(str(workdir))
        return [] if same or jax.process_index() else [workdir / name for name in FILES]

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
            logger.error("the last checkpoint was not saved: %s", _one_line(error))

    def _failed(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            self._manager.close()
        self._manager = self._open()  # removes what the failed save has left
        kept = ", ".join(str(step) for step in self._manager.all_steps()) or "none"
        text = (
            f"a checkpoint could not be saved in {self._folder} ({_one_line(error)}); those kept are of steps: {kept}"
        )
        if self._on_error == "stop":
            raise UserError(
                f"{text}; mend that, for example by freeing space, and start the same command again, or train on "
                "without by --config.checkpoint.on_error=continue"
            ) from error
        logger.error("%s; training goes on", text)


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
    (other bytes are not touched). Raises UserError when there is no checkpoint, no EMA in it, or it is damaged.
    """
    step_dir = _step_directory(path, best)
    try:
        with _damage_named(step_dir):
            saved = _saved_tree(step_dir)
            branch = saved["ema"] if ema else saved
            if not branch:
                raise UserError(
                    f"checkpoint {step_dir} holds no averaged weights; set ema to False or train with config.ema"
                )
            chosen = dict(tree.items({"params": branch["params"], "stats": branch["stats"]}))
            chosen = {p: leaf for p, leaf in chosen.items() if p.startswith(f"params/{only}") or (not only)}
            if not chosen:
                raise UserError(f"checkpoint {step_dir} holds no parameters below '{only}'")
            prefix = "ema/" if ema else ""
            wanted = tree.from_items(
                {prefix + p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for p, leaf in chosen.items()}
            )
            restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                arrays = checkpointer.restore(
                    str(step_dir / "state"),
                    args=ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args, partial_restore=True),
                )
            meta = _read_json(step_dir, "meta")
            _compare(meta, _leaves(arrays))
    except _Damaged as error:
        raise UserError(f"checkpoint {step_dir} is damaged: {error}; give another step's folder") from None
    arrays = arrays["ema"] if ema else arrays
    return Weights(
        arrays["params"],
        arrays.get("stats", {}),
        recipes.completed(meta["config"]),
        DatasetCard.from_json(meta["card"]),
        str(step_dir),
    )


class _Damaged(Exception):
    """What is wrong with a checkpoint, in words that end a sentence."""


@contextlib.contextmanager
def _damage_named(step_dir: epath.Path) -> Iterator[None]:
    """Turns what reading a checkpoint raises into _Damaged, or into UserError where storage is out of reach."""
    try:
        yield
    except (UserError, _Damaged):
        raise
    except PermissionError as error:
        raise UserError(
            f"checkpoint {step_dir} cannot be read: {_one_line(error)}; mend that and start again"
        ) from None
    except Exception as error:  # whatever a parser says of bytes that are not what it expects
        if any(word in str(error) for word in UNREACHABLE):
            raise UserError(
                f"checkpoint {step_dir} is out of reach: {_one_line(error)}; mend that and start again"
            ) from None
        raise _Damaged(_one_line(error)) from None


@jax.jit
def checksum(leaf: jax.Array) -> jax.Array:
    """uint32 []: sum of the bit patterns of the elements, each times an odd number that depends on its place.

    Modulo 2^32 an odd factor is invertible, so that no change of a single element goes unseen; of other changes one in
    2^32 does. Integers: the same on any number of devices. Elements of 1, 2 or 4 bytes.
    """
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")).astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for dim in reversed(range(leaf.ndim)):  # no reshape: it would gather a sharded leaf
        place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, dim) * jnp.uint32(stride % 2**32)
        stride *= leaf.shape[dim]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


@jax.jit
def _checksums(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Of all leaves in one program: many small ones that each wait for other devices lock each other on a CPU mesh."""
    return {path: checksum(leaf) for path, leaf in leaves.items()}


def checksum_on_host(leaf: np.ndarray) -> int:
    """`checksum` in NumPy."""
    bits = np.ascontiguousarray(leaf).reshape(-1).view(f"uint{8 * leaf.dtype.itemsize}").astype(np.uint32)
    return int(np.sum(bits * (2 * np.arange(bits.size, dtype=np.uint32) + 1), dtype=np.uint32))


def _leaves(values: Any) -> Iterator[tuple[str, Any]]:
    """("params/head/kernel", leaf), ("opt/0/count", leaf), ...: the same names for a state and for its plain form."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        yield "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path), leaf


def _sealed(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"crc32": zlib.crc32(json.dumps(values, sort_keys=True).encode())}


def _read_json(step_dir: epath.Path, item: str) -> dict[str, Any]:
    try:
        values = json.loads((step_dir / item / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise _Damaged(f"its '{item}' cannot be read ({_one_line(error)})") from None
    if "crc32" in values:  # not in checkpoints of genseg before 0.2
        seal = values.pop("crc32")
        if _sealed(values)["crc32"] != seal:
            raise _Damaged(f"its '{item}' differs from its checksum")
    return values


def _compare(meta: dict[str, Any], leaves: Iterator[tuple[str, np.ndarray]]) -> int:
    """How many leaves were compared with the checksums in `meta`; raises _Damaged naming the first that differs."""
    if "checksums" not in meta:
        logger.warning("a checkpoint of an earlier genseg, saved without checksums, is read without that check")
        return 0
    count = 0
    for count, (path, leaf) in enumerate(leaves, 1):  # noqa: B007
        if meta["checksums"].get(path) != checksum_on_host(leaf):
            raise _Damaged(f"'{path}' differs from its checksum")
    return count


def set_damaged_aside(root: str) -> None:
    """Moves checkpoints that cannot be read, or differ from their checksums, from ROOT/checkpoints to ROOT/damaged.

    The newest that remains has been read as a whole, of older ones only the small files. Raises UserError when there
    were checkpoints and none remains, or storage is out of reach.
    """
    folder, aside = epath.Path(_absolute(root)) / FOLDER, epath.Path(_absolute(root)) / ASIDE
    steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdigit()), reverse=True) if folder.exists() else []
    whole = False
    for step in steps:
        problem = _problem(folder / str(step), whole=not whole)
        if problem is None:
            whole = True
            continue
        aside.mkdir(exist_ok=True)
        number = next(n for n in range(2**31) if not (aside / f"{step}-{n}").exists())
        (folder / str(step)).rename(aside / f"{step}-{number}")
        message = (
            "the older checkpoint at step %d is damaged, or its deletion was interrupted: %s; it was set aside as %s"
            if whole
            else "the checkpoint at step %d is damaged: %s; it was set aside as %s, and an older one is used"
        )
        logger.warning(message, step, problem, aside / f"{step}-{number}")
    if not whole and aside.exists():
        raise UserError(
            f"all checkpoints of this workdir are damaged and were set aside in {aside}; move that folder away to train "
            "from the start, or give another --workdir"
        )


def _problem(step_dir: epath.Path, *, whole: bool) -> str | None:
    """What is wrong with a checkpoint. whole: read all arrays too."""
    try:
        with _damage_named(step_dir):
            _check(step_dir, whole=whole)
    except _Damaged as error:
        return str(error)
    return None


def _check(step_dir: epath.Path, *, whole: bool) -> None:
    """Raises whatever it meets in reading a checkpoint, _Damaged where that reads well but is not what was saved."""
    meta, data = _read_json(step_dir, "meta"), _read_json(step_dir, "data")
    if not {"config", "card", "versions"} <= meta.keys() or not isinstance(data.get("batches"), int):
        raise _Damaged("its 'meta' or 'data' lacks entries")
    scores = step_dir / "metrics" / "metrics"
    if scores.exists() and not isinstance(json.loads(scores.read_text())["score"], float | int):
        raise _Damaged("its score is no number")
    json.loads((step_dir / "state" / "_sharding").read_text())
    if not whole:
        return
    only_this = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="check"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=only_this)
    with ocp.Checkpointer(handler, multiprocessing_options=only_this) as checkpointer:
        index = checkpointer.metadata(step_dir / "state").item_metadata
        if index is None:
            raise _Damaged("its list of arrays cannot be read")
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), index.tree)
        arrays = checkpointer.restore(step_dir / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        # Once onto a device, too: that reads files which are not needed for NumPy arrays.
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        one = {"step": jax.ShapeDtypeStruct((), jnp.int32, sharding=device)}
        on_device = ocp.checkpoint_utils.construct_restore_args(one)
        checkpointer.restore(
            step_dir / "state",
            args=ocp.args.PyTreeRestore(item=one, restore_args=on_device, partial_restore=True),
        )
    if _compare(meta, _leaves(arrays)) < len(meta.get("checksums", ())):
        raise _Damaged("it lacks arrays")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."


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
        index = checkpointer.metadata(str(step_dir / "state")).item_metadata
    if index is None:
        raise _Damaged("its list of arrays cannot be read")
    return dict(index.tree)


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
