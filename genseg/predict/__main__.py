"""`python -m genseg.predict`: see `genseg.predict.arguments`."""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import sys
from collections.abc import Sequence

from genseg import memory
from genseg.predict.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status of `genseg.predict.command.run`."""
    arguments = parse(argv)
    memory.keep_freed()
    from genseg.predict import command  # imported late: --help and a mistyped option are answered at once

    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
