"""Statistics of all records to the bands of a card, with the notes that say what is odd about them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from genseg.data.card import Band, DatasetCard
from genseg.data.records.moments import Moments, Wild
from genseg.errors import UserError


def described(
    card: DatasetCard, total: Moments | None, skipped: Sequence[str]
) -> tuple[tuple[Band, ...], tuple[str, ...]]:
    """The card's bands with their statistics, and the card's notes with those of this preparation.

    total: of the measured split; None: the statistics given with the card stand. skipped: what was said of each file that
    was left out. Raises: UserError for a band without a measured pixel."""
    settled, wild = (None, ()) if total is None else total.settled()
    bands = _bands(card, settled)
    return bands, card.notes + _skipped_note(skipped) + _wild_note(bands, wild) + _constant_note(bands)


def _skipped_note(skipped: Sequence[str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    return (f"{len(skipped)} undecodable file(s) were left out; the first: {skipped[0]}",)


def _wild_note(bands: tuple[Band, ...], wild: Sequence[Wild]) -> tuple[str, ...]:
    if not wild:
        return ()
    found = "; ".join(
        f"{bands[w.band].name} {w.count:,} of {w.total:,} (the farthest {w.farthest:g}; statistics of "
        f"{bands[w.band].low:g} .. {bands[w.band].high:g})" for w in wild[:8]
    )  # fmt: skip
    more = f"; and {len(wild) - 8} more bands" if len(wild) > 8 else ""
    return (f"Wild values are left out of the statistics: {found}{more}. They stay in the images.",)


def _constant_note(bands: tuple[Band, ...]) -> tuple[str, ...]:
    still = [f"{b.name} ({b.low:g})" for b in bands if b.constant]
    if not still:
        return ()
    return (f"Constant in training, and 0 to the network whatever they hold later: {', '.join(still)}.",)


def _bands(card: DatasetCard, total: Moments | None) -> tuple[Band, ...]:
    if total is None:  # no training split: statistics given with the card stand
        return card.bands
    empty = np.flatnonzero(total.count == 0)
    if empty.size:
        raise UserError(f"The band {card.bands[empty[0]].name!r} of {card.name} holds no measured pixel: check nodata.")
    std = np.sqrt(total.squares / total.count)
    return tuple(
        dataclasses.replace(
            band, mean=float(total.mean[i]), std=float(std[i]), low=float(total.low[i]), high=float(total.high[i])
        )
        for i, band in enumerate(card.bands)
    )
