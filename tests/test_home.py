""" "~" is the home directory in every path that a user gives, on command lines, in configs and in lists."""

import pwd

import pytest
import tifffile
import tiny

import genseg
from genseg import api, demo, predict, seen, train
from genseg.checkpoints import load_weights
from genseg.checkpoints.layout import absolute
from genseg.data import prepare, show
from genseg.data.batches import pipeline
from genseg.errors import UserError
from genseg.exchange import __main__ as exchange
from genseg.inputs import open_inputs
from genseg.outputs import cache_dir
from genseg.predict.scenes import scenes_of
from genseg.report import __main__ as report
from genseg.score import __main__ as score
from genseg.study import __main__ as study
from tests.data import made

OWN = ["folder_segmentation", "--image_pattern=train/img/tile_{id}.tif", "--mask_pattern=train/mask/mask_{id}.tif",
       "--splits=('train',)", "--bands=('red', 'green', 'blue', 'nir')"]  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with tiles, and another folder to stand in, in which nothing may appear."""
    made.tiles(tmp_path / "home" / "tiles")
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    yield tmp_path / "home"
    assert not any((tmp_path / "cwd").iterdir())


X = "~nosuch/x"
A_CONFIG = "demo_segment"
PLACES = {
    "prepare --source": (prepare.main, [*OWN, f"--source={X}", "--data_dir=d"]),
    "prepare --data_dir": (prepare.main, [*OWN, "--source=~/tiles", "--classes=('a', 'b', 'c')", f"--data_dir={X}"]),
    "prepare --class_table": (prepare.main, [*OWN, "--source=~/tiles", "--data_dir=~/d", f"--class_table={X}"]),
    "prepare --split_lists": (
        prepare.main,
        [*OWN, "--source=~/tiles", "--data_dir=~/d", "--classes=('a',)", f"--split_lists={{'train': '{X}'}}"],
    ),
    "prepare, in a list": (
        prepare.main,
        [*OWN, "--source=~/tiles", "--data_dir=~/d", "--classes=('a',)", "--split_lists={'train': '~/bad.csv'}"],
    ),
    "imagenet --source": (prepare.main, ["imagenet2012", f"--source={X}", "--data_dir=~/d"]),
    "show --output": (show.main, [*OWN, "--source=~/tiles", "--data_dir=~/d", f"--output={X}"]),
    "predict --checkpoint": (predict.main, [f"--checkpoint={X}", "--out=~/o", "~/tiles/train/img/tile_0.tif"]),
    "predict --out": (predict.main, ["--checkpoint=~/c", f"--out={X}", "~/tiles/train/img/tile_0.tif"]),
    "predict SCENE": (predict.main, ["--checkpoint=~/c", "--out=~/o", X]),
    "predict FILE+FILE": (predict.main, ["--checkpoint=~/c", "--out=~/o", f"~/tiles/train/img/tile_0.tif+{X}"]),
    "predict --from": (predict.main, ["--checkpoint=~/c", "--out=~/o", f"--from={X}"]),
    "predict, in a list": (predict.main, ["--checkpoint=~/c", "--out=~/o", "--from=~/bare.csv"]),
    "score --masks": (score.main, ["--maps", "--out=~/o", f"--masks={X}", "~/tiles/train/img"]),
    "score --pairs": (score.main, ["--maps", "--out=~/o", f"--pairs={X}"]),
    "score, in a list": (score.main, ["--maps", "--out=~/o", "--pairs=~/bare.csv"]),
    "score --classes": (score.main, ["--maps", "--out=~/o", "--masks=~/tiles", f"--classes={X}", "~/tiles"]),
    "score --checkpoint": (score.main, [f"--checkpoint={X}", "--out=~/o", "--masks=~/tiles", "~/tiles/train/img"]),
    "score --out": (score.main, ["--maps", f"--out={X}", "--masks=~/tiles"]),
    "report RUN": (report.main, [X, "--out=~/o"]),
    "report --out": (report.main, ["~/run", f"--out={X}"]),
    "import --input": (exchange.main, ["import", f"--input={X}", "--output=~/o", "--backbone=convnext_tiny"]),
    "import --output": (exchange.main, ["import", "--input=~/i", f"--output={X}", "--backbone=convnext_tiny"]),
    "import --card": (exchange.main, ["import", "--input=~/i", f"--card={X}", "--output=~/o", "--backbone=convnext_tiny"]),
    "export --checkpoint": (exchange.main, ["export", f"--checkpoint={X}", "--output=~/o", "--format=timm"]),
    "export --output": (exchange.main, ["export", "--checkpoint=~/c", f"--output={X}", "--format=timm"]),
    "study STUDY": (study.main, [X, "--out=~/o"]),
    "study --out": (study.main, [str(tiny.ROOT / "studies" / "csp_small.py"), f"--out={X}", "--list"]),
    "study --source": (study.main, [str(tiny.ROOT / "studies" / "csp_small.py"), "--out=~/o", f"--source=a={X}", "--list"]),
    "study --data-dir": (study.main, [str(tiny.ROOT / "studies" / "csp_small.py"), "--out=~/o", f"--data-dir={X}", "--list"]),
    "demo --out": (demo.main, [f"--out={X}"]),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_such_home_is_one_sentence_at_every_option(place, home, capsys):
    (home / "bad.csv").write_text(f"image,mask\n{X},{X}\n")
    (home / "bare.csv").write_text(f"{X},{X}\n")
    command, arguments = PLACES[place]
    assert command(arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "~nosuch/x: there is no such home directory; write the whole path" in errors[-1]
    assert errors[-1].startswith("error: ") and not any(line.startswith("Traceback") for line in errors)


@pytest.mark.parametrize(
    "call",
    [
        lambda: api.load_config(f"{X}.py"),
        lambda: train.train(api.load_config(A_CONFIG), X),
        lambda: seen.run(api.load_config(A_CONFIG, {"data.data_dir": X}), "~/w"),
        lambda: open_inputs(api.load_config(A_CONFIG, {"data.data_dir": X})),
        lambda: absolute(X),
        lambda: load_weights(X, ema=False),
    ],
    ids=[
        "--config",
        "--workdir",
        "config.data.data_dir of seen",
        "config.data.data_dir",
        "config.checkpoint.dir",
        "checkpoint",
    ],
)
def test_no_such_home_is_one_sentence_in_configs(call, home):
    with pytest.raises(UserError, match="~nosuch/x.*: there is no such home directory"):
        call()


@pytest.mark.slow
def test_a_whole_way_below_home(home, narrow_micro):
    """Preparation by a table and lists, training, a start from it, maps of several kinds of scenes, scores."""
    (home / "classes.csv").write_text("id,name\n0,a\n1,b\n2,c\n")
    rows = "".join(f"~/tiles/train/img/tile_{i}.tif,~/tiles/train/mask/mask_{i}.tif\n" for i in range(3))
    (home / "train.csv").write_text("image,mask\n" + rows)
    arguments = [*OWN, "--source=~/tiles", "--class_table=~/classes.csv", "--split_lists={'train': '~/train.csv'}"]
    assert prepare.main([*arguments, "--data_dir=~/data"]) == 0
    assert show.main([*arguments, "--data_dir=~/data", "--output=~/sheet.png"]) == 0
    (copy,) = (p for p in (home / "data").iterdir() if not p.name.startswith("."))
    assert len(pipeline.open_split(copy, "train")) == 3 and (home / "sheet.png").is_file()

    config = tiny.segment("~/data")
    config.train.steps, config.train.warmup_steps, config.report.panels = 1, 0, 0
    config.model.head_channels, config.model.aux_channels = 16, 8
    config.checkpoint.dir = "~/kept"
    genseg.finetune(config, "~/run")
    assert (home / "run" / "result.json").is_file() and (home / "kept" / "checkpoints").is_dir()

    (home / "scenes.csv").write_text("~/tiles/val/img/tile_1.tif\n")
    scenes = ["~/tiles/val/img/tile_0.tif", "~/tiles/val/img/*_2.tif"]
    assert predict.main(["--checkpoint=~/kept", "--out=~/maps", "--from=~/scenes.csv", *scenes]) == 0
    assert {p.name for p in (home / "maps").glob("*_classes.tif")} == {f"tile_{i}_classes.tif" for i in range(3)}
    (home / "pairs.csv").write_text("~/maps/tile_0_classes.tif,~/maps/tile_0_classes.tif\n")
    assert score.main(["--maps", "--pairs=~/pairs.csv", "--out=~/scores"]) == 0
    assert report.main(["~/run", "--out=~/report"]) == 0 and (home / "report" / "runs.html").is_file()


def test_names_that_begin_with_a_tilde_are_names(home):
    """Office programs leave "~$scene.tif"; a file of that name is meant where it is there."""
    image, _ = made.scene(0, 4, "uint8", (24, 24), 3)
    (home / "x").mkdir()
    tifffile.imwrite(home / "x" / "~$a.tif", image)
    (home / "x" / "list.csv").write_text("~$a.tif\n")
    (scene,) = scenes_of([], ["~/x/list.csv"])
    assert scene.files == ((home / "x" / "~$a.tif", ()),)


def test_a_user_without_a_home(home, monkeypatch, capsys):
    """As in a container that runs with any user id: what needs no home works, and "~" is one sentence."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    arguments = [*OWN, f"--source={home / 'tiles'}", "--classes=('a','b','c')"]
    assert prepare.main([*arguments, f"--data_dir={home / 'data'}"]) == 0
    assert prepare.main([*arguments, "--data_dir=~/data"]) == 2
    assert capsys.readouterr().err.endswith(
        "error: --data_dir is ~/data: there is no such home directory; write the whole path\n"
    )
    with pytest.raises(UserError, match="XDG_CACHE_HOME is ~/.cache: there is no such home"):
        cache_dir()
