"""`python -m genseg.score`: see `genseg.score.arguments`."""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import sys
from collections.abc import Sequence

from genseg import cli, memory
from genseg.score.arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse(argv)

    memory.keep_freed()

    def command() -> None:
        from genseg.score.command import score  # imported late: --help and a mistyped option are answered at once

        score(arguments)

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
