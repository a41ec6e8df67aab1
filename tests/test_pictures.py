"""Colours that people of any colour vision tell apart, and legends that are never cut."""

import dataclasses

import cv2
import numpy as np
import pytest

from genseg import seen as seen_by_network
from genseg.data import show
from genseg.data.card import Band, DatasetCard
from genseg.data.files import masks, qgis
from genseg.data.palette import distinct_colours
from genseg.errors import UserError
from genseg.predict import quicklook
from genseg.report import drawing

# Viénot, Brettel and Mollon 1999, of linear RGB: another simulation than the palette was chosen with.
VIENOT = {
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    "none": np.eye(3),
}


def seen(colours, simulation):
    """CIELAB (OpenCV's) of sRGB colours [n, 3], as such eyes see them."""
    share = np.array(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(VIENOT[simulation]), 0, 1)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(shown[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]


@pytest.mark.parametrize("simulation", VIENOT)
@pytest.mark.parametrize(("count", "least"), [(8, 20), (12, 14), (20, 8)])
def test_default_colours_differ_for_every_colour_vision(simulation, count, least):
    """CIE76 differences; 2.3 is what is just noticed side by side."""
    lab = seen([*distinct_colours(count), (255, 255, 255), drawing.IGNORED], simulation)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
    assert apart.min() > least


def test_longer_palettes_begin_with_the_shorter_ones():
    assert distinct_colours(30)[:7] == distinct_colours(7) and len(set(distinct_colours(214))) == 214
    assert len(distinct_colours(250)) == 250 and distinct_colours(1) == ((0, 0, 0),)


def card(names):
    return DatasetCard(
        name="x", task="segmentation", bands=(Band("red", 0, 1, 0, 255),), classes=tuple(names), ignore_label=255,
        palette=distinct_colours(len(names)), scored=(0,), splits={}, protocol="", synthetic=True,
    )  # fmt: skip


@pytest.mark.parametrize("length", [3, 40, 200])
def test_legends_are_never_cut(length):
    """Longer names make another picture as far as their last letter, and end before the border."""
    label = np.zeros((1, 20, 24), np.uint8)
    image = np.zeros((1, 20, 24, 1), np.uint8)

    def drawn(last):
        cards = card(["water", "m" * (length - 1) + last])
        ids = label[0]
        yield drawing.sample_panel(image, label, label, cards)
        yield quicklook.draw(image[0], ids, cards, metres=None, title="t")

    for one, other in zip(drawn("W"), drawn("M"), strict=True):
        assert one.shape[0] == other.shape[0]
        width = min(one.shape[1], other.shape[1])
        different = np.argwhere((one[:, :width] != other[:, :width]).any(axis=(0, 2)))
        assert len(different) or one.shape != other.shape
        legend = one[-45:]
        assert (legend[:, -3:] == 255).all()


def test_a_style_saved_by_qgis_is_a_class_table(tmp_path):
    classes = [(1, "bare ground", (170, 120, 60)), (7, "Wald & Wiese", (0, 110, 40)), (9, "", (9, 9, 9))]
    qgis.write_style(tmp_path / "x.qml", classes)
    table = masks.read_class_table(tmp_path / "x.qml")
    assert table.names == ("bare ground", "Wald & Wiese") and table.ids == (1, 7) and table.ignored_ids == (9,)
    assert table.palette == ((170, 120, 60), (0, 110, 40))
    assert qgis.read_style(tmp_path / "x.qml") == classes
    (tmp_path / "y.qml").write_text("<qgis><pipe/></qgis>")
    with pytest.raises(UserError, match=r"y\.qml has no paletted renderer"):
        masks.read_class_table(tmp_path / "y.qml")
    (tmp_path / "y.qml").write_text("<qgis>")
    with pytest.raises(UserError, match=r"y\.qml cannot be read as a QGIS style"):
        masks.read_class_table(tmp_path / "y.qml")


def test_the_scale_bar_is_as_long_as_it_says():
    grey = dataclasses.replace(card(["a"]), palette=((200, 200, 200),))
    picture = quicklook.draw(
        np.zeros((400, 600, 1), np.uint8), np.zeros((400, 600), np.uint8), grey, metres=2.5, title="t"
    )
    below = picture[24 + 12 + 400 + 12 + 9]  # a row through the bar
    black = np.flatnonzero((below == 0).all(axis=1))
    bar = black[: np.argmax(np.diff(black) > 1) + 1] if (np.diff(black) > 1).any() else black
    assert abs(len(bar) * 2.5 - 500) <= 5  # a third of 1500 m at most: 500 m


def test_which_bands_are_colours_is_the_same_everywhere():
    """In any case of letters and in any order; with one of them missing no picture is in colour."""
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 4), np.uint8)
    lower = dataclasses.replace(
        card(["a"]), bands=tuple(Band(n, 90, 30, 0, 255) for n in ("nir", "blue", "red", "green"))
    )
    mixed = dataclasses.replace(
        lower, bands=tuple(dataclasses.replace(band, name=band.name.title()) for band in lower.bands)
    )
    assert lower.colours == mixed.colours == {"red": 2, "green": 3, "blue": 1}
    assert list(lower.colours) == ["red", "green", "blue"]
    assert lower.only(["nir", "green"]).colours == {"green": 1}
    ids = np.zeros((40, 40), np.uint8)
    for draw in (
        lambda cards: drawing.band_panels(image, cards)[0][1],
        lambda cards: quicklook.draw(image, ids, cards, metres=None, title="t"),
        lambda cards: show.pictures({"image": image, "label": ids}, cards)[0][1],
        lambda cards: seen_by_network.picture(image[None], image[None].astype(np.float32), cards),
    ):
        np.testing.assert_array_equal(draw(lower), draw(mixed))
    assert [name for name, _ in drawing.band_panels(image, mixed)] == ["rgb", "Nir"]
    np.testing.assert_array_equal(drawing.band_panels(image, mixed)[0][1], image[..., [2, 3, 1]])
