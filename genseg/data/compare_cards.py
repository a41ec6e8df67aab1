"""A network and data that it was not trained on: are they of one kind, and through which card is it fed?"""

import dataclasses
import logging

from genseg.data.card import DatasetCard
from genseg.errors import UserError

logger = logging.getLogger(__name__)


def bands_for_network(network: DatasetCard, data: DatasetCard) -> tuple[str, ...]:
    """Names of the bands of `data` that a network takes, in its order, where it was trained on some of them
    (config.data.only_bands); () where it takes all, or others."""
    wanted, have = (tuple(band.name for band in card.bands) for card in (network, data))
    return wanted if len(wanted) < len(have) and set(wanted) < set(have) else ()


def card_for_network(network: DatasetCard, data: DatasetCard) -> DatasetCard:
    """The card of `data`, with the statistics that the network was trained with in place of the data's own.

    A network knows pixels as (value - mean) / std with the statistics of its training data; other ones would show it
    another picture. Nodata, splits, protocol and notes stay those of the data. Statistics that differ much are said in a
    further note.

    Args:
      network: the card stored with a checkpoint.
      data: the card of prepared data.
    Raises: UserError unless task, bands, classes (each by name and place) and type of the pixels are the same.
    """
    if network.task != data.task:
        raise UserError(f"The network was trained for {network.task}, but {data.name} holds {data.task} labels.")
    for kind, trained, found in (
        ("band", [b.name for b in network.bands], [b.name for b in data.bands]),
        ("class", list(network.classes), list(data.classes)),
    ):
        if len(trained) != len(found):
            raise UserError(
                f"The network was trained with {len(trained)} {kind} name(s) ({_some(trained)}), but {data.name} has "
                f"{len(found)} ({_some(found)}): prepare the data with those of the network."
            )
        for place, (ours, theirs) in enumerate(zip(trained, found, strict=True)):
            if ours != theirs:
                raise UserError(
                    f"{kind.capitalize()} {place} is {ours!r} for the network, but {theirs!r} in {data.name}: prepare the "
                    f"data with the {kind} names of the network, in its order ({_some(trained)})."
                )
    if network.dtype != data.dtype:
        raise UserError(
            f"The network was trained on {network.dtype} pixels, but {data.name} holds {data.dtype}: convert the images "
            "to the units of the training images."
        )
    if network.bands == data.bands:
        return data
    far = [
        f"{ours.name} (mean {ours.mean:.4g}, std {ours.std:.4g} in training; {theirs.mean:.4g}, {theirs.std:.4g} here)"
        for ours, theirs in zip(network.bands, data.bands, strict=True)
        if abs(ours.mean - theirs.mean) > ours.std or not 0.5 * ours.std <= theirs.std <= 2 * ours.std
    ]
    notes = data.notes
    other = [ours.name for ours, theirs in zip(network.bands, data.bands, strict=True) if ours.scale != theirs.scale]
    if other:
        note = f"Files of this data state another scale or offset than those of training: {', '.join(other)} (not applied)."
        notes = (*notes, note)
    if far:
        note = f"The values of this data are unlike those that the network was trained with: {'; '.join(far)}."
        notes = (*notes, note)
    bands = tuple(
        dataclasses.replace(ours, nodata=theirs.nodata, hole=theirs.hole, scale=theirs.scale, file=theirs.file)
        for ours, theirs in zip(network.bands, data.bands, strict=True)
    )
    logger.info("The network is fed through the statistics of its own training data (%s).", network.name)
    return dataclasses.replace(data, bands=bands, notes=notes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
