"""Python that stands in a page, and programs beside genseg, as a command for `runner`."""

import runpy
import sys


def main(argv: list[str]) -> int:
    """argv: "-c", text, or a program's file with its arguments."""
    if argv[0] == "-c":
        exec(compile(argv[1], "<page>", "exec"), {"__name__": "__main__"})
        return 0
    sys.argv = argv
    sys.path[0] = str(sys.path[0])
    runpy.run_path(argv[0], run_name="__main__")
    return 0
