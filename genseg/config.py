"""From a locked ml_collections section to the plain dataclass that one part of the code takes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar

from ml_collections import ConfigDict

from genseg.errors import UserError

Settings = TypeVar("Settings")


def section(cls: type[Settings], config: ConfigDict, name: str) -> Settings:
    """`cls(**config)`, where config holds exactly the fields of the dataclass `cls`.

    Raises UserError naming the fields that are missing or unknown; nothing is filled in silently.
    """
    wanted, given = {f.name for f in dataclasses.fields(cls)}, set(config)
    if missing := sorted(wanted - given):
        raise UserError(f"config.{name} lacks {', '.join(missing)}; a config is complete: add them (see configs/)")
    if unknown := sorted(given - wanted):
        raise UserError(f"config.{name} has unknown keys {', '.join(unknown)}; known are {', '.join(sorted(wanted))}")
    return cls(**{key: config[key] for key in given})


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Plain nested dicts and lists, as they come back from a JSON file."""
    return json.loads(json.dumps(config.to_dict(), default=list))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Readable lines "key: old -> new" for every leaf in which two plain configs differ."""
    lines = []
    for key in sorted(set(old) | set(new)):
        path = f"{prefix}{key}"
        a, b = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{path}.")
        elif a != b:
            lines.append(f"{path}: {a} -> {b}")
    return lines
