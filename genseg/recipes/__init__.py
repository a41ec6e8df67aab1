"""Configs: every key once, for each of the two tasks. A file in configs/ names those that a job sets.

To add a key: its line in the section's class, in pretrain.py or segment.py, or in shared.py where both tasks have it, with
`before=` the value that means what was done without it. The keys of a data set are the fields of its class
(`genseg.data.DATASETS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from genseg import keys
from genseg.errors import UserError
from genseg.recipes import pretrain, segment
from genseg.recipes.resolve import definitions, hint, leaves, placed

TASKS = {"pretrain": pretrain.Config, "segment": segment.Config}


def complete(config: ConfigDict) -> ConfigDict:
    """The config, locked, with the keys that came after it was written at what they mean without being named.

    Raises UserError naming the first key that is missing, unknown, of another type or out of range.
    """
    plain = completed(config.to_dict())
    for name in ("task", "data"):
        if name not in plain:
            raise UserError(f"config.{name} is missing; configs/ has whole configs")
    if plain["task"] not in TASKS:
        raise UserError(f"config.task is {plain['task']!r}: give one of {', '.join(TASKS)}")
    if not isinstance(plain["data"], Mapping) or "name" not in plain["data"]:
        raise UserError("config.data.name is missing: name the data set")
    known = definitions(TASKS[plain["task"]], plain["data"]["name"])
    said = leaves(plain, known)
    for name, definition in known.items():
        if name not in said:
            raise UserError(
                f"config.{name} is missing ({definition.comment}); a config has every key: genseg.recipes."
                f"{plain['task']}.config() fills in those that a job does not set"
            )
        keys.refuse_misfit(f"config.{name}", definition, said[name])
    for key in filter(None, map(str.strip, said["checkpoint.allow_changes"].split(","))):
        if not any(f"{name}.".startswith(f"{key}.") for name in known) and key.split(".")[0] != "card":
            raise UserError(f"config.checkpoint.allow_changes names {key!r}, which is no key; {hint(key, known)}")
    return ConfigDict(plain).lock()


def completed(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A config as nested mappings, of a stored workdir for instance, with the keys that were added since it was made, at
    the values that mean what was done then."""
    try:
        known = definitions(TASKS[plain["task"]], plain["data"]["name"])
    except (KeyError, TypeError, UserError):  # it does not say of which task or data set it is
        return dict(plain)
    return placed(plain, {name: definition.before for name, definition in known.items() if definition.added_later})


def whole(plain: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`completed`, of a checkpoint's config. Ranges are not looked at: those of today may be narrower than those of its day.

    Raises UserError naming `where` and the first key that is missing or of another type.
    """
    config = completed(plain)
    if "task" not in config or config["task"] not in TASKS:
        raise UserError(f"{where} says of no task that genseg knows ({' or '.join(TASKS)}); give another one")
    for name, definition in keys.of(TASKS[config["task"]]).items():
        place: Any = config
        for part in name.split("."):
            if not isinstance(place, Mapping) or part not in place:
                raise UserError(f"{where} lacks config.{name}; it is damaged, give another one")
            place = place[part]
        if not definition.has_type(place):
            raise UserError(f"{where} has {place!r} for config.{name}; it is damaged, give another one")
    return config
