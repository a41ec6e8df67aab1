"""The functions that `import genseg` gives: those of the command lines, on the demo's drawn scenes."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
import tiny

import genseg
from genseg import main, train
from genseg.config import load_file, refuse_unknown_key
from genseg.data.card import DatasetCard
from genseg.errors import UserError


def test_importing_genseg_imports_nothing_else():
    script = (
        "import sys; before = set(sys.modules); import genseg; print(dir(genseg))\n"
        "assert not {'jax', 'numpy', 'ml_collections', 'genseg.api'} & (set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, cwd=tiny.ROOT, capture_output=True, text=True)
    assert all(name in done.stdout for name in ("pretrain", "finetune", "draw_maps", "load_config", "prepare"))
    with pytest.raises(AttributeError, match="no attribute 'finetuen'"):
        _ = genseg.finetuen


def test_changes_are_what_the_command_line_sets():
    config = genseg.load_config("small_segment:naip", {"optim.learning_rate": 0.5, "data.source": "tiles"})
    assert config.is_locked and config.optim.learning_rate == 0.5 and config.data.source == "tiles"
    assert config.train.batch_size == load_file("small_segment:naip").train.batch_size


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("optim.learning_rte", "config.optim.learning_rte; did you mean 'learning_rate'?"),
        ("trian.steps", "config.trian.steps; did you mean 'train'?"),
        ("data.split_lists.train", r"give it whole, as --config.data.split_lists=\"{'train': \.\.\.}\"$"),
        ("train.steps.max", "config.train.steps is one value"),
        ("optim.qqq", "config.optim has "),
    ],
)
def test_a_wrong_key_is_named_where_it_is_wrong(key, message):
    """On the command line and in Python, and never another key that shares a part of its name."""
    with pytest.raises(UserError, match=message) as caught:
        genseg.load_config("small_segment:naip", {key: 1})
    assert f"unknown config key config.{key};" in str(caught.value)
    with pytest.raises(UserError) as said:
        main.parse(["genseg", "--config=small_segment:naip", f"--config.{key}=1"])
    assert str(said.value) == str(caught.value)
    refuse_unknown_key(load_file("small_segment:naip"), "train.steps")


def test_a_key_that_takes_a_text_or_a_tuple_takes_both():
    """Whichever of the two the config file has."""
    patterns = ("rgb/{id}.png", "thermal/{id}.png")
    for key, value in (("data.image_pattern", patterns), ("data.image_pattern", "img/{id}.png")):
        config = genseg.load_config("small_segment:naip", {key: value})
        assert config.data.image_pattern == value
    assert genseg.load_config("demo_pretrain", {"csp.channels": (3, 4)}).csp.channels == (3, 4)
    with pytest.raises(UserError, match="config.data.image_pattern is 5: give a text or a tuple"):
        genseg.load_config("small_segment:naip", {"data.image_pattern": 5})


def test_values_of_another_type_are_refused():
    with pytest.raises(UserError, match=r"config.train.steps cannot be 'many'"):
        genseg.load_config("demo_segment", {"train.steps": "many"})


def test_the_wrong_task_is_named(tmp_path):
    with pytest.raises(UserError, match="call genseg.finetune"):
        genseg.pretrain(genseg.load_config("demo_segment"), tmp_path)


def test_prepare_takes_values_and_names_what_is_wrong(tmp_path):
    small = {"train_images": 4, "val_images": 2}
    folder = genseg.prepare("demo_segmentation", tmp_path / "data", **small)
    assert folder.is_relative_to(tmp_path / "data") and DatasetCard.read(folder).splits["train"] == 4
    assert genseg.prepare("demo_segmentation", str(tmp_path / "data"), **small) == folder
    for name, fields, message in (
        ("demo", {}, "There is no data set 'demo'"),
        ("mfnet", {"sauce": "x"}, "genseg.prepare has 'sauce', which mfnet does not know"),
        ("demo_segmentation", {"train_images": "many"}, "train_images is 'many'"),
        ("mfnet", {"source": tmp_path / "none"}, "none"),
    ):
        with pytest.raises(UserError, match=message):
            genseg.prepare(name, tmp_path / "data", **fields)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):  # what the system refuses
        genseg.prepare("demo_segmentation", tmp_path / "file", **small)


@pytest.mark.slow
def test_from_drawn_scenes_to_a_map(tmp_path, monkeypatch):
    small = {"data.data_dir": str(tmp_path), "train.steps": 2, "train.warmup_steps": 1, "train.batch_size": 8}
    images = {"data.train_images": 16, "data.val_images": 8, "eval.batch_size": 8}
    first = genseg.load_config("demo_pretrain", small | images | {"train.epochs": 0.0, "train.warmup_epochs": 0.0})
    assert genseg.pretrain(first, tmp_path / "csp")["step"] == 2
    second = genseg.load_config("demo_segment", small | images)
    result = genseg.finetune(second, tmp_path / "run", start=tmp_path / "csp")
    assert result["step"] == 2 and 0 <= result["scores"]["miou"] <= 1
    scene = np.random.default_rng(0).integers(0, 255, (96, 80, 4), np.uint8)
    tifffile.imwrite(tmp_path / "scene.tif", scene, photometric="rgb")
    (made,) = genseg.draw_maps(tmp_path / "run", [tmp_path / "scene.tif"], tmp_path / "maps", crop=(64, 64))
    assert tifffile.imread(made).shape == (96, 80)
    with pytest.raises(UserError):
        genseg.draw_maps(tmp_path / "run", [tmp_path / "none.tif"], tmp_path / "maps")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "loop", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the last checkpoint is of step 2"):
        genseg.finetune(second, tmp_path / "run", start=tmp_path / "csp")
