"""The command `genseg`: one name for what `python -m genseg.main`, `.predict`, `.data.prepare` ... do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """module: its main(argv) is called; first: arguments before the user's."""

    module: str
    does: str
    first: tuple[str, ...] = ()


COMMANDS = {
    "train": Command("genseg.main", "train, or go on where the workdir stopped", ("--mode=train",)),
    "eval": Command(
        "genseg.main", "score a checkpoint, with its channels in fixed, permuted and reversed order", ("--mode=eval",)
    ),
    "dry-run": Command(
        "genseg.main", "compile the step and say what it costs, without training or chips", ("--mode=dry_run",)
    ),
    "band-use": Command("genseg.main", "score a checkpoint without each of its bands", ("--mode=band_use",)),
    "seen": Command("genseg.main", "draw what the network is given in training", ("--mode=seen",)),
    "predict": Command("genseg.predict", "class maps of rasters of any size"),
    "prepare": Command("genseg.data.prepare", "raw files to a prepared data set, once"),
    "show": Command("genseg.data.show", "a contact sheet of a data set: bands, masks, class shares"),
    "score": Command("genseg.score", "scores of a checkpoint, or of class maps, on labelled data"),
    "report": Command("genseg.report", "runs side by side: a picture and a page"),
    "exchange": Command("genseg.exchange", "weights in and out: timm, Hugging Face, ONNX, StableHLO"),
    "study": Command("genseg.study", "many runs that answer one question"),
    "demo": Command("genseg.demo", "the whole method on drawn data, on a CPU, in minutes"),
}


def present() -> dict[str, Command]:
    """The commands whose module there is."""
    return {name: command for name, command in COMMANDS.items() if _place(command.module)}


def _place(module: str) -> str:
    """The module that a command line of `module` runs, "" if there is none. Imports no more than `genseg` itself."""
    parts = module.split(".")
    path = Path(__file__).parent.joinpath(*parts[1:])
    if (path / "__main__.py").is_file():
        return f"{module}.__main__"
    return module if path.with_suffix(".py").is_file() else ""


def usage() -> str:
    """What `genseg --help` says."""
    lines = [f"  {name:9} {command.does}" for name, command in present().items()]
    return "\n".join(
        [
            "usage: genseg COMMAND ...        (genseg COMMAND --help says more)",
            "",
            *lines,
            "",
            "genseg train --config=demo_pretrain --workdir=runs/demo        a first run, on drawn data",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """`genseg COMMAND ...`; returns the exit status of the command, 2 for an unknown one."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        import genseg

        print(f"genseg {genseg.__version__}")
        return 0
    known = present()
    if argv[0] not in known:
        import difflib

        close = difflib.get_close_matches(argv[0], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        print(f"error: there is no command '{argv[0]}'; {hint}", file=sys.stderr)
        return 2
    from genseg import cli

    cli.answer_from_the_start()
    command = known[argv[0]]
    module = importlib.import_module(_place(command.module))
    if command.module == "genseg.main":
        return module.run([f"genseg {argv[0]}", *command.first, *argv[1:]])
    return module.main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
