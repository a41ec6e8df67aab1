"""config.train.patience: training ends where scores stop rising, and a run started again knows that it has ended."""

import json

import pytest
import tiny

import genseg.train
from genseg import nets
from genseg.errors import TryAgain
from genseg.validation import ToldToEnd

SCORES = (0.1, 0.5, 0.4, 0.45, 0.9, 0.9)


@pytest.fixture
def scored(monkeypatch):
    """Evaluations give SCORES; the list of those made, (step, final). `told` (step, final): the next such one is told to end."""
    made = []

    class Evaluator:
        notes, told = (), None

        def __init__(self, *_):
            pass

        def __call__(self, state, step, *, final):
            if Evaluator.told == (step, final):
                Evaluator.told = None
                raise ToldToEnd
            made.append((step, final))
            return {"miou": SCORES[step - 1]}

    monkeypatch.setattr(genseg.train, "Evaluator", Evaluator)
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    return made, Evaluator


def config_of(data, ema: float):
    config = tiny.segment(data)
    config.train.steps, config.train.patience, config.eval.every, config.ema.decay = 6, 2, 1, ema
    return config


def test_training_stops_after_evaluations_without_a_better_score_and_stays_stopped(tmp_path, scored):
    made, _ = scored
    config = config_of(tmp_path / "data", ema=0.0)
    result = genseg.train.train(config, str(tmp_path / "run"))
    assert [step for step, _ in made] == [1, 2, 3, 4]
    assert result["step"] == 4 and result["best_step"] == 2 and result["scores"] == {"miou": 0.45}
    made.clear()
    genseg.train.train(config, str(tmp_path / "run"))  # as a job that is started again until it ends
    assert made == [(4, True)]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    ("ema", "told"),
    [(0.0, (4, False)), pytest.param(0.9, (4, False), marks=pytest.mark.slow), (0.9, (4, True))],
)
def test_told_to_end_in_its_last_evaluation_it_stops_at_the_same_step(tmp_path, scored, ema, told):
    made, evaluator = scored
    evaluator.told = told
    config = config_of(tmp_path / "data", ema)
    with pytest.raises(TryAgain, match="the same command goes on"):
        genseg.train.train(config, str(tmp_path / "run"))
    result = genseg.train.train(config, str(tmp_path / "run"))
    assert result["step"] == 4 and result["best_step"] == 2 and result["scores"] == {"miou": 0.45}
    assert [step for step, final in made if not final] == [1, 2, 3, 4]
    assert [step for step, final in made if final] == ([4] if ema else [])
