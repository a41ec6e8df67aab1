"""Weights in and out: `python -m genseg.exchange import|export ...` (docs/models.md has examples)."""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import sys
from collections.abc import Sequence

from genseg import cli
from genseg.exchange.arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = parser().parse_args(argv)

    def command() -> None:
        from genseg.exchange import inputs, outputs  # imported late: --help and a mistyped option are answered at once

        {"import": inputs.import_weights, "export": outputs.export}[args.command](args)

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
