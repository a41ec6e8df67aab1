"""genseg beside its best peers: every row, or those named, as Markdown, which also goes into a page.

    make bench                                     # sets up the peers in .venv-bench; all rows, under 20 minutes
    make bench ROW=jpeg                            # one row
    python benchmarks/run.py jpeg --seconds 5      # in an environment that has the peers, shorter

Each row is a module of `rows`, whose `cases()` gives `measure.Case`s. Rows run in processes of their own; one that fails is
named, and the others go on. Peers that are not installed are named under the table.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path

import measure

from genseg import memory

ROWS = ("jpeg", "crops", "networks", "scene", "counts", "start")
PAGE = measure.ROOT / "docs" / "bench.md"
TITLE = """# Speed, side by side

The last runs of `make bench`: genseg and its peers in one process each row (networks: in one each side), turn by turn, after a check that they make the
same. What bounds the rows that fall short, and what was tried: [performance.md](performance.md).
"""


def run_row(row: str, seconds: float, page: Path | None) -> None:
    memory.keep_freed()  # as genseg's commands begin; it serves the peers, where they are in the same process, too
    module = importlib.import_module(f"rows.{row}")
    results = []
    for case in module.cases():
        results.append(measure.measure(case, seconds))
        print("\n".join(results[-1].lines()), file=sys.stderr, flush=True)
    text = measure.section(row, results, getattr(module, "NOTES", []))
    print(text, flush=True)
    if page:
        measure.put(text, page, TITLE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument("--seconds", type=float, default=20, help="of timing a case, after which no new round begins")
    parser.add_argument("--page", type=Path, default=PAGE, help="the Markdown file whose sections are replaced")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None, help="print only")
    options = parser.parse_args()
    rows = options.rows or ROWS
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no row is named {', '.join(sorted(unknown))}: choose of {', '.join(ROWS)}")
    if len(rows) == 1:
        run_row(rows[0], options.seconds, options.page)
        return 0
    failed = []
    for row in rows:
        began = time.monotonic()
        where = ["--page", str(options.page)] if options.page else ["--no-page"]
        command = [sys.executable, __file__, row, "--seconds", str(options.seconds), *where]
        if subprocess.run(command).returncode:
            failed.append(row)
        print(f"{row}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if failed:
        print(f"Rows that failed, see above: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
