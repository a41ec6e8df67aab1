"""Changed bytes in any file that genseg writes and reads end in a sentence, or are seen to change nothing: tests/bad/flips.py."""

import json
import os
import subprocess
import sys

import pytest
import tiny


def wrong(tmp_path, count: int, first: int = 0) -> list[dict]:
    out = tmp_path / "flips.jsonl"
    command = [sys.executable, "-m", "tests.bad.flips", str(out), "--count", str(count), "--first", str(first)]
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "changes: " in done.stdout, done.stdout + done.stderr
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_a_few_changes_of_each_file(tmp_path):
    assert not wrong(tmp_path, 12)


@pytest.mark.slow
def test_many_changes_of_each_file(tmp_path):
    assert not wrong(tmp_path, 600, first=1000)
