"""The command `genseg`, and genseg installed from a wheel and from a source archive, used outside its repository."""

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
import tiny

from genseg import __version__, commands
from genseg.config import find_file, load_file
from genseg.errors import UserError


def said(capsys, *argv):
    status = commands.main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_help_names_every_command(capsys):
    status, text = said(capsys, "--help")
    assert status == 0
    for name, command in commands.present().items():
        assert f"  {name} " in text and command.does in text


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    status, text = said(capsys, "trian")
    assert status == 2 and "did you mean 'train'?" in text


def test_commands_are_found_without_importing_them():
    script = (
        "import sys; from genseg import commands; commands.main(['--help'])\n"
        "assert not {'jax', 'numpy', 'genseg.main', 'genseg.predict'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tiny.ROOT, capture_output=True)


@pytest.mark.parametrize("name", ["segment_mfnet", "segment_mfnet.py", "configs/segment_mfnet.py"])
def test_own_configs_are_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_file(name) == tiny.ROOT / "configs" / "segment_mfnet.py"
    assert load_file(f"{name}:protocol=foreground").data.protocol == "foreground"


def test_a_users_file_is_preferred_and_a_mistyped_name_is_answered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "pretrain.py").write_text("")
    assert find_file("configs/pretrain.py").samefile(tmp_path / "configs" / "pretrain.py")
    with pytest.raises(UserError, match="did you mean 'segment_potsdam'"):
        find_file("configs/segment_postdam.py")
    with pytest.raises(UserError, match="no such file"):
        find_file("elsewhere/pretrain.py")


def test_train_answers_help_and_starts_from_another_folder(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "genseg.commands", *arguments]
        environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    done = run("train", "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout and "segment_mfnet" in done.stdout
    done = run("train", "--config=small_pretrain", "--workdir=w", "--config.data.source=none")
    assert done.returncode == 2 and "There is no data set at" in done.stderr and "none" in done.stderr


def built(out):
    """(wheel, source archive); the wheel is made from the source archive, which must therefore be whole."""
    source = out / "source"
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=tiny.ROOT, capture_output=True, check=True).stdout
    source.mkdir(parents=True)
    subprocess.run(["tar", "x", "-C", str(source)], input=archive, check=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(source)], check=True, capture_output=True)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.mark.slow
def test_wheel_and_source_archive_hold_what_a_user_needs_and_run(tmp_path):
    wheel, source = built(tmp_path / "built")
    carried = {f"configs/{p.name}" for p in (tiny.ROOT / "configs").glob("*.py")} | {"genseg/py.typed"}
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert carried <= names and {"pyproject.toml", "setup.py", "LICENSE", "README.md"} <= names
    with zipfile.ZipFile(wheel) as archive:
        assert {n if n.startswith("genseg") else f"genseg/{n}" for n in carried} <= set(archive.namelist())
        assert not [n for n in archive.namelist() if n.startswith("tests")]
    for package in (wheel, source):
        place = tmp_path / package.suffix.strip(".")
        install = ["install", "-q", "--no-deps", "--target", str(place), str(package)]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
        environment = os.environ | {"PYTHONPATH": str(place), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        (tmp_path / "elsewhere").mkdir(exist_ok=True)

        def run(*arguments, environment=environment, place=place):
            command = [sys.executable, str(place / "bin" / "genseg"), *arguments]
            done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert run("--version") == f"genseg {__version__}\n"
        assert "drawn by code" in run("prepare", "demo_segmentation", "--data_dir", str(tmp_path / "data"))
        where = "import genseg.config as c; print(c.__file__); c.load_file('pretrain:convnext_tiny,channels=5')"
        done = subprocess.run(
            [sys.executable, "-c", where], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.startswith(str(place)), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[name, "--help"] for name in commands.COMMANDS if name not in ("demo", "eval", "dry-run", "band-use", "seen")],
)
def test_help_imports_no_jax(arguments):
    """Help is a glance, not a wait: JAX and TFDS are what takes seconds."""
    script = (
        "import sys; from genseg import commands\n"
        "try: commands.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'tensorflow_datasets', 'flax', 'matplotlib.pyplot', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd=tiny.ROOT, capture_output=True)
