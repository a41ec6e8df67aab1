"""Every key of every config, given anything at all: a sentence that names the key, or a value that is sound. In-process."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from genseg import keys, recipes
from genseg.config import load_file
from genseg.data import DATASETS
from genseg.errors import UserError
from genseg.recipes import resolve

CONFIGS = {"pretrain": "demo_pretrain", "segment": "demo_segment"}
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2, 1e300, -0.0, 1 << 70, float("nan"), float("inf")])
)
SIMPLE = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=4), st.binary(max_size=3), st.just(...))
ANYTHING = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)  # fmt: skip


def definitions() -> list[tuple[str, keys.Key]]:
    """Of both tasks with their demo data, and of every data set."""
    found = []
    for task, data in (("pretrain", "demo_classification"), ("segment", "demo_segmentation")):
        found += resolve.definitions(recipes.TASKS[task], data).items()
    for name, kind in DATASETS.items():
        found += [(f"data.{key} ({name})", definition) for key, definition in keys.of(kind).items()]
    return found


@pytest.mark.parametrize("part", range(4))
@given(data=st.data())
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_any_value_is_taken_or_refused_in_words(part, data):
    name, definition = data.draw(st.sampled_from(definitions()[part::4]))
    value = data.draw(ANYTHING)
    try:
        keys.refuse_misfit(f"config.{name}", definition, value)
    except UserError as error:
        assert str(error).startswith(f"config.{name} is ") and ": give " in str(error)


def test_elements_of_the_wrong_type_are_refused():
    """In tuples and mappings too; a key that takes anything has no such element."""
    for name, definition in definitions():
        for wrong in (object(), float("nan"), (object(),), {"a": object()}, [[[[]]]], {1: 2}):
            assert not definition.fits(wrong) or "Any" in str(definition.hint), (name, wrong)


@pytest.fixture(scope="module")
def whole():
    return {task: load_file(file).to_dict() for task, file in CONFIGS.items()}


@pytest.mark.parametrize("task", CONFIGS)
def test_configs_without_a_section_or_with_a_surplus_key(whole, task):
    known = resolve.definitions(recipes.TASKS[task], whole[task]["data"]["name"])
    for section, value in whole[task].items():
        own = [definition for name, definition in known.items() if f"{name}.".startswith(f"{section}.")]
        changes = {"nothing": None, "a number": 5.5}
        if not all(definition.added_later for definition in own):
            changes["missing"] = ...
        if isinstance(value, dict):
            changes["surplus"] = {**value, "nosuch": 1}
        for change, new in changes.items():
            plain = copy.deepcopy(whole[task])
            plain[section] = new
            if change == "missing":
                del plain[section]
            with pytest.raises(UserError) as said:
                recipes.complete(ConfigDict(plain))
            assert "config." in str(said.value), (section, change)
