"""Config keys: each defined once, with a comment, a type and a range; the files in configs/ resolve to what they did."""

import dataclasses
import importlib.util
import subprocess
import sys
import textwrap

import pytest
import tiny
from ml_collections import ConfigDict

from genseg import csp, keys, nets, optim, recipes, tasks, windows
from genseg.checkpoints.saver import ON_ERROR
from genseg.config import listing
from genseg.data import DATASETS
from genseg.data.augment import resizing
from genseg.errors import UserError
from genseg.keys import above, at_least, each, key
from genseg.nets import stem
from genseg.recipes import pretrain, resolve, segment

_spec = importlib.util.spec_from_file_location("golden_configs", tiny.ROOT / "tests" / "golden" / "configs.py")
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


@pytest.mark.parametrize(("name", "variant"), list(golden.stored()))
def test_files_resolve_to_the_values_of_before_their_keys_moved(name, variant):
    old, config = golden.stored()[name, variant], golden.load(name, variant)
    new = golden.flat(config.to_dict())
    assert {key: new.get(key) for key in old} == old
    known = resolve.definitions(recipes.TASKS[config.task], config.data.name)
    for added in new.keys() - old.keys():
        assert known[added].added_later, f"{added} needs before=, the value that means what was done without it"
        assert new[added] == repr(known[added].before), added


def test_every_file_and_every_recipe_is_stored():
    assert {path.stem for path in golden.CONFIGS.glob("*.py")} == set(golden.VARIANTS)
    assert all(set(variants) == set(golden.VARIANTS[name]) for name, variants in golden.table().items())


@pytest.mark.parametrize("task", recipes.TASKS)
def test_every_key_of_a_task_has_a_comment_and_a_fitting_default(task):
    for name, definition in keys.of(recipes.TASKS[task]).items():
        assert definition.comment, name
        assert definition.wanted, name
        assert definition.default is ... or definition.fits(definition.default), name
        assert not definition.fits(None), name


def test_choices_are_those_of_the_code():
    def choices(config, name):
        rules = keys.of(config.Config)[name].rules
        return set(rules[0].words.split("one of ")[1].split(", "))

    assert choices(pretrain, "init.stem") == set(stem.RULES)
    assert choices(pretrain, "csp.objective") == set(tasks.OBJECTIVES)
    assert choices(pretrain, "csp.fill") == set(csp.FILLS) and choices(pretrain, "csp.per") == set(csp.PERS)
    assert choices(pretrain, "eval.orders") == set(tasks.ORDERS)
    assert choices(pretrain, "augment.interpolation") == set(resizing.INTERPOLATIONS)
    assert choices(pretrain, "optim.scaling") == {"none", *optim.SCALING_POWERS}
    assert choices(pretrain, "checkpoint.on_error") == set(ON_ERROR)
    assert choices(segment, "eval.mode") == set(windows.MODES) and choices(segment, "eval.blend") == set(windows.BLENDS)
    assert set(recipes.upernet.BACKBONES) <= set(nets.BACKBONES)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optim": {"learning_rate": -1.0}}, "config.optim.learning_rate is -1.0: give a number of at least 0"),
        ({"optim": {"b1": 2.0}}, "config.optim.b1 is 2.0: give a number from 0 to below 1"),
        ({"train": {"epochs": float("nan")}}, "config.train.epochs is nan: give a number of at least 0"),
        ({"train": {"batch_size": True}}, "config.train.batch_size is True: give a whole number of at least 1"),
        ({"mixing": {"group": 3}}, "config.mixing.group is 3: give a whole number of at least 2 that is even"),
        ({"init": {"stem": "foo"}}, "config.init.stem is 'foo': give one of exact, universal, "),
        (
            {"augment": {"scale": (0.0, 0.0)}},
            "config.augment.scale is (0.0, 0.0): give two numbers, each above 0 and at most 1",
        ),
        ({"augment": {"scale": (0.9, 0.1)}}, "the smaller first"),
        ({"augment": {"scale": (0.5,)}}, "config.augment.scale is (0.5,): give two numbers"),
        (
            {"csp": {"channels": (3, 3)}},
            "config.csp.channels is (3, 3): give a whole number or a tuple of whole numbers",
        ),
        ({"csp": {"channels": "abc"}}, "config.csp.channels is 'abc'"),
        ({"eval": {"orders": ("reversed",)}}, "with fixed among them"),
        ({"optim": {"no_decay": ("(",)}}, "a regular expression"),
        ({"optim": {"lr": 1.0}}, "unknown config key config.optim.lr; genseg/recipes/ has all keys there are"),
        ({"train": {"epoch": 1.0}}, "unknown config key config.train.epoch; did you mean config.train.epochs?"),
        ({"erasing": {"min_area": 0.5, "max_area": 0.4}}, None),
        ({"optm": {"b1": 0.9}}, "unknown config key config.optm"),
        ({"optim": 3}, "config.optim is 3: it is a section"),
        ({"data": {"name": "cifar"}}, "There is no data set 'cifar'"),
    ],
)
def test_what_does_not_fit_is_named(values, sentence):
    base = tiny.load("demo_pretrain").to_dict()
    if sentence is None:  # two keys that contradict each other: said by the section itself
        with pytest.raises(UserError, match="min_area"):
            pretrain.Erasing(**base["erasing"] | values["erasing"])
        return
    with pytest.raises(UserError) as told:
        pretrain.config(base, values)
    assert sentence in str(told.value)


def test_what_a_job_must_say():
    with pytest.raises(UserError, match=r"config\.data\.name is not set"):
        segment.config()
    with pytest.raises(UserError, match=r"config\.train\.batch_size is not set: give a whole number of at least 1"):
        segment.config(data=dict(name="mfnet"))


def test_windows_that_a_job_does_not_name_are_those_of_maps():
    """The training crop, every half of it; whoever scores whole images need not name any."""
    base = {"data": {"name": "mfnet"}, "model": {"backbone": "convnext_tiny"}, "optim": {"learning_rate": 1e-4}}
    base |= {"train": {"batch_size": 8}, "augment": {"size": (96, 65)}}
    config = segment.config(base, eval=dict(batch_size=2))
    assert (config.eval.mode, config.eval.crop, config.eval.stride) == ("whole", (96, 65), (48, 32))
    config = segment.config(base, eval=dict(batch_size=2, mode="slide", crop=(64, 64)))
    assert (config.eval.crop, config.eval.stride) == ((64, 64), (32, 32))
    assert segment.config(base, eval=dict(batch_size=2, stride=(9, 8))).eval.stride == (9, 8)
    with pytest.raises(UserError, match=r"config\.augment\.size is 96: give two whole numbers"):
        segment.config(base, augment=dict(size=96), eval=dict(batch_size=2))
    with pytest.raises(UserError, match=r"config\.eval is 3: it is a section"):
        segment.config(base, eval=3)


def test_whole_numbers_stand_for_numbers():
    """So that a later --config.train.epochs=0.5 finds a number, however the file wrote it."""
    config = pretrain.config(tiny.load("demo_pretrain").to_dict(), train=dict(epochs=3), augment=dict(scale=[1, 1]))
    assert repr(config.train.epochs) == "3.0" and config.augment.scale == (1.0, 1.0)


def test_complete_takes_every_resolved_config_and_names_what_is_missing():
    config = tiny.load("demo_segment")
    assert recipes.complete(config).to_dict() == config.to_dict() and recipes.complete(config).is_locked
    for missing in ("task", "data", "optim", "data.name", "optim.b1", "data.size"):
        plain = config.to_dict()
        *sections, last = missing.split(".")
        place = plain
        for section in sections:
            place = place[section]
        del place[last]
        with pytest.raises(UserError, match=rf"config\.{missing}[. \w]* is missing"):
            recipes.complete(ConfigDict(plain))


def test_a_moved_key_is_answered_with_its_new_name(monkeypatch):
    monkeypatch.setitem(resolve.MOVED, "train.lr", "optim.learning_rate")
    plain = tiny.load("demo_segment").to_dict()
    plain["train"]["lr"] = 0.1
    with pytest.raises(UserError, match=r"config\.train\.lr; it is now config\.optim\.learning_rate"):
        recipes.complete(ConfigDict(plain))


def test_a_key_added_later_means_what_was_done_before(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Loss(segment.Loss):
        novel: tuple[float, ...] = key((2.0,), "a new term", each(at_least(0)), before=())

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(segment.Config):
        loss: Loss

    old = tiny.load("demo_segment").to_dict()
    monkeypatch.setitem(recipes.TASKS, "segment", Config)
    assert recipes.complete(ConfigDict(old)).loss.novel == () and recipes.completed(old)["loss"]["novel"] == ()
    assert resolve.resolve(Config, old).loss.novel == (2.0,)
    assert "novel" not in old["loss"]


def test_enforce_checks_a_section_that_is_built_by_hand():
    @dataclasses.dataclass(frozen=True)
    class Part:
        share: float = key(0.5, "a share", above(0))

        def __post_init__(self):
            keys.enforce(self, "part")

    with pytest.raises(UserError, match=r"config\.part\.share is -1: give a number above 0"):
        Part(-1)


def test_a_users_own_file_outside_of_the_project(tmp_path):
    """The definitions come with the package: nothing is read from a folder configs/."""
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
            from genseg.recipes import segment, upernet

            def get_config():
                return segment.config(
                    upernet.published("swin_tiny"),
                    data=dict(name="folder_segmentation", bands=("red", "nir"), classes=("a", "b")),
                    augment=dict(size=(64, 64)),
                    train=dict(batch_size=4, steps=10),
                    eval=dict(batch_size=4, crop=(64, 64), stride=(32, 32)),
                )
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "genseg.main", f"--config={file}", "--workdir=run", "--config.optim.b2=1.5"],
        cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tiny.ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == "error: config.optim.b2 is 1.5: give a number from 0 to below 1"
    assert not (tmp_path / "run").exists()


def test_the_listing_has_every_key():
    config = tiny.load("small_segment", "mfnet")
    known = resolve.definitions(segment.Config, "folder_segmentation")
    shown = listing(config)
    assert all(f"  {name}" in shown for name in known)


@pytest.mark.parametrize("name", DATASETS)
def test_every_key_of_a_data_set_has_a_comment_and_a_fitting_default(name):
    for field, definition in keys.of(DATASETS[name]).items():
        assert definition.comment and definition.wanted, field
        assert definition.fits(definition.default) and not definition.fits(None), field
    assert resolve.definitions(segment.Config, name)["data.name"].default is ...
