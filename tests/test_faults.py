"""Faults of the world around a run, in real processes: signals, dead and silent peers, full disks, second runs."""

import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_processes import free_port

from genseg import checkpoints, partition, tree
from genseg.errors import UserError

EXPLICIT = {"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
SLURM = {
    "SLURM_JOB_ID": "4097", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[007-008]", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (EXPLICIT, ("host:1234", 2, 1, None)),
        ({**SLURM, **EXPLICIT}, ("host:1234", 2, 1, None)),
        ({**EXPLICIT, "JAX_LOCAL_DEVICE_IDS": "0,2"}, ("host:1234", 2, 1, (0, 2))),
        (SLURM, ("gpu007:61441", 4, 3, (1,))),  # two tasks a node: a GPU each
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "0"}, ("gpu007:61441", 4, 3, None)),  # SLURM has bound it already
        ({**SLURM, "SLURM_STEP_NUM_NODES": "4"}, ("gpu007:61441", 4, 3, None)),  # one task a node: all its GPUs
        ({**SLURM, "SLURM_STEP_NODELIST": "a1,b[2-3]"}, ("a1:61441", 4, 3, (1,))),
    ],
)
def test_the_job_of_an_environment(environment, job):
    assert partition.job_of(environment) == (job and partition.Job(*job))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES is not; set all three"),
        ({**EXPLICIT, "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is 2 but the processes are 2; number them 0 to 1"),
        ({**EXPLICIT, "JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two'"),
        ({**EXPLICIT, "JAX_COORDINATOR_ADDRESS": "host"}, "host:port"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "start the tasks with srun"),
    ],
)
def test_an_impossible_environment_is_refused(environment, message):
    with pytest.raises(UserError, match=message):
        partition.job_of(environment)


@pytest.mark.parametrize(("workers", "pod"), [("a:0:10.0.0.1,b:1:10.0.0.2", True), ("a:0:10.0.0.1", False)])
def test_a_tpu_pod_is_known_by_its_metadata(workers, pod, monkeypatch):
    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path.endswith("/instance/attributes/worker-network-endpoints")
            self.send_response(200 if found and self.headers["Metadata-Flavor"] == "Google" else 404)
            self.end_headers()
            self.wfile.write(workers.encode())

        def log_message(self, *_):
            pass

    monkeypatch.setattr(partition.importlib.util, "find_spec", lambda name: object())
    with http.server.HTTPServer(("localhost", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = {"GCE_METADATA_IP": f"localhost:{server.server_port}"}
        assert partition.is_tpu_pod(here) is pod
        assert not partition.is_tpu_pod({**here, "JAX_PLATFORMS": "cpu"})
        assert not partition.is_tpu_pod({**here, "TPU_SKIP_MDS_QUERY": "1"})
        server.shutdown()
    assert not partition.is_tpu_pod(here)  # nobody answers
    assert partition.is_tpu_pod({"TPU_WORKER_HOSTNAMES": "a,b"}) and partition.is_tpu_pod({"MEGASCALE_NUM_SLICES": "2"})


HOLD = "import sys, time; from genseg import checkpoints\nwith checkpoints.sole_use(sys.argv[1]): print('held', flush=True); time.sleep(600)"


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], cwd=tiny.ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {first.pid} on .*give another --workdir"):
            checkpoints.sole_use(str(tmp_path)).__enter__()
    finally:
        first.kill()
        first.communicate()
    with checkpoints.sole_use(str(tmp_path)):
        pass


PEER = """
import os, signal, sys, time
from pathlib import Path
import jax
from genseg import partition, processes
from genseg.errors import UserError
partition.start(Path(sys.argv[2]))
what = sys.argv[1] if jax.process_index() == int(sys.argv[3]) else "wait"
time.sleep(2)
if what == "fail":
    processes.fail(UserError("the disk is full; free space"))
if what == "memory":
    processes.fail(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.3GiB."))
if what in ("SIGKILL", "SIGSTOP"):
    os.kill(os.getpid(), getattr(signal, what))
if what != "finish":
    time.sleep(300 if sys.argv[1] != "finish" else 6)
"""


def peers(tmp_path: Path, what: str, who: int, count: int = 2, told: int = 2) -> list[tuple[int, str, float]]:
    """(status, standard error, seconds) of each of `count` processes of which `who` does `what`; killed at the end."""
    port, began = free_port(), time.monotonic()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, what, str(tmp_path), str(who)], cwd=tiny.ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                 "JAX_NUM_PROCESSES": str(told), "JAX_PROCESS_ID": str(index), "XLA_FLAGS": ""},
        )
        for index in range(count)
    ]  # fmt: skip
    ends = []
    try:
        for index in sorted(range(count), key=lambda i: i == who):  # the one that may be stopped for good comes last
            if index == who and what == "SIGSTOP":
                started[index].kill()
            _, text = started[index].communicate(timeout=150)
            ends.append((index, started[index].returncode, text, time.monotonic() - began))
    finally:
        for process in started:
            process.kill()
    return [end[1:] for end in sorted(ends)]


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_an_error_in_one_process_ends_all_with_its_sentence(tmp_path, who):
    for status, text, _ in peers(tmp_path, "fail", who):
        assert status == 2 and "error: " in text and "the disk is full; free space" in text and "Traceback" not in text


@pytest.mark.slow
def test_too_little_memory_in_one_process_is_no_reason_to_start_again(tmp_path):
    for status, text, _ in peers(tmp_path, "memory", 1):
        assert status == 2 and "does not fit into a device's memory" in text and "config.train.accumulation" in text


@pytest.mark.slow
@pytest.mark.parametrize("what", ["SIGKILL", "SIGSTOP"])
def test_a_silent_process_ends_the_others(tmp_path, what):
    (status, text, seconds), _ = peers(tmp_path, what, 1)
    assert status == 75 and "stopped: process 1 has not answered for 60 s; the same command goes on" in text
    assert seconds < 110


@pytest.mark.slow
def test_the_death_of_process_0_ends_the_others(tmp_path):
    _, (status, _, seconds) = peers(tmp_path, "SIGKILL", 0)
    assert status in (75, -signal.SIGABRT) and seconds < 110


@pytest.mark.slow
def test_processes_may_finish_at_different_times(tmp_path):
    assert [status for status, _, _ in peers(tmp_path, "finish", 0)] == [0, 0]


@pytest.mark.slow
def test_a_wrong_process_count_is_said_within_a_minute(tmp_path):
    for status, text, seconds in peers(tmp_path, "finish", 0, count=2, told=3):
        assert status == 75 and seconds < 60
        assert "not all of 3 processes" in text and "correct their number" in text and "Traceback" not in text


def arguments(workdir: Path, data_dir: Path, steps: int, *more: str) -> list[str]:
    return [
        f"--config={tiny.ROOT / 'configs' / 'demo_pretrain.py'}", f"--workdir={workdir}",
        f"--config.data.data_dir={data_dir}", "--config.data.train_images=48", "--config.data.val_images=16",
        "--config.train.batch_size=8", "--config.train.epochs=0", f"--config.train.steps={steps}",
        "--config.train.warmup_epochs=0", "--config.eval.batch_size=16", "--config.ema.decay=0.9",
        "--config.report.log_every=1", "--config.mixing.prob=1.0", "--config.mixing.mixup=0.8", "--config.mixing.group=4",
        "--config.model.drop_path=0.1", *more,
    ]  # fmt: skip


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    path = workdir / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1][-3000:])


def finish(processes: list[subprocess.Popen], status: int = 0) -> list[str]:
    texts = [process.communicate(timeout=900)[1] for process in processes]
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == status, text[-3000:]
    return texts


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    return dict(tree.items(checkpoints.load_weights(str(workdir), ema=True).params))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "number"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGINT)])
def test_told_to_end(tmp_path, count, number):
    """One process of the job gets the signal: all save the same step, end with 75 or 130, and the rest comes out the same."""
    data_dir = tmp_path / "data"
    finish(tiny.job(arguments(tmp_path / "whole", data_dir, 400), count, 1, port=free_port()))
    job = tiny.job(arguments(tmp_path / "told", data_dir, 400), count, 1, port=free_port())
    wait_for_step(tmp_path / "told", 5, job[0])
    job[-1].send_signal(number)
    texts = finish(job, status=75 if number == signal.SIGTERM else 130)
    saved = sorted(int(p.name) for p in (tmp_path / "told" / "checkpoints").iterdir())
    assert len(saved) == 1 and 5 <= saved[0] < 400
    for text in texts:
        said = "told to end" if number == signal.SIGTERM else "interrupted"
        assert f"stopped: {said}; the last checkpoint is of step {saved[0]}" in text
    assert not (tmp_path / "told" / "result.json").exists()
    finish(tiny.job(arguments(tmp_path / "told", data_dir, 400), count, 1, port=free_port()))
    whole, told = parameters(tmp_path / "whole"), parameters(tmp_path / "told")
    for path, leaf in whole.items():
        np.testing.assert_array_equal(leaf, told[path], err_msg=path)


@pytest.mark.slow
def test_a_clock_that_jumps_and_another_time_zone_change_nothing(tmp_path):
    """Going on a year before the checkpoint was written, in another time zone: it is the newest all the same."""
    data_dir, more = tmp_path / "data", ["--config.checkpoint.every=2", "--config.eval.every=4"]
    finish(tiny.job(arguments(tmp_path / "whole", data_dir, 12, *more), 1, 1, port=0))
    early = {"TZ": "Pacific/Kiritimati", "CLOCK_OFFSET": "86400"}
    job = tiny.job(arguments(tmp_path / "jumped", data_dir, 12, *more), 1, 1, port=0, **early)
    wait_for_step(tmp_path / "jumped", 5, job[0])
    job[0].kill()
    job[0].communicate()
    before = {p.name for p in (tmp_path / "jumped" / "checkpoints").iterdir() if p.name.isdigit()}
    assert before and "12" not in before
    late = {"TZ": "Pacific/Pago_Pago", "CLOCK_OFFSET": "-31536000"}
    (text,) = finish(tiny.job(arguments(tmp_path / "jumped", data_dir, 12, *more), 1, 1, port=0, **late))
    assert f"resumed from this workdir's checkpoint at step {max(map(int, before))}" in text
    whole, jumped = (tmp_path / name / "checkpoints" for name in ("whole", "jumped"))
    assert {p.name for p in whole.iterdir()} == {p.name for p in jumped.iterdir()}
    for path, leaf in parameters(tmp_path / "whole").items():
        np.testing.assert_array_equal(leaf, parameters(tmp_path / "jumped")[path], err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_files_that_cannot_grow(tmp_path, on_error):
    """A limit on file sizes fails a save as a full disk does: in the middle of a large file."""
    workdir, data_dir = tmp_path / "run", tmp_path / "data"
    more = ["--config.checkpoint.every=2", "--config.checkpoint.keep=2", f"--config.checkpoint.on_error={on_error}"]
    job = tiny.job(arguments(workdir, data_dir, 3000, *more), 1, 1, port=0)
    wait_for_step(workdir, 8, job[0])
    resource.prlimit(job[0].pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    if on_error == "continue":
        reached = max(json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines())
        time.sleep(1)
        resource.prlimit(job[0].pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for_step(workdir, reached + 60, job[0])
        job[0].send_signal(signal.SIGTERM)
    (text,) = finish(job, status=2 if on_error == "stop" else 75)
    assert "a checkpoint could not be saved in" in text and "those kept are of steps: " in text
    kept = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert kept and checkpoints.set_damaged_aside(str(workdir)) is None and not (workdir / "damaged").exists()
    if on_error == "stop":
        assert "error: " in text and "--config.checkpoint.on_error=continue" in text
    else:
        assert "training goes on" in text


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        more = ["--config.checkpoint.every=2", "--config.checkpoint.keep=50"]
        job = tiny.job(arguments(disk / "run", tmp_path / "data", 3000, *more), 1, 1, port=0)
        (text,) = finish(job, status=2)
        assert "error: " in text and "No space left" in text and "free" in text
        (disk / "run" / "ballast").unlink(missing_ok=True)
        assert checkpoints.load_weights(str(disk / "run"), ema=False).params
    finally:
        subprocess.run(["umount", disk], check=True)
