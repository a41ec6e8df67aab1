"""The channels that an exported network takes, as bands of a card."""

from __future__ import annotations

import dataclasses

import numpy as np

from genseg import checkpoints, csp
from genseg.data.card import DatasetCard


def card_of(weights: checkpoints.Weights) -> DatasetCard:
    """The weights' card with one band a channel of the network.

    A classifier's channels may be more or fewer than its images' bands: then they are what evaluation feeds it, the bands
    one after the other and again from the first (`csp.fixed_order`), further copies with a number behind their name.
    """
    card = weights.card
    if "norms" in weights.params:  # a segmenter takes the bands
        return card
    channels = weights.params["backbone"]["stem"]["conv"]["kernel"].shape[2]
    if channels == card.channels:
        return card
    bands, copies = [], {band.name: 0 for band in card.bands}
    for place in np.asarray(csp.fixed_order(card.channels, channels)):
        band = card.bands[place]
        copies[band.name] += 1
        copy = copies[band.name]
        bands.append(dataclasses.replace(band, name=f"{band.name} ({copy})" if copy > 1 else band.name))
    return dataclasses.replace(card, bands=tuple(bands))


def explained(weights: checkpoints.Weights) -> list[str]:
    """Sentences about those of a classifier that are not simply its images' bands; [] for all others."""
    card, said = weights.card, []
    taken = card_of(weights).channels
    if taken != card.channels:
        said.append(
            f"Images had the bands {', '.join(band.name for band in card.bands)}. The network takes {taken} channels: in training "
            "they were these bands in random order, in evaluation in the order above."
        )
    match weights.config:
        case {"csp": {"channels": [_, _, *_] as counts}} if "norms" not in weights.params:
            said.append(
                f"Trained with {', '.join(map(str, sorted(counts)))} of its channels used: with n of them the others are 0 "
                f"behind the normalisation, and those that are used are multiplied by sqrt({taken} / n)."
            )
    return said
