"""What is left of an image without a band, by the definitions, and the table of a network that sees one band alone."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from genseg import band_use, train
from genseg.data.card import Band, DatasetCard
from genseg.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_micro")

CARD = DatasetCard(
    "made", "segmentation", tuple(Band(n, mean=10.0 * i + 5, std=1.0 + i) for i, n in enumerate(("red", "blue", "nir"))),
    ("a", "b"), ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {"val": 3}, "none", True,
)  # fmt: skip
IMAGE = np.random.default_rng(0).integers(0, 200, (30, 40, 3)).astype(np.uint8)


def test_each_way_takes_the_band_as_said_and_leaves_the_others():
    for way in band_use.WAYS:
        out = band_use.taken(IMAGE, 1, way, CARD, 5)
        assert out.dtype == np.float32 and out.shape == IMAGE.shape
        np.testing.assert_array_equal(out, band_use.taken(IMAGE, 1, way, CARD, 5))
        others, before = out[..., [0, 2]], IMAGE[..., [0, 2]].astype("f4")
        if way == "absent":
            mean = np.array([5.0, 25.0])
            np.testing.assert_allclose(others - mean, (before - mean) * 3 / 2, rtol=1e-5)
        else:
            np.testing.assert_array_equal(others, before)
    band = {way: band_use.taken(IMAGE, 1, way, CARD, 5)[..., 1] for way in band_use.WAYS}
    assert (band["zero"] == 0).all() and (band["mean"] == 15).all() and (band["absent"] == 15).all()
    np.testing.assert_array_equal(np.sort(band["permuted"].ravel()), np.sort(IMAGE[..., 1].ravel()))
    assert (band["permuted"] != IMAGE[..., 1]).mean() > 0.9
    assert (band["noised"] - IMAGE[..., 1]).std() == pytest.approx(2, rel=0.1)
    assert not np.array_equal(band["permuted"], band_use.taken(IMAGE, 1, "permuted", CARD, 6)[..., 1])


def test_red_and_blue_change_places_after_normalisation():
    out, normal = band_use.swapped(IMAGE, 0, 1, CARD), (IMAGE.astype("f4") - CARD.mean) / CARD.std
    np.testing.assert_allclose((out - CARD.mean) / CARD.std, normal[..., [1, 0, 2]], atol=1e-4)


def test_red_and_blue_are_found_in_any_case_of_letters():
    card = dataclasses.replace(CARD, bands=tuple(Band(name) for name in ("Blue", "nir", "RED")))
    assert band_use.passes(card)[-1] == ("red, blue", "swapped")
    data = band_use.Without(SimpleNamespace(card=card, config=None, eval_split=None))
    data.band, data.way = band_use.passes(card)[-1]
    np.testing.assert_allclose(data._altered(IMAGE, 0), IMAGE[..., [2, 1, 0]], atol=1e-4)


def test_batches_and_records_are_altered_alike():
    source = SimpleNamespace(card=CARD, config=None, eval_split=None)
    source.eval_batches = lambda: [{"image": IMAGE[None], "index": np.array([7])}]
    source.eval_records = lambda: [{"image": IMAGE, "index": 7}]
    data = band_use.Without(source)
    for data.band, data.way in (("nir", "noised"), ("red, blue", "swapped")):
        np.testing.assert_array_equal(next(data.eval_batches())["image"][0], next(data.eval_records())["image"])


def test_a_checkpoint_without_each_band(tmp_path, monkeypatch):
    monkeypatch.setattr(band_use, "WAYS", ("mean", "absent"))  # each is a pass over the split
    config = tiny.segment(tmp_path / "data")
    config.report.panels = 0
    said = train.train(config.lock(), str(tmp_path / "run"))["scores"]
    rows = band_use.run(config, str(tmp_path / "run"))
    bands = list(dict.fromkeys(row.band for row in rows if row.band))
    assert rows[0].scores["miou"] == pytest.approx(said["miou"])
    assert {row.way for row in rows if row.band == bands[0]} == set(band_use.WAYS)
    table = list(csv.DictReader((tmp_path / "run" / "band_use.csv").open()))
    assert len(table) == len(rows) and table[0]["miou lost"] == "+0.00"
    assert json.loads((tmp_path / "run" / "band_use.json").read_text())["synthetic"]
    assert (tmp_path / "run" / "pictures" / "band_use.png").stat().st_size > 5000
    with pytest.raises(UserError, match="use --mode=eval"):
        band_use.run(tiny.pretrain(tmp_path), str(tmp_path / "run"))
