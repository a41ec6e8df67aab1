"""How command lines end, in real processes."""

import logging
import subprocess
import sys

import pytest
import test_checkpoints
import tiny

from genseg import checkpoints, cli
from genseg.data.demo import DemoClassification
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


def test_a_damaged_checkpoint_ends_a_command_in_one_line(tmp_path):
    saved = checkpoints.Checkpoints(str(tmp_path), keep=1)
    meta = test_checkpoints.meta(DemoClassification().plan().card)
    saved.save(test_checkpoints.made_state(1), batches=1, meta=meta, score=None)
    saved.close()
    # The nodes behind the index: every array's read fails, most of them in threads of tensorstore.
    for path in (tmp_path / "checkpoints" / "1" / "state" / "d").iterdir():
        for place in range(0, path.stat().st_size, 40):
            test_checkpoints.flip(path, place)
    command = "import sys; from genseg import checkpoints, cli\nsys.exit(cli.run(lambda: checkpoints.{}))"
    for call in ("Checkpoints(sys.argv[1], keep=1)", "load_weights(sys.argv[1], ema=False)"):
        ended = subprocess.run(
            [sys.executable, "-c", command.format(call), tmp_path], cwd=tiny.ROOT, capture_output=True, text=True
        )
        lines = ended.stderr.splitlines()
        assert ended.returncode == 2 and "damaged" in lines[-1] and lines[-1].startswith("error: "), ended.stderr
        assert "Traceback" not in ended.stderr and len(lines) <= 2, ended.stderr
        for path in tmp_path.glob("damaged/1-0"):
            path.rename(tmp_path / "checkpoints" / "1")
            path.parent.rmdir()


def test_other_unraisable_errors_are_shown(capsys):
    class Loud:
        def __del__(self):
            raise RuntimeError("something else")

    cli.start_log(logging.INFO)
    Loud()
    assert "something else" in capsys.readouterr().err
