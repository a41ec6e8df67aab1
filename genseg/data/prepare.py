"""Raw files to a prepared data set, once.

    python -m genseg.data.prepare NAME --source DIR [--data_dir DIR] [--FIELD VALUE ...]

The fields that a data set reads from `config.data`, and that the command takes as options, are documented at its entry
in `genseg.data.DATASETS`. Every data set shares these:

    config.data.name          key of DATASETS
    config.data.source        folder of raw files; "" if data_dir holds the prepared data set already
    config.data.data_dir      where prepared data sets are kept; "" = a folder chosen by the caller
    config.data.skip_corrupt  how many undecodable files are left out, counted; 0 = the first one stops

A copy is used again as long as the raw files and all options are what it was made from (names, sizes and, where times
differ, contents: `genseg.data.records.copies`); anything else is prepared beside it, and nothing that exists is changed.
"""

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import argparse
import ast
import dataclasses
import inspect
import json
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genseg import cli, keys, outputs, texts
from genseg.data import DATASETS
from genseg.data.card import DatasetCard
from genseg.data.records import copies, storage
from genseg.errors import UserError

logger = logging.getLogger(__name__)


def from_config(data: Any) -> Any:
    """The options dataclass of DATASETS[data["name"]], filled from the entries of `data`.

    Raises: UserError if the name is unknown, a field is missing or its value is of another kind than the field.
    """
    name = data["name"]
    if name not in DATASETS:
        raise UserError(f"There is no data set {name!r}: config.data.name is one of {', '.join(sorted(DATASETS))}.")
    kind = DATASETS[name]
    values = {}
    for field, definition in keys.of(kind).items():
        if field not in data:
            raise UserError(f"config.data lacks {field!r}, which {name} needs: see {kind.__name__}.")
        values[field] = _frozen(data[field])
        keys.refuse_misfit(f"config.data.{field}", definition, values[field])
    return kind(**values)


def completed(given: Any, where: str) -> dict[str, Any]:
    """The entries of one data set with the defaults of those that are not given. where: what to call them in errors.

    Raises: UserError without a known name, or for an entry that the data set does not have.
    """
    if "name" not in given or given["name"] not in DATASETS:
        raise UserError(f"{where} names no data set: its 'name' is one of {', '.join(sorted(DATASETS))}.")
    known = keys.of(DATASETS[given["name"]])
    if surplus := sorted(set(given) - set(known) - {"name"}):
        raise UserError(f"{where} has {surplus[0]!r}, which {given['name']} does not know: {', '.join(known)}.")
    return {name: definition.default for name, definition in known.items()} | dict(given)


def _frozen(value: Any) -> Any:
    """Lists to tuples and ConfigDicts to dicts, so that options compare and print alike wherever they come from."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(v) for v in value)
    if hasattr(value, "items"):
        return {k: _frozen(v) for k, v in sorted(value.items())}
    return value


def ensure_prepared(data: Any, data_dir: Path | str, *, threads: int = 0, progress: bool = True) -> Path:
    """Prepares `config.data` unless that has been done, and returns the folder that `pipeline.open_split` takes.

    Args:
      data: config.data, see the module's text. Mappings and ConfigDicts both serve.
      data_dir: where to keep it; the caller's choice if data.data_dir is "".
    Raises: UserError for anything wrong with the files or options.
    """
    data_dir = outputs.given(str(data_dir), "config.data.data_dir")
    name = data["name"]
    if name in DATASETS and hasattr(DATASETS[name], "prepare"):  # made by another builder than storage.write
        dataset = from_config(data)
        return dataset.prepare(data_dir, threads=threads, skip_corrupt=data["skip_corrupt"], progress=progress)
    drawn = name in DATASETS and "source" not in {f.name for f in dataclasses.fields(DATASETS[name])}
    if name in DATASETS and not drawn and not data["source"]:
        return _prepared_copy(data, data_dir)
    options = from_config(data)
    plan = dataclasses.replace(options.plan(), options=_kept(options))
    return storage.write(plan, data_dir, threads=threads, skip_corrupt=data["skip_corrupt"], progress=progress)


def _kept(options: Any) -> dict[str, Any]:
    """The options that decide the records, as they come back from JSON."""
    fields = {k: v for k, v in dataclasses.asdict(options).items() if k not in copies.UNCOUNTED}
    return json.loads(texts.as_json(fields))


def _options_of(folder: Path) -> dict[str, Any] | None:
    """The options that a prepared copy was made with; None if it is of another version and does not say."""
    try:
        source = json.loads(texts.read(folder / "source.json", "record of options"))
        options = source["options"] if source["format"] == copies.FORMAT else None
    except (KeyError, TypeError, ValueError, RecursionError):  # UserError is a ValueError
        return None
    return options if isinstance(options, dict) else None


def _prepared_copy(data: Any, data_dir: Path) -> Path:
    """The one copy of data["name"] in data_dir that was made with the options in `data`."""
    name = data["name"]
    made = {p.parent: _options_of(p.parent) for p in sorted(data_dir.glob(f"{name}[-_]*/source.json"))}
    if not made:
        raise UserError(f"There is no prepared {name} in {data_dir}: set config.data.source to its raw files.")
    wanted = _kept(from_config(data))
    fitting = [folder for folder, options in made.items() if options == wanted]
    # Options come and go with versions: a copy that has others says nothing about those of today.
    old = [folder for folder, options in made.items() if options is None or options.keys() != wanted.keys()]
    if len(fitting) > 1:
        names = ", ".join(p.name for p in fitting)
        raise UserError(
            f"{data_dir} holds {len(fitting)} copies of {name} ({names}): remove all but one or set source."
        )
    if not fitting and len(old) == len(made):
        raise UserError(
            f"{old[0]} was prepared by another version of genseg: set config.data.source to the "
            "raw files, to prepare the data again."
        )
    if not fitting:
        folder, options = next((f, o) for f, o in made.items() if f not in old)
        field = next(k for k in sorted(wanted) if options[k] != wanted[k])
        raise UserError(
            f"{folder} was prepared with {field}={options.get(field)!r}, but the config says {wanted.get(field)!r}: set "
            f"config.data.source to the raw files, or change the config."
        )
    logger.info("config.data.source is empty: taking %s, prepared before with these options", fitting[0])
    return fitting[0]


def _literal(text: str) -> Any:
    """Command-line text to a value: Python literals as such, all else as a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}': give 0 or a larger whole number")
    return int(text)


def _text_or_tuple(text: str) -> str | tuple:
    value = _literal(text)
    return tuple(value) if isinstance(value, tuple | list) else text


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}': give True or False")
    return text.lower() == "true"


def parse_command(argv: list[str] | None, program: str, extra: Callable[[argparse.ArgumentParser], None]) -> tuple:
    """Arguments `NAME [--data_dir DIR] [--FIELD VALUE ...]` and what `extra` adds.

    Returns: (data, others): a mapping for `ensure_prepared`, and a namespace with data_dir, threads and the extras.
    """
    argv = sys.argv[1:] if argv is None else argv
    named = bool(argv) and not argv[0].startswith("-")
    first = argparse.ArgumentParser(
        prog=program, add_help=not named, usage=f"{program} NAME [--source DIR] [--data_dir DIR] [--FIELD VALUE ...]",
        epilog=f"{program} NAME --help says which files the data set is read from, and lists its fields.",
    )  # fmt: skip
    first.add_argument("name", choices=sorted(DATASETS), metavar="NAME", help=", ".join(sorted(DATASETS)))
    known, rest = first.parse_known_args(argv)
    kind = DATASETS[known.name]
    parser = argparse.ArgumentParser(
        prog=f"{program} {known.name}", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{inspect.getmodule(kind).__doc__}\n{inspect.cleandoc(kind.__doc__)}",
    )  # fmt: skip
    parser.add_argument(
        "--data_dir", help="where prepared data sets are kept (default: the folder that training takes)"
    )
    parser.add_argument(
        "--skip_corrupt", type=_count, default=0, help="how many undecodable files are left out, counted"
    )
    parser.add_argument("--threads", type=_count, default=0, help="0 = one a core")
    extra(parser)
    for name, definition in keys.of(kind).items():
        default, words = definition.default, f"{definition.comment} (default {definition.default!r})".replace("%", "%%")
        if isinstance(default, bool):
            # Alone, with its value as all other fields have it, or as --no-NAME.
            parser.add_argument(f"--{name}", nargs="?", type=_truth, const=True, default=default, help=words)
            parser.add_argument(f"--no-{name}", dest=name, action="store_false", default=argparse.SUPPRESS)
            continue
        either = isinstance(definition.hint, types.UnionType)  # a text, or a tuple of texts
        read = str if definition.hint is str else _text_or_tuple if either else _literal
        parser.add_argument(f"--{name}", type=read, default=default, help=words)
    others = parser.parse_args(rest)
    data = {"name": known.name, "skip_corrupt": others.skip_corrupt}
    return data | {f.name: getattr(others, f.name) for f in dataclasses.fields(kind)}, others


def kept_in(data_dir: str | None) -> Path:
    """Where `--data_dir` says, or where training keeps what it prepares itself. Raises UserError for an empty one."""
    return outputs.cache_dir() if data_dir is None else outputs.given(data_dir, "--data_dir")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 after a mistake that the message says how to mend."""
    data, others = parse_command(argv, "python -m genseg.data.prepare", lambda parser: None)

    def command() -> None:
        with cli.saying(lambda: "nothing of the data set was kept; the same command starts again"):
            if "source" in data and not data["source"]:  # drawn sets have none
                raise UserError(f"--source is missing: give the folder with the raw files of {data['name']}.")
            folder = ensure_prepared(data, kept_in(others.data_dir), threads=others.threads)
        print(DatasetCard.read(folder).describe())
        print(f"Prepared   {folder} ({copies.made_on(folder)})")

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
