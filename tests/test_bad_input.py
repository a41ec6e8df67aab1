"""Whatever is wrong ends in one sentence and the status 2, without a traceback and with nothing lost: tests/bad/.

The commands run in forks of a process of their own, since one in which JAX has computed cannot be forked.
"""

import json
import os
import subprocess
import sys

import pytest
import tiny

SHARE = 0.99
"""Of the rows that must end as promised."""


def ended(tmp_path, *options: str) -> list[dict]:
    """What came of each row."""
    out = tmp_path / "rows.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT)}
    command = [sys.executable, "-m", "tests.bad.run", str(out), *options]
    done = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def broken(rows: list[dict]) -> str:
    return "\n".join(f"{row['name']}: {row['problem']} | {row['said']}" for row in rows if row["problem"])


def test_rows_that_need_no_network(tmp_path):
    rows = ended(tmp_path, "--untrained")
    assert len(rows) >= 400
    assert not broken(rows), broken(rows)


@pytest.mark.slow
def test_all_rows(tmp_path):
    rows = ended(tmp_path)
    kept = sum(not row["problem"] for row in rows)
    assert len(rows) >= 700 and kept >= SHARE * len(rows), broken(rows)
