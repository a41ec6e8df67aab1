"""From what a job sets to its whole config."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from genseg import keys
from genseg.data import DATASETS
from genseg.errors import UserError

# Old name -> new name, of keys that have moved.
MOVED: dict[str, str] = {}


def definitions(config: type, data: Any) -> dict[str, keys.Key]:
    """ "section.key" -> its definition, of all keys of a task's config class with this `data.name`.

    Raises UserError if there is no such data set.
    """
    if not isinstance(data, str) or data not in DATASETS:
        raise UserError(f"There is no data set {data!r}: config.data.name is one of {', '.join(sorted(DATASETS))}.")
    own = {f"data.{name}": definition for name, definition in keys.of(DATASETS[data]).items()}
    return keys.of(config) | own


def resolve(config: type, *parts: Mapping[str, Any]) -> ConfigDict:
    """The whole config of a job: {section: {key: value}}, later parts above earlier ones, and the defaults of all else.

    Raises UserError naming a key that is unknown, has no value, or one of another type or out of range.
    """
    given: dict[str, Any] = {}
    for part in parts:
        given = merged(given, part)
    if "name" not in given.get("data", {}):
        raise UserError("config.data.name is not set: name the data set")
    known = definitions(config, given["data"]["name"])
    said = leaves(given, known)
    values = {}
    for name, definition in known.items():
        value = keys.coerced(said.get(name, definition.default), definition.hint)
        if value is ...:
            raise UserError(f"config.{name} is not set: give {definition.wanted}")
        keys.refuse_misfit(f"config.{name}", definition, value)
        # A text or a tuple: ml_collections would hold the key to the type that it has now, and read a tuple on a command
        # line as a text.
        either = isinstance(definition.hint, types.UnionType)
        values[name] = FieldReference(value, field_type=object) if either else value
    return ConfigDict(placed({}, values))


def placed(below: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sections `below`, and {"section.key": value} put where they have nothing yet."""
    whole = merged({}, below)
    for name, value in values.items():
        *sections, last = name.split(".")
        place = whole
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):  # else the section is no section, which `leaves` refuses
            place.setdefault(last, value)
    return whole


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; where both have a key, the value of `above`."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = merged(under if isinstance(under, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return both


def leaves(part: Mapping[str, Any], known: Mapping[str, keys.Key], prefix: str = "") -> dict[str, Any]:
    """Nested sections -> {"section.key": value}; a mapping may itself be a value, such as of config.data.split_lists.

    Raises UserError for a key that is not `known`, with its new name where it has moved.
    """
    found: dict[str, Any] = {}
    for key, value in part.items():
        name = f"{prefix}{key}"
        if name in known:
            found[name] = value
        elif not any(other.startswith(f"{name}.") for other in known):
            raise UserError(f"unknown config key config.{name}; {hint(name, known)}")
        elif not isinstance(value, Mapping):
            raise UserError(f"config.{name} is {value!r}: it is a section, with keys of its own")
        else:
            found |= leaves(value, known, f"{name}.")
    return found


def hint(name: str, known: Mapping[str, keys.Key]) -> str:
    """What may have been meant by a key that is not known."""
    if name in MOVED:
        return f"it is now config.{MOVED[name]}"
    near = difflib.get_close_matches(name, known, 1, 0.8)
    return f"did you mean config.{near[0]}?" if near else "genseg/recipes/ has all keys there are"
