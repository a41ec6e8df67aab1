"""Weights & Biases and MLflow as a run drives them, by modules in their place that note what they are told."""

import sys
import types

import numpy as np
import pytest

from genseg import recipes
from genseg.config import load_file
from genseg.errors import UserError
from genseg.report import trackers, writing


class Noted(types.ModuleType):
    """A module, or a run of it, any function of which notes its call and gives the module back."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []
        self.info = types.SimpleNamespace(run_id="abc")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def note(*args, **options):
            self.calls.append((name, args, options))
            return self

        return note

    def of(self, name):
        return [(args, options) for called, args, options in self.calls if called == name]


CONFIG = {"seed": 3, "optim": {"learning_rate": 0.1}}


@pytest.fixture
def services(monkeypatch):
    found = {name: Noted(name) for name in trackers.KINDS}
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def sent(workdir, step):
    writers = writing.Writers(str(workdir), step=step, active=True, trackers=tuple(trackers.KINDS), config=CONFIG)
    writers.scalars(step + 1, {"train/loss": 0.5})
    writers.image(step + 1, "val/samples", np.zeros((2, 2, 3), np.uint8))
    writers.close()


def test_scalars_pictures_and_config_arrive_and_a_run_goes_on(tmp_path, services):
    sent(tmp_path, 0)
    sent(tmp_path, 1)
    wandb, mlflow = services["wandb"], services["mlflow"]
    (_, first), (_, second) = wandb.of("init")
    assert first["id"] == second["id"] and first["config"] == CONFIG and first["name"] == tmp_path.name
    assert wandb.of("log")[0] == (({"train/loss": 0.5},), {"step": 1}) and len(wandb.of("finish")) == 2
    assert [options for _, options in mlflow.of("start_run")] == [{"run_name": tmp_path.name}, {"run_id": "abc"}]
    assert mlflow.of("log_params") == [(({"seed": "3", "optim.learning_rate": "0.1"},), {})]
    assert mlflow.of("log_metrics")[1] == (({"train/loss": 0.5},), {"step": 2})
    assert mlflow.of("log_image")[0][1] == {"artifact_file": "val/samples_1.png"} and len(mlflow.of("end_run")) == 2


def test_none_is_imported_unless_asked_for_nor_outside_the_main_process(tmp_path, services):
    writing.Writers(str(tmp_path), step=0, active=True).close()
    writing.Writers(str(tmp_path), step=0, active=False, trackers=("wandb",), config=CONFIG).close()
    assert not services["wandb"].calls and not services["mlflow"].calls


@pytest.mark.parametrize(
    ("name", "mend"), [("wandb", "WANDB_MODE=offline"), ("mlflow", "MLFLOW_ALLOW_FILE_STORE=true")]
)
def test_a_service_that_does_not_start_is_one_sentence(name, mend, tmp_path, services, monkeypatch):
    def refuses(*_, **__):
        raise ValueError("no key\n  is configured")

    monkeypatch.setattr(services[name], {"wandb": "init", "mlflow": "set_experiment"}[name], refuses, raising=False)
    with pytest.raises(UserError, match=rf"{name} does not start \(no key is configured\); .*{mend}"):
        trackers.started((name,), tmp_path, CONFIG)


def test_what_is_not_installed_or_not_known_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not there
    with pytest.raises(UserError, match=r"names wandb, which is not installed; pip install 'genseg\[trackers\]'"):
        trackers.started(("wandb",), tmp_path, CONFIG)
    config = load_file("demo_segment")
    config.report.trackers = ("neptune",)
    with pytest.raises(UserError, match=r"config.report.trackers"):
        recipes.complete(config)
