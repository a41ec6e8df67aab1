"""A network sees data through its own card; data of another kind is refused; nobody writes into pixels that are shared."""

import dataclasses

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg import inputs
from genseg.data.batches import pipeline
from genseg.data.card import Band, DatasetCard
from genseg.data.compare_cards import card_for_network
from genseg.errors import UserError

NETWORK = DatasetCard(
    "trained", "segmentation", (Band("red", 100.0, 20.0, 0.0, 255.0), Band("nir", 50.0, 10.0, 0.0, 255.0)),
    ("soil", "tree"), ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {"train": 3}, "none", True,
)  # fmt: skip
DATA = dataclasses.replace(
    NETWORK, name="new", splits={"test": 9},
    bands=(Band("red", 104.0, 22.0, nodata=0.0), Band("nir", 200.0, 9.0, nodata=0.0)),
)  # fmt: skip


def test_statistics_are_the_networks_and_the_rest_is_the_datas():
    card = card_for_network(NETWORK, DATA)
    assert [(b.mean, b.std, b.nodata) for b in card.bands] == [(100.0, 20.0, 0.0), (50.0, 10.0, 0.0)]
    assert (card.name, card.splits) == ("new", {"test": 9})
    assert len(card.notes) == 1 and "nir (mean 50" in card.notes[0] and "red" not in card.notes[0]
    assert card_for_network(NETWORK, NETWORK) is NETWORK


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bands": NETWORK.bands[::-1]}, "Band 0 is 'red' for the network, but 'nir' in new"),
        ({"bands": NETWORK.bands[:1]}, "2 band name"),
        ({"classes": ("tree", "soil")}, "Class 0 is 'soil' for the network, but 'tree' in new"),
        ({"dtype": "uint16"}, "uint8 pixels, but new holds uint16"),
        ({"task": "classification"}, "trained for segmentation"),
    ],
)
def test_data_of_another_kind_is_refused(change, says):
    with pytest.raises(UserError, match=says):
        card_for_network(NETWORK, dataclasses.replace(DATA, **change))


def test_an_evaluation_opens_data_through_the_networks_card(tmp_path):
    """Both splits, since training's is what the card is read from and the other is what is scored."""
    config = tiny.segment(tmp_path / "data")
    own = inputs.open_inputs(config).card
    network = dataclasses.replace(
        own, bands=tuple(dataclasses.replace(band, mean=band.mean + 1, std=2 * band.std) for band in own.bands)
    )
    data = inputs.open_inputs(config, network)
    assert [(b.mean, b.std) for b in data.card.bands] == [(b.mean + 1, 2 * b.std) for b in own.bands]
    assert data.eval_split.card == data.card


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 7.0, np.nan]), min_size=8, max_size=8),
    nodata=st.sampled_from([None, 0.0, 7.0]),
)
def test_filling_leaves_its_input_as_it_was(values, nodata):
    image = np.array(values, np.float32).reshape(2, 2, 2)
    before = image.copy()
    card = dataclasses.replace(NETWORK, bands=tuple(dataclasses.replace(b, nodata=nodata) for b in NETWORK.bands))
    out = pipeline.filled(image, card)
    np.testing.assert_array_equal(image, before)
    marked = before == (np.nan if nodata is None else nodata)
    if nodata == 0:  # a dark value of one band is a measurement
        marked[:] = marked.all(axis=2, keepdims=True)
    for band, fill in enumerate(card.fill):
        missing = np.isnan(before[..., band]) | marked[..., band]
        np.testing.assert_array_equal(out[..., band], np.where(missing, np.float32(fill), before[..., band]))
