"""A command that is killed or interrupted leaves nothing that a later one trips over; Control-C is one sentence."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny

from genseg import outputs
from genseg.predict.overlap import Behind


def rows(tmp_path, *options: str) -> list[dict]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests")])}
    command = [sys.executable, "-m", "tests.interrupted", str(tmp_path / "rows"), *options]
    done = subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]


def check(found: list[dict], files: dict[str, int]) -> None:
    """files: how many files each command writes under a temporary name, at least."""
    for row in found:
        assert row["again"] == 0 and row["same"], row
        if row["signal"] == "SIGKILL":
            assert row["status"] == -signal.SIGKILL
            continue
        assert not row["left"], row
        status, sentence = {
            "SIGINT": (130, "stopped: interrupted; "),
            "SIGTERM": (75, "stopped: told to end (SIGTERM); "),
        }[row["signal"]]
        lines = row["said"].strip().splitlines()
        assert row["status"] == status and lines[-1].startswith(sentence), row
        assert "Traceback" not in row["said"] and sum(line.startswith("stopped: ") for line in lines) == 1, row
    for command, least in files.items():
        for name in ("SIGKILL", "SIGINT", "SIGTERM"):
            assert sum(row["command"] == command and row["signal"] == name for row in found) >= least, (command, name)


def test_preparation_and_its_sheet_stopped_at_every_file(tmp_path):
    found = rows(tmp_path, "prepare", "show")
    check(found, {"prepare": 1, "show": 2})
    kept = {
        row["said"].strip().splitlines()[-1]
        for row in found
        if (row["command"], row["signal"]) == ("prepare", "SIGINT")
    }
    assert kept == {"stopped: interrupted; nothing of the data set was kept; the same command starts again"}


@pytest.mark.slow
def test_reports_and_scores_stopped_at_every_file(tmp_path):
    check(rows(tmp_path, "report", "score"), {"report": 2, "score": 6})


@pytest.mark.slow
def test_commands_with_a_network_stopped_at_every_file(tmp_path):
    found = rows(tmp_path, "--trained")
    check(found, {"export weights": 5, "export a program": 2, "import": 1, "predict": 8})
    kept = [
        row["said"].strip().splitlines()[-1]
        for row in found
        if (row["command"], row["signal"]) == ("predict", "SIGINT")
    ]
    assert "1 of 2 scenes have their maps in" in kept[0] and "the same command goes on there" in kept[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_real_preparation_is_interrupted(number, status, tmp_path):
    """From the very beginning on, imports included, and while it writes."""
    for begun in (False, True):
        command = [sys.executable, "-m", "genseg.data.prepare", "demo_segmentation", "--train_images=4000"]
        process = subprocess.Popen(
            [*command, f"--data_dir={tmp_path}"], cwd=tiny.ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(tiny.ROOT), "PYTHONSTARTUP": ""},
        )  # fmt: skip
        handled = f"/proc/{process.pid}/status"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            with open(handled) as file:
                caught = int(next(line.split()[1] for line in file if line.startswith("SigCgt:")), 16)
            if (begun and list(tmp_path.glob(".partial-*/records/*"))) or (
                not begun and caught >> (signal.SIGTERM - 1) & 1
            ):
                break
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        # A library in C that Control-C has interrupted can have Python end by the signal itself, which a shell calls 130 too.
        assert process.returncode in (status, -signal.SIGINT if number == signal.SIGINT else status), said
        assert said.strip().splitlines()[-1].startswith("stopped: ") and "Traceback" not in said, said
        assert list(tmp_path.iterdir()) == []


def test_half_made_files_of_the_living_are_left_alone(tmp_path):
    other = subprocess.Popen(["sleep", "60"])
    try:
        mine = outputs.partial(tmp_path / "a.txt").name
        alive = tmp_path / mine.replace(str(os.getpid()), str(other.pid))
        elsewhere = tmp_path / f".partial-a.txt-00000000-{2**22 + 7}"
        dead = tmp_path / mine.replace(str(os.getpid()), str(2**22 + 7))
        beside = dead.with_name(f"{dead.name}-journal")
        for path in (alive, elsewhere, dead, beside, tmp_path / mine, tmp_path / ".partial-of-mine"):
            path.touch()
        (tmp_path / dead.name.replace("a.txt", "folder") / "sub").mkdir(parents=True)
        outputs.clear_abandoned(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {alive.name, elsewhere.name, mine, ".partial-of-mine"}
    finally:
        other.kill()
        other.wait()


def test_control_c_at_the_end_waits_for_the_file_under_way():
    """And drops what waits behind it: whoever writes in a thread clears away what it has begun."""
    done = []

    def write(name):
        time.sleep(0.5)
        done.append(name)

    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind.do(write, "under way")
        behind.do(write, "waits")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert done == ["under way"]
