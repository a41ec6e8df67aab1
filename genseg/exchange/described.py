"""What a foreign checkpoint's files say of its bands and classes: the card that genseg's exports carry in model.safetensors,
else preprocessor_config.json and config.json as transformers writes them, else nothing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from genseg import outputs, texts
from genseg.data.card import Band, DatasetCard
from genseg.data.palette import distinct_colours
from genseg.errors import UserError
from genseg.exchange import files

METADATA = "genseg_card"
"""Key in the header of an exported model.safetensors; the value is a card, a band a channel of the network."""
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of 0..255; torchvision's and timm's 0.485, 0.456, 0.406
IMAGENET_STD = (58.395, 57.12, 57.375)
DTYPES = ("uint8", "uint16", "int16", "float32")
_MEND = "remove it, or give the weights' file under another name"
_GIVE = "give the prepared data set that it was trained on as --card FOLDER"


def card_of(args: argparse.Namespace) -> tuple[DatasetCard, str]:
    """The card of an imported network, and a sentence that says where it is from and what is not known.

    args: of the command `import`, with sizes filled in. What is of another number of bands or classes than the network is
    left out, and so are the classes of a head that is not taken.
    """
    assumed = _assumed(args)
    if args.card is not None:
        card = DatasetCard.read(outputs.given(args.card, "--card"))
        has, wants = (card.channels, len(card.classes), card.task), (args.channels, args.classes, assumed.task)
        if has != wants:
            sizes = " and ".join("{} bands and {} classes ({})".format(*s) for s in (has, wants))
            raise UserError(
                f"--card {args.card} and the network differ: {sizes}; give the data set that it was trained on"
            )
        return _like(assumed, card, bands=True, classes=True), f"bands and classes are those of {args.card}"
    head = not args.parts or "head" in args.parts
    if (said := files.metadata(args.input).get(METADATA)) is not None:
        with outputs.undamaged(Path(args.input), "export it again"):
            own = DatasetCard.from_json(said, "export it again")
            if own.dtype not in DTYPES or not np.isfinite([own.mean, own.std]).all():
                raise TypeError("no numbers of a known type")
        classes = head and own.task == assumed.task and len(own.classes) == args.classes
        bands = own.channels == args.channels
        words = [word for word, known in (("bands", bands), ("classes", classes)) if known]
        sentence = f"{' and '.join(words) or 'neither bands nor classes'} as genseg exported them"
        return _like(assumed, own, bands=bands, classes=classes), sentence + ("" if bands else f"; {_GIVE}")
    return _beside(args, assumed, head)


def _assumed(args: argparse.Namespace) -> DatasetCard:
    """With nothing but the network's sizes; for three bands ImageNet's statistics, which most weights of them expect."""
    known = zip(IMAGENET_MEAN, IMAGENET_STD, strict=True) if args.channels == 3 else [(0.0, 1.0)] * args.channels
    return DatasetCard(
        name=f"imported from {Path(args.input).name}",
        task="segmentation" if args.task == "segmenter" else "classification",
        bands=tuple(Band(f"band {i}", mean, std) for i, (mean, std) in enumerate(known)),
        classes=tuple(f"class {i}" for i in range(args.classes)),
        palette=distinct_colours(args.classes) if args.task == "segmenter" else (),
        ignore_label=None,
        scored=tuple(range(args.classes)),
        splits={},
        protocol="imported weights; nothing was scored",
        synthetic=False,
    )


def _like(assumed: DatasetCard, card: DatasetCard, *, bands: bool, classes: bool) -> DatasetCard:
    changes: dict[str, Any] = {"synthetic": card.synthetic}
    names = (("bands", "dtype") if bands else ()) + (
        ("classes", "palette", "ignore_label", "scored", "absent") if classes else ()
    )
    return dataclasses.replace(assumed, **changes | {name: getattr(card, name) for name in names})


def _beside(args: argparse.Namespace, assumed: DatasetCard, head: bool) -> tuple[DatasetCard, str]:
    """From preprocessor_config.json and config.json in the folder of a Hugging Face model."""
    folder = files.folder_of(args.input)
    changes: dict[str, Any] = {}
    unknown = ["names of bands", "type of pixels"]
    statistics = _statistics(folder / "preprocessor_config.json", args.channels) if folder else None
    if statistics:
        means = [mean for mean, _ in statistics]
        changes["bands"] = tuple(Band(f"band {i}", mean, std) for i, (mean, std) in enumerate(statistics))
        if min(means) < 0 or max(means) > 255:
            changes["dtype"] = "float32" if min(means) < 0 or max(means) >= 1 << 16 else "uint16"
    else:
        unknown.append("normalisation" if args.channels != 3 else "normalisation (ImageNet's is taken)")
    labels = _labels(folder / "config.json", args.classes) if folder and head else None
    if labels:
        changes["classes"] = labels
    else:
        unknown.append("names of classes")
    card = dataclasses.replace(assumed, **changes)
    return card, f"not known: {', '.join(unknown)}; {card.dtype} is taken. To name them, {_GIVE}"


def _statistics(path: Path, channels: int) -> list[tuple[float, float]] | None:
    """(mean, deviation) a band in stored units, from what an image processor of transformers does; None if it does not say."""
    if not path.is_file():
        return None
    said = texts.mapping(path, "file", _MEND)
    with outputs.undamaged(path, _MEND):
        if not {"image_mean", "image_std"} <= said.keys() or said.get("do_normalize") is False:
            return None
        factor = 1.0 if said.get("do_rescale") is False else float(said.get("rescale_factor", 1 / 255))
        mean, std = (np.asarray(said[key], np.float64) / factor for key in ("image_mean", "image_std"))
    if mean.shape != (channels,) or std.shape != mean.shape or not (np.isfinite([mean, std]).all() and (std > 0).all()):
        return None
    return list(zip(mean.tolist(), std.tolist(), strict=True))


def _labels(path: Path, classes: int) -> tuple[str, ...] | None:
    """Names of classes from id2label of a config.json; None if it does not say, or of another number of them."""
    if not path.is_file():
        return None
    said = texts.mapping(path, "file", _MEND)
    labels = said.get("id2label")
    if not isinstance(labels, dict) or labels.keys() != {str(i) for i in range(classes)}:
        return None
    names = tuple(str(labels[str(i)]) for i in range(classes))
    return names if len(set(names)) == classes and all(names) else None
