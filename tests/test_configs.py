"""The four fine-tuning recipes run on their fixtures in official layout, and agree where they say that they do."""

import json
import sys

import numpy as np
import pytest
import tiny

from genseg import design, nets, optim, plan, train, tree
from genseg.config import load_file
from genseg.data.sets import mfnet, potsdam, pst900, published_names
from genseg.errors import UserError
from tests.data import made

TARGETS = ("isaid", "mfnet", "pst900", "potsdam")


@pytest.fixture
def fixture(monkeypatch, tmp_path):
    """name -> folder in the official layout, with the official lists cut to what is there."""
    monkeypatch.setattr(published_names, "ISAID", {"train": ["P0000", "P0001", "P0002"], "val": ["P0003"]})
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 3, "val": 2, "test": 3})
    monkeypatch.setattr(mfnet, "SIZE", (24, 32))
    monkeypatch.setattr(pst900, "SIZE", (18, 32))
    monkeypatch.setattr(
        published_names, "PST900", {s: n[: 2 if s == "train" else 1] for s, n in published_names.PST900.items()}
    )
    monkeypatch.setattr(potsdam, "SIZE", 40)
    monkeypatch.setitem(potsdam.SPLITS, "official", {"train": ("2_10", "4_12", "6_7"), "test": ("3_13",)})
    make = {
        "isaid": made.isaid, "mfnet": made.mfnet, "pst900": made.pst900, "potsdam": lambda root: made.potsdam(root, 40),
    }  # fmt: skip
    return lambda name: make[name](tmp_path / "raw")


@pytest.mark.parametrize("name", TARGETS)
def test_two_steps_and_an_evaluation(name, fixture, tmp_path, monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "convnext_tiny", tiny.narrow)
    config = tiny.target(name, fixture(name), tmp_path / "data")
    result = train.train(config.lock(), str(tmp_path / "run"))
    channels, classes = {"isaid": (3, 16), "mfnet": (4, 9), "pst900": (4, 5), "potsdam": (5, 5)}[name]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["train/loss"] for line in lines if "train/loss" in line]).all()
    assert result["step"] == 2 and 0 <= result["scores"]["miou"] <= 1 and result["protocol"]
    assert result["inference"] == "whole images, no flips, single scale" and result["notes"] == []
    table = (tmp_path / "run" / "pictures" / f"{config.data.eval_split}_classes.csv").read_text().splitlines()
    assert len(table) == 1 + classes
    card = json.loads((next((tmp_path / "data").glob("*/card.json"))).read_text())
    assert len(card["bands"]) == channels and result["images"] == card["splits"][result["split"]]


@pytest.mark.parametrize("name", TARGETS)
def test_swin_takes_the_same_file(name, fixture, tmp_path):
    """At full size, without computing: patterns match, and the optimiser is Swin's own."""
    config = tiny.target(name, fixture(name), tmp_path / "data", "backbone=swin_tiny")
    run = design.setup(config.lock(), str(tmp_path / "run"))
    decayed = {path for path, _ in tree.items(run.abstract.params) if optim.decays(path, run.optim.no_decay)}
    assert (run.optim.learning_rate, run.optim.weight_decay, run.optim.layer_decay) == (6e-5, 0.01, 1.0)
    assert "backbone/stages/0/blocks/0/mlp/fc1/bias" in decayed and "head/bottleneck/norm/scale" in decayed
    for path in ("backbone/stem/norm/bias", "backbone/stages/1/downsample/norm/scale", "norms/0/scale"):
        assert path not in decayed
    assert "backbone/stages/0/blocks/0/attn/relative_position_bias_table" not in decayed


@pytest.mark.parametrize("backbone", ["convnext_tiny", "convnext_base", "swin_small"])
def test_the_four_recipes_differ_only_where_their_notes_say(backbone):
    plain = {n: tiny.load(f"segment_{n}", f"backbone={backbone}").to_dict() for n in TARGETS}
    reference = plain["isaid"]
    own = {
        "data": None,
        "augment": None,
        "train": None,
        "eval": {"every", "batch_size", "crop", "stride"},
        "optim": {"power"},
    }
    for name, config in plain.items():
        assert config.keys() == reference.keys()
        for key, value in config.items():
            if key not in own:
                assert value == reference[key], (name, key)
            elif own[key] is None:
                assert key == "data" or value.keys() == reference[key].keys(), (name, key)
            else:
                assert {k for k in value if value[k] != reference[key][k]} <= own[key], (name, key)


def test_published_lengths():
    """80k steps of 8 for iSAID and Potsdam (RSP); 500 epochs of 8 for MFNet and PST900 (CMX, Sigma)."""
    for name, images, steps, warmup in (
        ("isaid", 33_978, 80_000, 1500), ("potsdam", 6_144, 80_000, 1500), ("mfnet", 784, 49_000, 980),
        ("pst900", 597, 37_312, 746),
    ):  # fmt: skip
        made_plan = plan.make_plan(tiny.load(f"segment_{name}"), images, 8)
        assert (made_plan.steps, made_plan.warmup_steps) == (steps, warmup), name


@pytest.mark.parametrize("name", TARGETS)
def test_unknown_arguments_are_refused(name):
    with pytest.raises(UserError, match="'backbon=swin_tiny' behind the config's colon"):
        tiny.load(f"segment_{name}", "backbon=swin_tiny")
    with pytest.raises(UserError, match="'resnet50' after the config's colon"):
        tiny.load(f"segment_{name}", "backbone=resnet50")


def test_a_config_imports_what_lies_beside_it(tmp_path, monkeypatch):
    """From any folder, and nothing of the folder stays importable."""
    (tmp_path / "beside_it.py").write_text("STEPS = 7\n")
    (tmp_path / "mine.py").write_text(
        "import beside_it\nfrom ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({'steps': beside_it.STEPS})\n"
    )
    monkeypatch.chdir("/")
    monkeypatch.delitem(sys.modules, "beside_it", raising=False)
    assert load_file(str(tmp_path / "mine.py")).steps == 7
    assert str(tmp_path) not in sys.path
