"""Backbone weights from one network into another, every parameter accounted for."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from genseg import tree
from genseg.errors import UserError
from genseg.nets.stem import inflate_stem

STEM_KERNEL = "backbone/stem/conv/kernel"


@dataclass(frozen=True)
class TransferReport:
    """Paths of parameters: taken as they are; stem kernels changed by a rule; left at their initial values; not used."""

    matched: tuple[str, ...]
    inflated: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        def groups(paths):
            tops = sorted({p.split("/")[0] for p in paths})
            return f"{len(paths)}" + (f" ({', '.join(tops)})" if paths else "")

        inflated = f"{len(self.inflated)}" + (
            f" ({', '.join(self.inflated)}, rule '{self.rule}')" if self.inflated else ""
        )
        return (
            f"matched {groups(self.matched)}, inflated {inflated}, missing {groups(self.missing)}, "
            f"unused {groups(self.unused)}"
        )


def adopt_backbone(
    target: tree.Tree, source: tree.Tree, *, rule: str, key: jax.Array, origin: str, head: bool = False
) -> tuple[tree.Tree, TransferReport]:
    """Parameters like `target` whose backbone is `source`'s; heads and output norms stay `target`'s own.

    The stem's input channels may differ: `rule` (one of nets/stem.py `RULES`) makes the kernel fit; `mean` averages those of as
    many channels too. head: `source`'s classifier is taken too. Raises UserError, naming `origin`, unless every parameter
    that is to be taken is found with the right shape.
    """
    wanted = dict(tree.items(target))
    given = dict(tree.items(source))
    parts = ("backbone/", "head/") if head else ("backbone/",)
    needed = [path for path in wanted if path.startswith(parts)]
    absent = [path for path in needed if path not in given]
    surplus = [path for path in given if path.startswith(parts) and path not in wanted]
    if absent or surplus:
        example = (absent or surplus)[0]
        raise UserError(
            f"the backbone in {origin} does not fit: {len(absent)} parameters missing and {len(surplus)} unknown, "
            f"first '{example}'; set config.model.backbone to the one it was trained with"
        )
    result, matched, inflated = dict(wanted), [], []
    for path in needed:
        have, want = given[path].shape, wanted[path].shape
        stem = path == STEM_KERNEL and have[:2] == want[:2] and have[3:] == want[3:]
        if have == want and not (stem and rule == "mean"):  # which averages as many bands too
            result[path] = jnp.asarray(given[path], wanted[path].dtype)
            matched.append(path)
        elif stem:
            if rule == "exact":
                raise UserError(
                    f"the checkpoint {origin} has a stem of {have[2]} input channels and this network needs {want[2]}; "
                    f"pre-train with config.csp.channels={want[2]}, or name a rule in config.init.stem: repeat, mean, "
                    f"zero, random or, where it was trained for several channel counts, universal"
                )
            result[path] = inflate_stem(jnp.asarray(given[path]), want[2], rule, key)
            inflated.append(path)
        elif path.startswith("head/"):
            raise UserError(
                f"'{path}' in {origin} has shape {tuple(have)} and this task needs {tuple(want)}; set config.init.head to "
                f"False, so that the classifier starts anew"
            )
        else:
            raise UserError(
                f"parameter '{path}' in {origin} has shape {tuple(have)}, this network needs {tuple(want)}; set "
                f"config.model.backbone to the one it was trained with"
            )
    missing = tuple(path for path in wanted if path not in needed)
    unused = tuple(path for path in given if path not in needed)
    return tree.from_items(result), TransferReport(tuple(matched), tuple(inflated), missing, unused, rule)
