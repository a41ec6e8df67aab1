"""Runs a study and reports it: `python -m genseg.study STUDY.py --out=DIR [--source NAME=FOLDER ...]`.

The command may be started in several processes on one folder, ended and started again at any time. Everything that is
there is reported, what failed or is missing too: DIR/reports/NAME/report.md with pictures, cells.csv, comparisons.csv,
classes.csv. Studies that name a start or an arm alike, with the same settings, share its runs.
"""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import argparse
import os
import sys

from genseg import cli, outputs
from genseg.errors import UserError


def sources_of(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not name or not equals or not folder:
            raise UserError(f"--source {word} is not NAME=FOLDER; give it as in --source naip=tiles")
        found[name] = str(outputs.given(folder, "--source"))
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m genseg.study", description=__doc__.splitlines()[0])
    parser.add_argument("study", help="a file such as studies/csp_small.py")
    parser.add_argument(
        "--out", required=True, help="folder of all runs and of the reports; shared by processes and studies"
    )
    parser.add_argument(
        "--source", action="append", default=[], metavar="NAME=FOLDER", help="where a study's data lies"
    )
    parser.add_argument("--data-dir", default="", help="folder for prepared data; default: the user's cache")
    parser.add_argument(
        "--side-by-side", type=int, default=os.cpu_count(), metavar="N",
        help="runs at a time, each on one core of the CPU; 1: one, on all that there is (default: the cores)",
    )  # fmt: skip
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--list", action="store_true", help="print each run's state and command, and run nothing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)

    def command() -> None:
        from genseg.study import design, report, running  # imported late: --help is answered at once

        if arguments.side_by_side < 1:
            raise UserError(f"--side-by-side is {arguments.side_by_side}; give at least 1")
        study, out = design.load(arguments.study), outputs.given(arguments.out, "--out")
        sources = sources_of(arguments.source)
        if arguments.data_dir:
            arguments.data_dir = str(outputs.given(arguments.data_dir, "--data-dir"))
        design.check_configs(study)
        cells = design.cells(study)
        if arguments.list:
            for cell in cells:
                print(f"{running.state(out, cell):8} {cell.command(out, sources, arguments.data_dir)}")
            print(running.remaining(out, cells, arguments.side_by_side))
            return
        out.mkdir(parents=True, exist_ok=True)
        if not arguments.report:
            runner = running.Runner(
                out, cells, sources, arguments.data_dir, side_by_side=arguments.side_by_side, retry=arguments.retry
            )
            print(running.remaining(out, cells, arguments.side_by_side), flush=True)
            with cli.saying(
                lambda: f"{running.remaining(out, cells, arguments.side_by_side)}; the same command goes on"
            ):
                runner.run()
        written = report.write(study, cells, out, sources, arguments.data_dir)
        print(f"{running.remaining(out, cells, arguments.side_by_side)}\n{written}")

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
