"""config.train.patience: training ends where scores stop rising, and a run started again knows that it has ended."""

import json

import tiny

import genseg.train
from genseg import nets

SCORES = (0.1, 0.5, 0.4, 0.45, 0.9, 0.9)


def test_training_stops_after_evaluations_without_a_better_score_and_stays_stopped(tmp_path, monkeypatch):
    seen = []

    class Evaluator:
        notes = ()

        def __init__(self, *_):
            pass

        def __call__(self, state, step, *, final):
            seen.append((step, final))
            return {"miou": SCORES[step - 1]}

    monkeypatch.setattr(genseg.train, "Evaluator", Evaluator)
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(tmp_path / "data")
    config.train.steps, config.train.patience, config.eval.every, config.ema.decay = 6, 2, 1, 0.0
    result = genseg.train.train(config, str(tmp_path / "run"))
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert result["step"] == 4 and result["best_step"] == 2 and result["scores"] == {"miou": 0.45}
    seen.clear()
    genseg.train.train(config, str(tmp_path / "run"))  # as a job that is started again until it ends
    assert seen == [(4, True)]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 4
