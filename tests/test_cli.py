"""How command lines end, in real processes."""

import logging
import os
import pty
import subprocess
import sys
import termios

import pytest
import test_checkpoints
import tiny

from genseg import checkpoints, cli, commands
from genseg.data.sets.demo import DemoClassification
from genseg.errors import TryAgain, UserError
from genseg.report import lines


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


def test_the_package_is_the_command():
    """`python -m genseg` is what the script `genseg` is."""

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "genseg", *words], cwd=tiny.ROOT, capture_output=True, text=True)

    listed = run("--help")
    assert listed.returncode == 0 and listed.stdout.strip() == commands.usage()
    mistyped = run("trian")
    assert mistyped.returncode == 2 and mistyped.stderr == "error: there is no command 'trian'; did you mean 'train'?\n"


def test_other_unraisable_errors_are_shown(capsys):
    class Loud:
        def __del__(self):
            raise RuntimeError("something else")

    cli.start_log(logging.INFO)
    Loud()
    assert "something else" in capsys.readouterr().err


def on_a_terminal(*arguments):
    """What a process shows on a terminal of its own, and its exit status."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    started = subprocess.Popen(
        [sys.executable, *arguments], cwd=tiny.ROOT, stderr=theirs, stdin=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # Linux's way of saying that nobody writes any more
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return shown.decode(), started.wait()


BAR = """
import logging
from genseg import cli
from genseg.report import lines
cli.start_log()
with lines.bar(3, 10) as moved:
    for _ in range(7):
        moved()
        logging.getLogger("genseg").info("a line")
"""


def test_a_bar_on_a_terminal_and_lines_where_there_is_none():
    shown, status = on_a_terminal("-c", BAR)
    assert status == 0 and "3/10" in shown and shown.count("a line") == 7, shown
    done = subprocess.run([sys.executable, "-c", BAR], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    assert "/10" not in done.stderr and len(done.stderr.splitlines()) == 7


def test_the_summaries_of_a_run_say_what_was_done_and_where_it_lies():
    text = lines.beginning("segment: net", "tiles", "scratch", "val", "3 steps", "1 x cpu")
    assert all(part in text for part in ("segment: net", "on       tiles", "from     scratch", "3 steps"))
    result = {
        "task": "segment", "synthetic": True, "step": 9, "best_step": 6, "data": "d", "split": "val", "protocol": "p",
        "seconds": 61.0, "notes": ["Constant in training"],
    }  # fmt: skip
    text = lines.ending({"miou": 0.5}, result, "runs/a")
    assert "  note     Constant in training" in text
    assert "miou 50.00 (SYNTHETIC data)" in text and "best of step 6" in text and "done in 1m01s" in text
    assert "genseg predict --checkpoint=runs/a" in text and "genseg predict" not in lines.ending(
        {}, result | {"task": "pretrain"}, "runs/a"
    )
