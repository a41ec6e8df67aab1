"""The launch scripts: linted, shown by --dry-run, and run with the tools around them replaced by recording ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import tiny
import yaml

LAUNCH = tiny.ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
KUBERNETES = "1.31"  # the first version with stable pod failure policies
SCHEMA = yaml.safe_load((tiny.ROOT / "tests" / "data" / "jobset_schema.yaml").read_text())


def tool(name: str) -> str:
    """A program of the dev extra. Beside this Python, or on the path."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or name


def script(name: str, *arguments: str, cwd: Path = tiny.ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [LAUNCH / name, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=300,
    )


def stand_in(folder: Path, name: str, body: str) -> str:
    """A program `name` in front of the path that writes its arguments to `folder`/calls and then runs `body`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/bash\ncall="$*"\necho "{name} ${{call//[[:space:]]/ }}" >> "{folder}/calls"\n{body}\n')
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck(path):
    assert os.access(path, os.X_OK)
    done = subprocess.run([tool("shellcheck"), path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint():
    done = subprocess.run([tool("hadolint"), LAUNCH / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile_copies_what_there_is_and_installs_extras_that_exist():
    text = (LAUNCH / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (.*) \S+$", text, re.M):
        for source in sources.split():
            assert (tiny.ROOT / source).exists(), source
    project = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())["project"]
    assert {"tpu", "cuda"} <= project["optional-dependencies"].keys()
    minor = int(re.search(r"^FROM python:3\.(\d+)-slim$", text, re.M)[1])
    assert minor >= int(re.fullmatch(r">=3\.(\d+)", project["requires-python"])[1])
    needed = [project["readme"], *project["license-files"]]
    assert all(re.search(rf"^COPY .*{re.escape(name)}", text, re.M) for name in needed)
    for name in ("setup.py", "setup.cfg", "MANIFEST.in"):  # what else the build backend reads where it is there
        assert not (tiny.ROOT / name).exists() or re.search(rf"^COPY .*{re.escape(name)}", text, re.M), name


def test_what_the_dockerfile_copies_can_be_installed(tmp_path):
    """The build backend is asked for the metadata of an editable install, as pip asks it first, among just those files."""
    before, install, after = (LAUNCH / "Dockerfile").read_text().partition("pip install")
    assert install and " -e " in after
    for sources, target in re.findall(r"^COPY (.*) (\S+)$", before, re.M):
        for source in sources.split():
            place = tmp_path / target / source if target == "./" else tmp_path / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (tiny.ROOT / source).is_dir():
                shutil.copytree(tiny.ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(tiny.ROOT / source, place)
    (tmp_path / "metadata").mkdir()
    asked = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_editable('metadata')"
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "metadata").glob("*.dist-info")
    assert "Name: genseg\n" in (folder / "METADATA").read_text()


# --- the loop around a command


def counting(folder: Path, statuses: list[int]) -> list[str]:
    """A command that ends with these statuses, one a start, and notes its starts."""
    code = (
        f"import pathlib, sys; p = pathlib.Path({str(folder)!r}, 'starts'); n = len(p.read_text()) if p.exists() else 0; "
        f"p.write_text('x' * (n + 1)); sys.exit({statuses}[n])"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("statuses", "final", "starts"),
    [
        ([75, 75, 0], 0, 3), ([2], 2, 1), ([75, 1, 0], 1, 2), ([0, 0], 0, 1), ([137, 75, 134, 75, 75, 0], 0, 6),
        ([137, 75, 134, 134, 0], 134, 4),
    ],
)  # fmt: skip
def test_again_on_75_and_a_few_times_when_killed(tmp_path, statuses, final, starts):
    done = script("again.sh", *counting(tmp_path, statuses), AGAIN_SECONDS="0", AGAIN_CRASHES="2")
    assert done.returncode == final
    assert len((tmp_path / "starts").read_text()) == starts


def test_again_passes_the_signal_on_and_does_not_start_again(tmp_path):
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.5)\n"  # a last save
        f"    pathlib.Path({str(tmp_path)!r}, 'saved').touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path)!r}, 'up').touch(); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [LAUNCH / "again.sh", sys.executable, "-c", code], env={**os.environ, "AGAIN_SECONDS": "0"}
    )
    while not (tmp_path / "up").exists():
        time.sleep(0.05)
    (tmp_path / "up").unlink()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "saved").exists() and not (tmp_path / "up").exists()


def test_one_machine_passes_its_arguments(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$CUDA_VISIBLE_DEVICES" "$@"\n')
    python.chmod(0o755)
    done = script("one_machine.sh", "--config.seed=3", PYTHON=str(python), DATA="/a b", GPUS="0,1")
    assert done.returncode == 0, done.stderr
    first, *arguments = done.stdout.splitlines()
    assert first == "0,1" and arguments[:2] == ["-m", "genseg.main"]
    assert "--config.data.data_dir=/a b" in arguments and arguments[-1] == "--config.seed=3"
    shown = script("one_machine.sh", "--dry-run", "--config.seed=3")
    assert "again.sh" in shown.stdout and shown.stdout.rstrip().endswith("--config.seed=3")


# --- Cloud TPU


def test_tpu_pod_shows_all_its_commands():
    lines = script("tpu_pod.sh", "--dry-run", "keep", "--config.seed=3", NAME="pod", SPOT="yes").stdout.splitlines()
    order = [
        "queued-resources create pod", "queued-resources describe", "git", "rsync", "genseg.main", "cat", "mkdir", "scp",
        "queued-resources delete",
    ]  # fmt: skip
    found = iter(lines)
    for part in order:
        assert any(part in line for line in found), part
    assert "--spot" in lines[0]
    assert "--spot" not in script("tpu_pod.sh", "--dry-run", "create", SPOT="no").stdout
    assert script("tpu_pod.sh", "nonsense").returncode == 2


def remote(line: str) -> str:
    return line.partition("--command=")[2]


def test_tpu_pod_run_survives_two_shells(tmp_path):
    """What `run` sends is executed by the remote shell: every argument arrives as it was given."""
    path = stand_in(
        tmp_path / "bin",
        "gcloud",
        f'for a; do case "$a" in --command=*) echo "${{a#--command=}}" > {tmp_path}/sent;; esac; done',
    )
    done = script("tpu_pod.sh", "run", "--config.data.source=/a b'c", PATH=path, CONFIG="configs/x.py:a,channels=(3,4)")
    assert done.returncode == 0, done.stderr
    python = tmp_path / "genseg" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/arguments\nexit 7\n')
    python.chmod(0o755)
    (tmp_path / "genseg" / "launch").symlink_to(LAUNCH)
    subprocess.run(["bash", tmp_path / "sent"], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, check=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "status").exists() or not (tmp_path / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert (tmp_path / "status").read_text() == "7\n"
    assert "--config=configs/x.py:a,channels=(3,4)" in arguments and arguments[-1] == "--config.data.source=/a b'c"


def test_tpu_pod_comes_back_after_a_preemption(tmp_path):
    """States as Cloud TPU reports them: absent, waiting, active, taken away, absent, active, done."""
    folder = tmp_path / "bin"
    states = tmp_path / "states"
    states.write_text("\n".join(["", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE", "SUSPENDED", "", "ACTIVE", "ACTIVE"]))
    body = f"""
case "$*" in
  *describe*) state=$(head -1 {states}); sed -i 1d {states}; [ -n "$state" ] && echo "$state" ;;
  *"cat status"*) [ ! -s {states} ] && echo 0 ;;
esac"""
    path = stand_in(folder, "gcloud", body)
    done = script("tpu_pod.sh", "keep", cwd=tmp_path, PATH=path, POLL="0", NAME="pod", WORKDIR=str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    names = ("queued-resources create", "queued-resources delete", "git clone", "rsync", "genseg.main", "cat status")
    kinds = [name.split()[-1] for line in calls(folder) for name in names if name in line]
    life = ["create", "clone", "rsync", "genseg.main", "status", "delete"]
    assert kinds == life * 2


# --- Kubernetes


def problems(value, schema, path: str = "") -> list[str]:
    """Where a manifest departs from tests/data/jobset_schema.yaml."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{path} must be a list"]
        return [p for i, item in enumerate(value) for p in problems(item, schema[0], f"{path}[{i}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path} must be a mapping"]
        if not schema:
            return [f"{path}.{k} must be text or a number" for k, v in value.items() if not isinstance(v, str | int)]
        fields = {key.rstrip("!"): inner for key, inner in schema.items()}
        found = [f"{path}.{key} is unknown" for key in value if key not in fields]
        found += [f"{path}.{k[:-1]} is missing" for k in schema if k.endswith("!") and k[:-1] not in value]
        return found + [p for k, v in value.items() if k in fields for p in problems(v, fields[k], f"{path}.{k}")]
    if schema == "job":
        return job_problems(value, path)
    kinds = {"int": int, "bool": bool, "str": str, "name": str, "rule": str}
    right = type(value) is kinds[schema] if schema in kinds else value in schema.split("|")
    pattern = {"name": r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "rule": r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"}
    if right and schema in pattern:
        right = re.fullmatch(pattern[schema], value)
    return [] if right else [f"{path} is {value!r}, not {schema}"]


def job_problems(spec: dict, path: str) -> list[str]:
    """Where the spec of a batch/v1 Job departs from the schema that Kubernetes publishes; unknown fields are problems."""
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}
    try:
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{path}.{'.'.join(map(str, list(error.path)[1:]))}: {error.message}"]
    return []


def manifest(*arguments: str, **environment: str) -> dict:
    done = script("gke.sh", "manifest", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def job_of(made: dict) -> dict:
    return made["spec"]["replicatedJobs"][0]["template"]["spec"]


@pytest.mark.parametrize("spot", ["true", "false"])
def test_manifest_is_a_jobset(spot):
    made = manifest("--config.data.source=it's", HOSTS="64", TOPOLOGY="16x16", SPOT=spot)
    assert problems(made, SCHEMA) == []
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 64 and job["backoffLimit"] == 0
    assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == (spot == "true")
    assert pod["containers"][0]["args"][-1] == "--config.data.source=it's"
    assert "--config.data.workers=32" in pod["containers"][0]["args"]
    # The API refuses a pod failure policy with any other restart policy, and mounts of volumes that are not there.
    assert pod["restartPolicy"] == "Never"
    mounts = {m["name"] for c in pod["containers"] + pod["initContainers"] for m in c["volumeMounts"]}
    assert mounts == {v["name"] for v in pod["volumes"]}


def test_manifest_starts_again_on_75_without_counting():
    made = manifest()["spec"]
    codes = made["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    container = made["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["name"]
    assert codes == {"containerName": container, "operator": "In", "values": [75]}
    rule = made["failurePolicy"]["rules"][0]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: m["spec"]["failurePolicy"].update(maxRestart=1), ".spec.failurePolicy.maxRestart is unknown"),
        (lambda m: m["spec"]["failurePolicy"].update(maxRestarts="3"), "maxRestarts is '3', not int"),
        (lambda m: m["metadata"].update(name="Not_a_name"), ".metadata.name is 'Not_a_name'"),
        (lambda m: m["spec"]["replicatedJobs"][0].pop("template"), ".spec.replicatedJobs[0].template is missing"),
        (lambda m: m["spec"]["failurePolicy"]["rules"][0].update(action="Restart"), "action is 'Restart'"),
        (lambda m: job_of(m).update(backoff=0), "'backoff' was unexpected"),
        (lambda m: job_of(m).update(parallelism="8"), "'8' is not of type 'integer'"),
        (lambda m: job_of(m)["podFailurePolicy"]["rules"][0].pop("action"), "'action' is a required property"),
        (lambda m: job_of(m)["template"]["spec"]["containers"][0].update(arg=[]), "'arg' was unexpected"),
    ],
)
def test_the_validator_sees_mistakes(change, problem):
    made = manifest()
    change(made)
    assert any(problem in line for line in problems(made, SCHEMA)), problems(made, SCHEMA)


def test_gke_shows_its_commands():
    for action, part in (
        ("build", "docker push"),
        ("apply", "kubectl apply"),
        ("logs", "kubectl logs"),
        ("delete", "kubectl delete"),
    ):
        assert part in script("gke.sh", "--dry-run", action).stdout


# --- SLURM


def test_slurm_shows_its_commands():
    shown = script(
        "slurm.sh", "--dry-run", "--config.seed=3", SOURCE="/shared/data", SLURM_SUBMIT_DIR=str(tiny.ROOT)
    ).stdout
    assert "rsync" in shown and "--kill-on-bad-exit=1" in shown and shown.rstrip().endswith("--config.seed=3")


@pytest.mark.parametrize(
    ("status", "before", "requeued"),
    [(75, 9, True), (2, 0, False), (0, 0, False), (137, 2, True), (134, 0, True), (137, 3, False)],
)
def test_slurm_queues_again_on_75_and_a_few_times_when_killed(tmp_path, status, before, requeued):
    folder = tmp_path / "bin"
    stand_in(folder, "scontrol", "")
    path = stand_in(folder, "srun", f"exit {status}")
    restarts = {"SLURM_RESTART_COUNT": str(before)} if before else {}
    done = script("slurm.sh", PATH=path, SLURM_JOB_ID="17", SLURM_SUBMIT_DIR=str(tmp_path), **restarts)
    assert done.returncode == status
    assert ("scontrol requeue 17" in calls(folder)) == requeued


# srun for two tasks on this machine, with the variables that the real one sets (sbatch and srun manuals).
SRUN = """
shift  # --kill-on-bad-exit=1
export SLURM_NTASKS=2 SLURM_JOB_NUM_NODES=1 SLURM_STEP_NUM_NODES=1 SLURM_NNODES=1
export SLURM_STEP_NODELIST=localhost SLURM_JOB_NODELIST=localhost
pids=()
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" & pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""


@pytest.mark.slow
def test_slurm_trains_with_two_processes(tmp_path):
    path = stand_in(tmp_path / "bin", "srun", SRUN)
    clean = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PATH": path, "PYTHON": sys.executable}
    done = script(
        "slurm.sh", "--config.data.train_images=48", "--config.data.val_images=20", "--config.train.batch_size=8",
        "--config.train.epochs=0", "--config.train.steps=2", "--config.train.warmup_epochs=0", "--config.eval.batch_size=8",
        CONFIG="configs/demo_pretrain.py", WORKERS="0", WORKDIR=str(tmp_path / "run"), DATA=str(tmp_path / "data"),
        SLURM_JOB_ID=str(os.getpid()), SLURM_SUBMIT_DIR=str(tiny.ROOT), **clean,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["step"] == 2 and result["devices"].startswith("2 x")  # one device each
