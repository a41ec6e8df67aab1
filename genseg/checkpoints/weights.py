"""Weights of a checkpoint, read without its optimizer state."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from genseg import recipes, texts, tree
from genseg.checkpoints.checksums import checksum_on_host, leaves
from genseg.checkpoints.damage import Damaged, compare, damage_named, read_meta, refuse_specials, saved_tree
from genseg.checkpoints.layout import step_directory
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.recipes import imported


@dataclass(frozen=True)
class Weights:
    """Parameters and statistics read from a checkpoint: NumPy arrays in nested dicts; config as plain dicts. ema: they are
    the averaged ones."""

    params: tree.Tree
    stats: tree.Tree
    config: dict[str, Any]
    card: DatasetCard
    path: str
    ema: bool

    @functools.cached_property
    def digest(self) -> str:
        """Of all parameters and statistics: two sets of weights, such as the raw and the averaged ones, differ in it."""
        sums = {name: checksum_on_host(leaf) for name, leaf in leaves({"params": self.params, "stats": self.stats})}
        return hashlib.blake2b(texts.as_json(sums, sort_keys=True).encode(), digest_size=16).hexdigest()


def load_card(path: str, *, best: bool = False) -> DatasetCard:
    """The card that a checkpoint's network was trained with; no array is read. path, best, errors: as of `load_weights`."""
    step_dir = step_directory(path, best)
    try:
        with damage_named(step_dir):
            return DatasetCard.from_json(read_meta(step_dir)["card"])
    except Damaged as error:
        raise UserError(f"checkpoint {step_dir} is damaged: {error}; give another step's folder") from None


def load_weights(path: str, *, ema: bool, best: bool = False, only: str = "") -> Weights:
    """Weights of a checkpoint, without optimizer state.

    path: a workdir (its latest, or with `best` its best checkpoint), its checkpoints folder, or one step's folder.
    ema: the averaged weights instead of the raw ones. only: read just parameters below this path, e.g. "backbone/"
    (other bytes are not touched). Raises UserError when there is no checkpoint, no EMA in it, or it is damaged.
    """
    step_dir = step_directory(path, best)
    try:
        with damage_named(step_dir):
            meta = read_meta(step_dir)  # first: it is small, and says most clearly that something is wrong
            refuse_specials(step_dir)
            saved = saved_tree(step_dir)
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
            compare(meta, leaves(arrays))
    except Damaged as error:
        raise UserError(f"checkpoint {step_dir} is damaged: {error}; give another step's folder") from None
    arrays = arrays["ema"] if ema else arrays
    widths = (_width(arrays["params"], "head", "bottleneck"), _width(arrays["params"], "aux_head", "conv"))
    config = recipes.whole(imported.readable(meta["config"], *widths), f"checkpoint {step_dir}")
    card = DatasetCard.from_json(meta["card"])
    return Weights(arrays["params"], arrays.get("stats", {}), config, card, str(step_dir), ema)


def _width(params: tree.Tree, head: str, layer: str) -> int:
    """Of a head's layer; 1 where there is no such head."""
    try:
        return params[head][layer]["norm"]["scale"].shape[0]
    except (KeyError, TypeError):
        return 1
