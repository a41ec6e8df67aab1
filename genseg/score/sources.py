"""Where class ids and truth come from: a network over pairs of files, maps beside masks, a prepared split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from genseg import checkpoints, evaluate, inputs, partition, tasks, windows
from genseg.data.augment import transforms
from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard
from genseg.data.compare_cards import bands_for_network, card_for_network
from genseg.data.files import maps, masks
from genseg.errors import UserError
from genseg.predict import run as runs
from genseg.predict.network import Predictor
from genseg.predict.scenes import Scene as Place
from genseg.score.counting import Scene, count, read_map, read_mask

Pairs = Sequence[tuple[Place, Path]]
WRONG, RIGHT, UNCOUNTED = 1, 0, 255


@dataclass(frozen=True)
class Map:
    """A class map and its mask. card: of the record that genseg wrote beside the map, or None."""

    name: str
    path: Path
    mask: Path
    card: DatasetCard | None


def network(
    predictor: Predictor, pairs: Pairs, request: runs.Request, table: masks.ClassTable | None, *, borders: bool,
    told: Callable[[Scene], None], errors: Path | None, strange: Callable[[str], None],
) -> list[Scene]:  # fmt: skip
    """The network over scenes, through its own card; pixels that a scene has no measurement of do not count.

    Windows of several scenes share batches. errors: folder for error maps, or None. strange: called with a
    sentence on a scene whose bands have unknown names, or values unlike those of training.
    """
    card, found, held, left_out = predictor.card, [], {}, {}

    def opened():
        for place, mask in pairs:
            image, ground = runs.open_scene(place, predictor, request)
            label = read_mask(mask, card, table, image.placed)
            if label.shape != image.shape[:2]:
                raise UserError(
                    f"{place} is {image.shape[:2]} pixels and its mask {mask} {label.shape}: give those of one scene."
                )
            for sentence in image.notes():
                strange(f"{place}: {sentence}")
            held[place] = (image, label, np.empty(label.shape, np.uint8), ground)
            yield place, image

    for place, rows in predictor.score_rows(predictor.groups(opened())):
        image, label, ids, ground = held[place]
        end = rows.first + len(rows.sums)
        ids[rows.first : end] = rows.ids()
        measured = image.measured(rows.first, end)
        if measured is not None:
            left_out[place] = left_out.get(place, 0) + _leave_out(label[rows.first : end], ~measured)
        if end == len(label):
            found.append(_done(place.name, ids, label, ground, card, borders, errors, left_out.get(place, 0)))
            told(found[-1])
            del held[place]
    return found


def drawn(
    card: DatasetCard, given: Sequence[Map], table: masks.ClassTable | None, *, borders: bool,
    told: Callable[[Scene], None], errors: Path | None,
) -> list[Scene]:  # fmt: skip
    """Maps that are there already, beside masks; pixels that a map says to have no class of do not count."""
    found = []
    for one in given:
        ids, nothing, ground = read_map(one.path, card, one.card)
        label = read_mask(one.mask, card, table, [(one.path, ground, ids.shape)])
        if ids.shape != label.shape:
            raise UserError(
                f"The map of {one.name} is {ids.shape} pixels and its mask {label.shape}: give those of one scene."
            )
        left_out = _leave_out(label, nothing)
        found.append(_done(one.name, ids, label, ground, card, borders, errors, left_out))
        told(found[-1])
    return found


def _leave_out(label: np.ndarray, nothing: np.ndarray) -> int:
    """Makes 255 of the labels where there is nothing to compare; how many of them were a class."""
    count = int(np.count_nonzero(label[nothing] != 255))
    label[nothing] = 255
    return count


def error_map(out: Path, name: str) -> Path:
    """Where a scene's error map is written."""
    return out / f"{name}_errors.tif"


def _done(
    name: str, ids: np.ndarray, label: np.ndarray, ground: maps.Place, card: DatasetCard, borders: bool,
    errors: Path | None, left_out: int,
) -> Scene:  # fmt: skip
    scene = count(name, ids, label, len(card.classes), borders=borders, left_out=left_out)
    if errors is not None:
        path = error_map(errors, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        wrong = np.where(label == 255, UNCOUNTED, np.where(ids == label, RIGHT, WRONG)).astype(np.uint8)
        palette, tags = ((235, 235, 235), (178, 24, 43)), {"CLASSES": "0 right, 1 wrong"}
        with maps.cog(
            path, label.shape, ground, bands=("wrong",), nodata=UNCOUNTED, palette=palette, tags=tags
        ) as writer:
            writer.write(wrong)
    return scene


def prepared(
    weights: checkpoints.Weights, inference: windows.Inference, folder: Path, split: str, batch: int, panels: int = 0
) -> tuple[DatasetCard, np.ndarray, list[Scene], np.ndarray | None]:
    """Training's own evaluation of a split of a prepared data set; the network is fed through its own card.

    Returns the card of the data as the network is fed with it; int64 [classes, classes] of all records, as training counts them, and of each scene; where records overlap, a
    scene's pixels count once; and a picture uint8 [h, w, 3] of bands, truth and prediction of the first `panels` records,
    None for 0. Raises: UserError if the split's bands, type or classes are not the network's.
    """
    opened = pipeline.open_split(folder, split)
    opened = opened.only(bands_for_network(weights.card, opened.card))
    card = card_for_network(weights.card, opened.card)
    opened = dataclasses.replace(opened, card=card)
    config = ConfigDict(weights.config)
    config.eval.update({k: v for k, v in dataclasses.asdict(inference).items() if k != "multiple"})
    if batch:
        config.eval.batch_size = batch
    mesh = partition.make_mesh(-1, 1)
    partition.check_batch(config.eval.batch_size, mesh)
    task = tasks.build_segment(config, card)
    transform = transforms.segmentation_eval(card, multiple=inference.multiple)
    data = inputs.Inputs(card, opened, opened, transform, transform, config)
    evaluation = evaluate.Evaluation(task, data, mesh)
    sharding = partition.tree_sharding(mesh, (weights.params, weights.stats))
    with partition.use_mesh(mesh):
        arrays = jax.device_put((weights.params, weights.stats), sharding)
        counts = evaluation(*arrays)
        picture = evaluation.panels(*arrays, panels) if panels else None
    if "records" in counts:
        by_scene: dict[str, np.ndarray] = {}
        for name, confusion in zip(evaluation.scenes, counts["records"], strict=True):
            by_scene[name] = by_scene.get(name, 0) + confusion
    else:
        by_scene = {n.removeprefix("scene:"): c for n, c in counts.items() if n.startswith("scene:")}
    return card, counts["confusion"], [Scene(name, confusion, None) for name, confusion in by_scene.items()], picture
