"""How command lines end, in real processes."""

import logging
import subprocess
import sys

import pytest
import test_checkpoints
import tiny

from genseg import checkpoints, cli
from genseg.data.sets.demo import DemoClassification
from genseg.errors import TryAgain, UserError


def test_status_and_sentence(capsys):
    def fails(error):
        raise error

    assert cli.run(lambda: None) == 0
    assert cli.run(lambda: fails(UserError("no such file; give another"))) == 2
    assert cli.run(lambda: fails(TryAgain("told to end"))) == 75
    assert capsys.readouterr().err == "error: no such file; give another\nstopped: told to end\n"
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        cli.run(lambda: 1 / 0)


def test_what_fails_beside_a_damaged_checkpoint_is_not_shown(tmp_path):
    saved = checkpoints.Checkpoints(str(tmp_path), keep=2)
    for step in (1, 2):
        meta = test_checkpoints.meta(DemoClassification().plan().card)
        saved.save(test_checkpoints.made_state(step), batches=step, meta=meta, score=None)
    saved.close()
    # The nodes behind the index: every array's read fails, most of them in threads of tensorstore, while step 1 is read.
    for path in (tmp_path / "checkpoints" / "2" / "state" / "d").iterdir():
        for place in range(0, path.stat().st_size, 40):
            test_checkpoints.flip(path, place)
    command = "import sys; from genseg import checkpoints, cli\nsys.exit(cli.run(lambda: checkpoints.{}))"

    def run(call: str, path) -> list[str]:
        script = command.format(call)
        ended = subprocess.run([sys.executable, "-c", script, path], cwd=tiny.ROOT, capture_output=True, text=True)
        return [str(ended.returncode), *ended.stderr.splitlines()]

    status, line = run("Checkpoints(sys.argv[1], keep=2).close()", tmp_path)
    assert status == "0" and "the checkpoint at step 2 is damaged" in line
    status, line = run("load_weights(sys.argv[1], ema=False)", tmp_path / "damaged" / "2-0")
    assert status == "2" and line.startswith("error: checkpoint") and "is damaged" in line


def test_other_unraisable_errors_are_shown(capsys):
    class Loud:
        def __del__(self):
            raise RuntimeError("something else")

    cli.start_log(logging.INFO)
    Loud()
    assert "something else" in capsys.readouterr().err
