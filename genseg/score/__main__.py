"""`python -m genseg.score`: see `genseg.score.command`."""

from genseg import cli

if __name__ == "__main__":  # the rest takes seconds to import
    cli.answer_from_the_start()

import sys

from genseg.score.command import main

if __name__ == "__main__":
    sys.exit(main())
