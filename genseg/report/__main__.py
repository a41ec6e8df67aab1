"""Runs side by side: `python -m genseg.report RUN ... --out=DIR` (or `genseg report`).

Writes DIR/runs.png and DIR/runs.html, one self-contained page: scores, curves, per-class IoU with intervals over scenes,
confusion, what differs in the configs, best, median and worst image. Runs may still be training; with --follow the files
are written again as they go on, and an open page reloads itself.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from genseg import cli, outputs
from genseg.errors import UserError

WIDTH = 120  # of the table, in letters, where there is no terminal to say


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="genseg report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="workdirs")
    parser.add_argument("--out", default="report", help="folder of runs.png and runs.html; made if absent")
    parser.add_argument(
        "--follow", action="store_true", help="write again every --every seconds until all runs are done"
    )
    parser.add_argument("--every", type=int, default=30, metavar="SECONDS", help="with --follow (default 30)")
    return parser.parse_args(argv)


def write(folders: list[str], out: Path, refresh: int = 0) -> bool:
    """Both files; returns whether all runs are done."""
    from genseg.report import charts, lines, page, runs, tables, writing

    chosen = runs.read(folders)
    done = all(run.result for run in chosen)
    out.mkdir(parents=True, exist_ok=True)
    charts.png(chosen, out / "runs.png")
    writing.write_atomically(out / "runs.html", page.page(chosen, refresh=0 if done else refresh))
    rows = runs.score_rows(chosen)
    shown = tables.narrowed(rows, shutil.get_terminal_size((WIDTH, 24)).columns)
    print(lines.beside(tables.text_table(shown), [*runs.unlike(chosen), *runs.notes(chosen)]), flush=True)
    if len(shown[0]) < len(rows[0]):
        print("border scores: runs.html")
    return done


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 after a mistake that the message says how to mend."""
    arguments = parse(argv)

    def command() -> None:
        out = outputs.given(arguments.out, "--out")
        if arguments.every < 1:
            raise UserError(f"--every is {arguments.every}; give at least 1 second")
        outputs.claim([out / "runs.html", out / "runs.png"])
        if not arguments.follow:
            write(arguments.runs, out)
        else:
            while not write(arguments.runs, out, refresh=arguments.every):
                time.sleep(arguments.every)
        print(f"{out / 'runs.html'} and runs.png beside it")

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
