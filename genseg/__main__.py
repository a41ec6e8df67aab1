"""`python -m genseg COMMAND ...`: the command `genseg`, where its script is not on the path."""

import sys

from genseg.commands import main

if __name__ == "__main__":
    sys.exit(main())
