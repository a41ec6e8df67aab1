"""Between ml_collections and plain data: options behind a config's colon, sections as dataclasses, JSON."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from genseg import outputs, texts
from genseg.errors import UserError

Settings = TypeVar("Settings")


_LONGEST_FILE = 1 << 20  # bytes of a config file: more is something else


def shipped() -> Path:
    """The folder of genseg's own config files: configs/ of a clone, genseg/configs/ of an installed copy."""
    package = Path(__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def find_file(name: str) -> Path:
    """A user's config file, or one of genseg's own: "configs/pretrain.py", "pretrain.py" and "pretrain" name it anywhere.

    Raises UserError for one that does not exist, with those of a similar name.
    """
    path = outputs.given(name, "--config")
    if path.exists():
        return path
    own = {p.stem: p for p in sorted(shipped().glob("*.py"))}
    if path.parent.name in ("", "configs") and path.suffix in ("", ".py") and path.stem in own:
        return own[path.stem]
    close = difflib.get_close_matches(path.stem, own, n=1)
    hint = (
        f"did you mean '{close[0]}'?" if close else f"name one of genseg's own ({', '.join(own)}), or a file of yours"
    )
    raise UserError(f"the config file {name} does not load: no such file; {hint}")


def load_file(text: str) -> ConfigDict:
    """What `PATH` or `PATH:ARGUMENTS` resolves to: get_config() or get_config(ARGUMENTS) of a Python file.

    Raises UserError, naming the file and the line, if it cannot be read, imported or called, or gives no ConfigDict.
    """
    name, colon, arguments = text.partition(":")
    if not name:
        raise UserError("--config is empty; name a file such as configs/small_pretrain.py")
    path = find_file(name)
    if not path.is_file():
        raise UserError(f"the config file {name} does not load: it is no regular file; name one of those in configs/")
    if path.suffix != ".py" or path.stat().st_size > _LONGEST_FILE:
        raise UserError(f"the config file {name} does not load: it is no Python file; name one of those in configs/")
    spec = importlib.util.spec_from_file_location("genseg_config_file", path)
    assert spec and spec.loader, "a name that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent.resolve())
    sys.path.append(folder)  # what lies beside the file can be imported, and hides nothing that is installed
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"the config file {name} has no function get_config; write one that returns the config")
        takes = inspect.signature(module.get_config).parameters
        if colon and not takes:
            raise UserError(f"'{arguments}' behind the config's colon: {name} takes nothing there")
        config = module.get_config(arguments) if colon else module.get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError):
            line, reason = error.lineno, error.msg
        else:
            own = str(path.absolute())
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if os.path.abspath(f.filename) == own]
            line, reason = (lines or [None])[-1], " ".join(str(error).split())
        where = f"line {line}, " if line else ""
        raise UserError(f"the config file {name} fails ({where}{type(error).__name__}: {reason}); correct it") from None
    finally:
        sys.path.remove(folder)
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {name} gives {type(config).__name__}; return what genseg.recipes makes")
    return config


def refuse_unknown_key(config: ConfigDict, key: str) -> None:
    """Raises UserError unless `config` has the key "section.key", naming the part that is wrong and the nearest there is."""
    place, seen = config, "config"
    for part in key.split("."):
        if not isinstance(place, ConfigDict):
            raise UserError(
                f"unknown config key config.{key}; {seen} is one value ({place!r}): give it whole, as --{seen}=..."
            )
        if part not in place:
            close = difflib.get_close_matches(part, list(place), n=1)
            where = "the config file" if seen == "config" else seen
            if close:
                hint = f"did you mean '{close[0]}'?"
            elif not place:  # no section: those have keys
                hint = f"{seen} is a mapping without entries: give it whole, as --{seen}=\"{{'{part}': ...}}\""
            else:
                hint = f"the config file has all keys there are; {where} has {', '.join(place)}"
            raise UserError(f"unknown config key config.{key}; {hint}")
        place, seen = place[part], f"{seen}.{part}"


def options(text: str, **defaults: Any) -> dict[str, Any]:
    """What stands behind a config file's colon, as in `configs/pretrain.py:convnext_tiny,channels=(3,4,5)`.

    A value without a name belongs to the first option. Numbers and tuples are written as in Python, all else is text.
    Raises UserError for an option that is not among `defaults`, or given twice.
    """
    chosen: dict[str, Any] = {}
    for part in filter(None, re.split(r",(?![^(]*\))", text)):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = next(iter(defaults)), part
        if name not in defaults or name in chosen:
            raise UserError(
                f"'{part}' behind the config's colon: known are {', '.join(f'{k}={v}' for k, v in defaults.items())}, "
                "each once"
            )
        try:
            chosen[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            chosen[name] = value
    return defaults | chosen


def section(cls: type[Settings], config: ConfigDict, name: str) -> Settings:
    """`cls(**config)`, where config holds exactly the fields of the dataclass `cls`.

    Raises UserError naming the fields that are missing or unknown; nothing is filled in silently.
    """
    wanted, given = {f.name for f in dataclasses.fields(cls)}, set(config)  # type: ignore[arg-type]
    if missing := sorted(wanted - given):
        raise UserError(f"config.{name} lacks {', '.join(missing)}; a config is complete: add them (see configs/)")
    if unknown := sorted(given - wanted):
        raise UserError(f"config.{name} has unknown keys {', '.join(unknown)}; known are {', '.join(sorted(wanted))}")
    return cls(**{key: config[key] for key in given})


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Plain nested dicts and lists, as they come back from a JSON file."""
    return json.loads(texts.as_json(config.to_dict(), default=list))


def listing(config: ConfigDict) -> str:
    """A line "section.key=value" for every value, as it would be given behind --config. on a command line."""

    def lines(part: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for key, value in part.items():
            found += (
                lines(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"  {prefix}{key}={value!r}"]
            )
        return found

    return "\n".join(sorted(lines(config.to_dict())))


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
