"""Reading a checkpoint with suspicion: what is damaged is named, and set aside."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from genseg import texts
from genseg.checkpoints.checksums import checksum_on_host, leaves
from genseg.checkpoints.layout import ASIDE, FOLDER, absolute, one_line, steps_in
from genseg.errors import UserError

logger = logging.getLogger(__name__)

# What errors of storage that is out of reach say; only other errors make a checkpoint a damaged one.
UNREACHABLE = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


class Damaged(Exception):
    """What is wrong with a checkpoint, in words that end a sentence."""


@contextlib.contextmanager
def damage_named(step_dir: epath.Path) -> Iterator[None]:
    """Turns what reading a checkpoint raises into Damaged, or into UserError where storage is out of reach."""
    try:
        yield
    except (UserError, Damaged):
        raise
    except PermissionError as error:
        raise UserError(f"checkpoint {step_dir} cannot be read: {one_line(error)}; mend that and start again") from None
    except Exception as error:  # whatever a parser says of bytes that are not what it expects
        if any(word in str(error) for word in UNREACHABLE):
            raise UserError(
                f"checkpoint {step_dir} is out of reach: {one_line(error)}; mend that and start again"
            ) from None
        raise Damaged(one_line(error)) from None


def refuse_specials(step_dir: epath.Path) -> None:
    """Raises Damaged if a pipe, a socket, a device or a link to nothing lies in a checkpoint: Orbax would wait for it."""
    if "://" in str(step_dir):
        return
    for path in sorted(Path(step_dir).rglob("*")):
        if not (path.is_file() or path.is_dir()):
            raise Damaged(f"'{path.relative_to(step_dir)}' in it is no file")


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with a checksum of their JSON beside them."""
    return values | {"crc32": zlib.crc32(texts.as_json(values, sort_keys=True).encode())}


def read_json(step_dir: epath.Path, item: str) -> dict[str, Any]:
    """What was saved as `item` ("meta", "data"), without its checksum; raises Damaged when that differs."""
    path = step_dir / item / "metadata"
    try:
        if not path.is_file():
            raise Damaged(f"its '{item}' is missing")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"its '{item}' cannot be read ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise Damaged(f"its '{item}' is no mapping")
    if "crc32" in values:  # not in checkpoints of genseg before 0.2
        seal = values.pop("crc32")
        if sealed(values)["crc32"] != seal:
            raise Damaged(f"its '{item}' differs from its checksum")
    return values


def read_meta(step_dir: epath.Path) -> dict[str, Any]:
    """`read_json` of "meta"; raises Damaged for one that lacks what every genseg has saved."""
    meta = read_json(step_dir, "meta")
    for name, kind in (("config", dict), ("card", str), ("versions", dict)):
        if not isinstance(meta.get(name), kind):
            raise Damaged(f"its 'meta' lacks {name}")
    if not isinstance(meta.get("checksums", {}), dict):
        raise Damaged("its checksums are none")
    return meta


def saved_tree(step_dir: epath.Path) -> dict[str, Any]:
    """Shapes and dtypes of a saved state as nested dicts; empty branches are {}."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        index = checkpointer.metadata(str(step_dir / "state")).item_metadata
    if index is None:
        raise Damaged("its list of arrays cannot be read")
    return dict(index.tree)


def compare(meta: dict[str, Any], leaves: Iterator[tuple[str, np.ndarray]]) -> int:
    """How many leaves were compared with the checksums in `meta`; raises Damaged naming the first that differs."""
    if "checksums" not in meta:
        logger.warning("a checkpoint of an earlier genseg, saved without checksums, is read without that check")
        return 0
    count = 0
    for count, (path, leaf) in enumerate(leaves, 1):  # noqa: B007
        if meta["checksums"].get(path) != checksum_on_host(leaf):
            raise Damaged(f"'{path}' differs from its checksum")
    return count


def set_damaged_aside(root: str) -> None:
    """Moves checkpoints that cannot be read, or differ from their checksums, from ROOT/checkpoints to ROOT/damaged.

    The newest that remains has been read as a whole, of older ones only the small files. Raises UserError when there
    were checkpoints and none remains, or storage is out of reach.
    """
    folder, aside = epath.Path(absolute(root)) / FOLDER, epath.Path(absolute(root)) / ASIDE
    steps = sorted(steps_in(folder), reverse=True)
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
        with damage_named(step_dir):
            _check(step_dir, whole=whole)
    except Damaged as error:
        return str(error)
    return None


def _check(step_dir: epath.Path, *, whole: bool) -> None:
    """Raises whatever it meets in reading a checkpoint, Damaged where that reads well but is not what was saved."""
    refuse_specials(step_dir)
    meta, data = read_meta(step_dir), read_json(step_dir, "data")
    if not isinstance(data.get("batches"), int):
        raise Damaged("its 'data' lacks the number of batches")
    scores = step_dir / "metrics" / "metrics"
    if scores.exists() and not isinstance(json.loads(scores.read_text(encoding="utf-8"))["score"], float | int):
        raise Damaged("its score is no number")
    json.loads((step_dir / "state" / "_sharding").read_text(encoding="utf-8"))
    if not whole:
        return
    only_this = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="check"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=only_this)
    with ocp.Checkpointer(handler, multiprocessing_options=only_this) as checkpointer:
        index = checkpointer.metadata(step_dir / "state").item_metadata
        if index is None:
            raise Damaged("its list of arrays cannot be read")
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
    if compare(meta, leaves(arrays)) < len(meta.get("checksums", ())):
        raise Damaged("it lacks arrays")
