"""What the RGB-thermal sets share: a colour and a thermal image, or one RGBA file, become four bands."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.data.files.masks import check_labels
from genseg.data.records.copies import fingerprint_of_downloads
from genseg.data.records.storage import Moments, Plan, Record
from genseg.errors import UserError


def plan(options: Any, card: DatasetCard, items: dict[str, list[tuple]], size: tuple[int, int]) -> Plan:
    """items: split -> (id, (RGBA file,) or (colour file, thermal file), label file). size: (height, width) of all."""
    used = [f for pairs in items.values() for _, images, label in pairs for f in (*images, label)]
    mark = fingerprint_of_downloads(options, used)
    measured = "train"
    if "train" not in items:
        measured = next(iter(items))
        note = f"There are no training images: mean, std and range of the bands are those of {measured!r}."
        card = dataclasses.replace(card, notes=(*card.notes, note))
    return Plan(card, items, lambda split, item: _load_rgbt(card, size, split, item), mark, measured)


def _load_rgbt(card: DatasetCard, size: tuple[int, int], split: str, item: tuple) -> tuple[list[Record], Moments]:
    name, images, label = item
    data = [f.read() for f in images]
    parts = [codec.decode_image(d, str(f)) for d, f in zip(data, images, strict=True)]
    if len(parts) == 1:
        if parts[0].shape[2] != 4:
            raise UserError(
                f"{images[0]} has {parts[0].shape[2]} bands: an RGBA file with thermal as its fourth is expected."
            )
        pixels, stored = parts[0], data[0]
    else:
        rgb, thermal = parts
        if rgb.shape[2] < 3:
            raise UserError(f"{images[0]} has {rgb.shape[2]} bands: a colour image is expected.")
        if rgb.shape[:2] != thermal.shape[:2]:
            raise UserError(
                f"{images[0]} and {images[1]} differ in size: {rgb.shape[:2]} and {thermal.shape[:2]} pixels."
            )
        for file, part in zip(images, parts, strict=True):
            if not np.can_cast(part.dtype, card.dtype):  # astype would wrap 16 bits around to 8
                raise UserError(f"{file} holds {part.dtype} values: {card.dtype} is expected.")
        # Repackaged thermal images repeat their one channel three times.
        pixels = np.dstack([rgb[..., :3].astype(card.dtype), thermal[..., 0].astype(card.dtype)])
        stored = codec.encode_image(pixels)
    if pixels.dtype != card.dtype:
        raise UserError(f"{images[0]} holds {pixels.dtype} values: {card.dtype} is expected.")
    if pixels.shape[:2] != size:
        raise UserError(
            f"{images[0]} has {pixels.shape[0]} x {pixels.shape[1]} pixels, the official images {size[0]} x {size[1]}: "
            "scores of resized images and labels are not those of the protocol; use the official files."
        )
    ids = codec.decode_mask(label.read(), str(label))
    if ids.ndim != 2:
        raise UserError(f"The label {label} has {ids.shape[2]} bands: one band of class ids is expected.")
    if ids.shape != pixels.shape[:2]:
        raise UserError(f"{images[0]} and its label {label} differ in size: {pixels.shape[:2]} and {ids.shape} pixels.")
    check_labels(ids, card, str(label))
    hole = card.bands[3].nodata
    measured = None
    if hole is not None:
        measured = np.ones(pixels.shape, bool)
        measured[..., 3] = pixels[..., 3] != hole
    record = Record(
        codec.repacked(stored, pixels),
        codec.encode_mask(ids.astype(np.uint8)),
        f"{split}/{Path(name).stem}",
        name,
        0,
        0,
        *ids.shape,
    )
    return [record], Moments.of(pixels, measured)
