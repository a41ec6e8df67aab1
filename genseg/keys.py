"""How a config key is defined: its default, what it means, its type and its permitted range, in one place.

A section of a config is a frozen dataclass whose fields are made by `key`:

    @dataclass(frozen=True, kw_only=True)
    class Ema:
        decay: float = key(0.0, "weight of the old average in each step; 0 = no average", within(0, 1, below=True))

The annotation is the type; the rules behind the comment are the range. `...` as the default says that a job must set it.
The sections of the two tasks are in genseg/recipes/, those of data sets with the data sets.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from genseg.errors import UserError

_NOT_SAID = object()


@dataclasses.dataclass(frozen=True)
class Rule:
    """A range. words: what stands behind the type in "give a number above 0"; holds: of a value that has the type."""

    words: str
    holds: Callable[[Any], bool]
    names_type: bool = False  # the words say all: no type before them


def above(low: float) -> Rule:
    return Rule(f"above {low:g}", lambda value: value > low)


def at_least(low: float) -> Rule:
    return Rule(f"of at least {low:g}", lambda value: value >= low)


def within(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
    """low to high, both included; `above` leaves low out, `below` high."""
    top = f"below {high:g}" if below else f"at most {high:g}" if above else f"{high:g}"
    words = f"above {low:g} and {top}" if above else f"from {low:g} to {top}"
    return Rule(words, lambda v: (low < v if above else low <= v) and (v < high if below else v <= high))


def one_of(*allowed: Any) -> Rule:
    return Rule(f"one of {', '.join(map(str, allowed))}", lambda value: value in allowed, names_type=True)


def each(rule: Rule) -> Rule:
    """The rule for every element of a tuple, or for a single value where a key takes both."""
    words = f"{'each ' if not rule.names_type else 'whose elements are '}{rule.words}"
    return Rule(words, lambda value: all(map(rule.holds, value if isinstance(value, list | tuple) else [value])))


FILLED = Rule("that is not empty", lambda value: len(value) > 0)
PRINTABLE = Rule("without line ends and control characters", lambda text: text.isprintable())
RISING = Rule("the smaller first", lambda pair: pair[0] <= pair[1])
DIFFERENT = Rule(
    "all different", lambda value: not isinstance(value, list | tuple) or len({str(v) for v in value}) == len(value)
)
EVEN = Rule("that is even", lambda value: value % 2 == 0)
POSITIVE_EACH = Rule("of numbers above 0", lambda values: all(value > 0 for value in values.values()))
ONES_UP = Rule("of at least 1, or -1", lambda value: value >= 1 or value == -1)


SPAN = Rule("such as 10:20, or ''", lambda text: not text or _is_span(text))


def _is_span(text: str) -> bool:
    found = re.fullmatch(r"(\d+):(\d+)", text)
    return found is not None and 1 <= int(found[1]) <= int(found[2])


def _compiles(pattern: str) -> bool:
    try:
        return bool(re.compile(pattern))
    except re.error:
        return False


PATTERN = Rule("a regular expression", _compiles)
"""Of a text."""


@dataclasses.dataclass(frozen=True)
class Key:
    """One key. hint: its annotation. default: `...` where a job must set it.

    before: what a config from before the key existed means, in a stored workdir for instance; only keys that were added
    later have it.
    """

    default: Any
    comment: str
    hint: Any
    rules: tuple[Rule, ...]
    before: Any = _NOT_SAID

    @property
    def added_later(self) -> bool:
        return self.before is not _NOT_SAID

    @property
    def wanted(self) -> str:
        """What a value must be: "a number above 0"."""
        rules = [rule for rule in self.rules if rule.words]
        parts = [] if any(rule.names_type for rule in rules) else [_words(self.hint)]
        parts += [rule.words for rule in rules]
        several = parts[0].endswith(("s", ")"))  # "two numbers, each above 0"
        return (", " if several else " ").join(parts)

    def has_type(self, value: Any) -> bool:
        return _has_type(value, self.hint)

    def fits(self, value: Any) -> bool:
        return self.has_type(value) and all(rule.holds(value) for rule in self.rules)


def key(default: Any, comment: str, *rules: Rule, before: Any = _NOT_SAID) -> Any:
    """The field of a section; see the module's text and `Key`."""
    metadata = {"comment": comment, "rules": rules, "before": before}
    if default is ...:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def of(section: type) -> dict[str, Key]:
    """ "KEY" or "SUBSECTION.KEY" -> its definition, in the order of the class."""
    hints = typing.get_type_hints(section)
    found: dict[str, Key] = {}
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= {f"{field.name}.{name}": definition for name, definition in of(hint).items()}
        else:
            found[field.name] = _defined(field, hint)
    return found


def one(section: type, name: str) -> Key:
    """The definition of one field that is no section."""
    (field,) = (field for field in dataclasses.fields(section) if field.name == name)
    return _defined(field, typing.get_type_hints(section)[name])


def _defined(field: dataclasses.Field, hint: Any) -> Key:
    default = field.default
    if default is dataclasses.MISSING:
        made = field.default_factory
        default = ... if made is dataclasses.MISSING else made()
    said = field.metadata
    comment, rules = (said["comment"], said["rules"]) if said else ("", ())
    return Key(default, comment, hint, rules, said["before"] if said else _NOT_SAID)


def refuse_misfit(name: str, definition: Key, value: Any) -> None:
    """Raises UserError, naming the key, unless the value has its type and is in its range."""
    if not definition.fits(value):
        raise UserError(f"{name} is {value!r}: give {definition.wanted}")


def enforce(section: Any, name: str) -> None:
    """For `__post_init__` of a section that is also built without a config: each field has its type and range."""
    for part, definition in of(type(section)).items():
        refuse_misfit(f"config.{name}.{part}", definition, getattr(section, part))


def coerced(value: Any, hint: Any) -> Any:
    """A whole number where the key takes any number becomes a float, so that the key's type does not depend on how its
    value was written; a list becomes a tuple."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        expected = _spread(typing.get_args(hint), value)
        return tuple(map(coerced, value, expected)) if len(expected) == len(value) else value
    return value


def _spread(kinds: tuple, value: Any) -> tuple:
    """The hint of each element."""
    return kinds[:1] * len(value) if kinds[1:] == (...,) else kinds


def _has_type(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(_has_type(value, part) for part in typing.get_args(hint))
    origin, kinds = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        expected = _spread(kinds, value)
        return len(expected) == len(value) and all(map(_has_type, value, expected))
    if origin is dict:
        # Of numbers, True and False too: switches beside them, as in config.data.split_blocks.
        return hasattr(value, "items") and all(
            isinstance(k, str) and (_has_type(v, kinds[1]) or (kinds[1] is float and isinstance(v, bool)))
            for k, v in value.items()
        )
    if isinstance(value, bool) or origin is bool:
        return origin is bool and isinstance(value, bool)
    if origin is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, origin)


_ONE = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    dict: "a mapping such as {'a': 1}",
    types.NoneType: "None",
}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}
_TUPLES = {
    str: "a tuple such as ('a', 'b') or ('a',)",
    int: "a tuple of whole numbers such as (0, 1) or (0,)",
    float: "a tuple of numbers such as (0.5, 1.0) or (0.5,)",
}
_COUNTS = {1: "one", 2: "two", 3: "three"}


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_words, typing.get_args(hint)))
    origin, kinds = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is not tuple:
        return _ONE[origin]
    if kinds[1:] == (...,):
        return _TUPLES.get(kinds[0]) or f"a tuple of triples: {_words(kinds[0])} each"
    return f"{_COUNTS[len(kinds)]} {_MANY[kinds[0]]}"
