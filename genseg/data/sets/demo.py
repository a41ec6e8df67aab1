"""Two data sets drawn by code, for trying the whole chain without any files. Their cards say `synthetic`.

Pre-training: small colour "aerial photographs" of eight kinds of man-made and natural structure. Colour tempts: in the
training split each kind has its own hue four times out of five; in validation hues are drawn at random. Structure is
always right. A network that leans on colour fails, which is what channel shuffling is meant to prevent.

Target: RGB + thermal scenes by day and by night with five classes and few training images. At night RGB is dark and
noisy; in the thermal band roads, buildings and vehicles are warm, but by how much changes from image to image.
"""

import colorsys
import dataclasses

import cv2
import numpy as np

from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec
from genseg.data.records.copies import fingerprint
from genseg.data.records.storage import Moments, Plan, Record
from genseg.keys import at_least, enforce, key, within

_DRAWING = 2  # raise when a drawing changes, so that older copies are not taken for new ones
_KINDS = ("field", "roofs", "trees", "roads", "waves", "tanks", "parking", "aircraft")
_SPLITS = {"train": 0, "val": 1}


@dataclasses.dataclass(frozen=True)
class DemoClassification:
    """name="demo_classification"."""

    train_images: int = key(4000, "photographs to draw, shared equally by the eight classes", at_least(len(_KINDS)))
    val_images: int = key(800, "photographs to draw for validation", at_least(len(_KINDS)))
    size: int = key(32, "side, pixels", within(8, 4096))
    colour_share: float = key(
        0.8, "share of training images that have their class's hue; the rest and all of val have any hue", within(0, 1)
    )
    seed: int = key(0, "of the drawings", at_least(0))

    def __post_init__(self):
        enforce(self, "data")

    def plan(self) -> Plan:
        card = DatasetCard(
            name="demo_classification",
            task="classification",
            bands=(Band("red"), Band("green"), Band("blue")),
            classes=_KINDS,
            palette=(),
            ignore_label=None,
            scored=tuple(range(len(_KINDS))),
            splits={},
            protocol="top-1 accuracy over all drawn images, hues unrelated to classes in val",
            synthetic=True,
        )
        items = {"train": range(self.train_images), "val": range(self.val_images)}
        return Plan(card, items, self._load, fingerprint(self, version=_DRAWING))

    def _load(self, split: str, index: int) -> tuple[list[Record], Moments]:
        rng = np.random.default_rng([self.seed, _SPLITS[split], index])
        label = index % len(_KINDS)
        tempted = split == "train" and rng.random() < self.colour_share
        hue = label / len(_KINDS) + rng.normal(0, 0.025) if tempted else rng.random()
        image = draw_photograph(label, hue, self.size, rng)
        return [Record(codec.encode_png(image), label, f"{split}/{_KINDS[label]}/{index:05d}.png")], Moments.of(image)


@dataclasses.dataclass(frozen=True)
class DemoSegmentation:
    """name="demo_segmentation"."""

    train_images: int = key(80, "scenes to draw, every second one by night", at_least(2))
    val_images: int = key(80, "scenes to draw for validation", at_least(2))
    size: int = key(64, "side, pixels", within(16, 4096))
    seed: int = key(0, "of the drawings", at_least(0))

    def __post_init__(self):
        enforce(self, "data")

    def plan(self) -> Plan:
        card = DatasetCard(
            name="demo_segmentation",
            task="segmentation",
            bands=(Band("red"), Band("green"), Band("blue"), Band("thermal")),
            classes=("ground", "building", "tree", "road", "vehicle"),
            palette=((196, 178, 128), (178, 64, 48), (40, 128, 60), (96, 96, 104), (255, 208, 0)),
            ignore_label=255,
            scored=tuple(range(5)),
            splits={},
            protocol="mean over 5 classes of one confusion matrix over all pixels of all drawn scenes",
            synthetic=True,
        )
        items = {"train": range(self.train_images), "val": range(self.val_images)}
        return Plan(card, items, self._load, fingerprint(self, version=_DRAWING))

    def _load(self, split: str, index: int) -> tuple[list[Record], Moments]:
        rng = np.random.default_rng([self.seed, 2 + _SPLITS[split], index])
        night = index % 2 == 1
        image, mask = draw_scene(self.size, night, rng)
        name = f"{split}/{index:05d}{'N' if night else 'D'}.png"
        record = Record(codec.encode_image(image), codec.encode_mask(mask), name, name, 0, 0, self.size, self.size)
        return [record], Moments.of(image)


def _clouds(size: int, rng: np.random.Generator, cell: int) -> np.ndarray:
    """Smooth noise, float32 [size size], about -1..1."""
    coarse = rng.normal(0, 1, (size // cell + 3, size // cell + 3)).astype(np.float32)
    top, left = rng.integers(0, cell, 2)
    fine = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    return fine[top : top + size, left : left + size]


def _grid(size: int, angle: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in pixels along and across a direction, from a random origin."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = rng.uniform(0, size, 2)
    return c * (x - dx) + s * (y - dy), c * (y - dy) - s * (x - dx)


def _polygon(canvas: np.ndarray, points: np.ndarray, value: float) -> None:
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], value, cv2.LINE_AA, shift=4)


def _rectangle(centre: np.ndarray, length: float, width: float, angle: float) -> np.ndarray:
    """Corner points [4 2] (x, y)."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    return np.array(
        [centre + along + across, centre + along - across, centre - along - across, centre - along + across]
    )


def _height(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """The structure of a class as a relief, float32 [size size] of about -1..1."""
    kind = _KINDS[label]
    unit = size / 32
    angle = rng.uniform(0, np.pi)
    along, across = _grid(size, angle, rng)
    canvas = np.zeros((size, size), np.float32)
    if kind == "field":  # furrows
        canvas = np.sin(across * (2 * np.pi / (rng.uniform(3.2, 6) * unit)) + 0.5 * _clouds(size, rng, size // 2))
    elif kind == "waves":  # crests that bend and break off
        bend = 2.2 * _clouds(size, rng, size // 4)
        canvas = np.sin(across * (2 * np.pi / (rng.uniform(7, 11) * unit)) + bend) * (
            0.6 + 0.4 * _clouds(size, rng, size // 4)
        )
    elif kind == "parking":  # cells in two directions
        period = rng.uniform(4.5, 7) * unit
        canvas = np.sign(
            np.sin(along * 2 * np.pi / period) * np.sin(across * 2 * np.pi / (period * rng.uniform(1, 1.6)))
        )
        canvas = cv2.GaussianBlur(canvas.astype(np.float32), (3, 3), 0.6 * unit)
    elif kind == "roads":  # two bright bands that cross
        for turn in (angle, angle + rng.uniform(0.9, 2.2)):
            centre = rng.uniform(0.3, 0.7, 2) * size
            _polygon(canvas, _rectangle(centre, 3 * size, rng.uniform(3.5, 5.5) * unit, turn), 1.0)
        canvas = canvas * 2 - 0.8
    elif kind == "roofs":  # blocks, each with a light and a dark half
        for _ in range(rng.integers(3, 6)):
            centre, length, width = (
                rng.uniform(0.1, 0.9, 2) * size,
                rng.uniform(9, 14) * unit,
                rng.uniform(7, 10) * unit,
            )
            turn = angle + rng.choice([0, np.pi / 2])
            side = np.array([-np.sin(turn), np.cos(turn)]) * width / 4
            _polygon(canvas, _rectangle(centre + side, length, width / 2, turn), 1.0)
            _polygon(canvas, _rectangle(centre - side, length, width / 2, turn), -1.0)
    elif kind == "trees":  # many round crowns, lit from one side
        light = np.array([np.cos(angle), np.sin(angle)])
        for _ in range(rng.integers(16, 28)):
            centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(2.2, 4) * unit
            for shift, value in ((0.35, -0.9), (0.0, 0.3), (-0.35, 1.0)):
                place = np.round((centre + light * radius * shift) * 16).astype(int)
                share = 1.0 if shift >= 0 else 0.5
                cv2.circle(canvas, place.tolist(), round(radius * share * 16), value, -1, cv2.LINE_AA, shift=4)
    elif kind == "tanks":  # a few large rings
        for _ in range(rng.integers(2, 5)):
            place = np.round(rng.uniform(0.15, 0.85, 2) * size * 16).astype(int).tolist()
            radius = rng.uniform(4.5, 8) * unit
            cv2.circle(canvas, place, round(radius * 16), -0.6, -1, cv2.LINE_AA, shift=4)
            cv2.circle(canvas, place, round(radius * 16), 1.0, max(1, round(1.6 * unit)), cv2.LINE_AA, shift=4)
    else:  # aircraft: a body, wings and a tail
        for _ in range(rng.integers(1, 3)):
            centre, length = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(16, 23) * unit
            turn = rng.uniform(0, 2 * np.pi)
            nose = np.array([np.cos(turn), np.sin(turn)])
            _polygon(canvas, _rectangle(centre, length, 2.6 * unit, turn), 1.0)
            _polygon(
                canvas, _rectangle(centre + nose * length * 0.08, length * 0.95, 3.2 * unit, turn + np.pi / 2), 1.0
            )
            _polygon(
                canvas, _rectangle(centre - nose * length * 0.43, length * 0.42, 2.2 * unit, turn + np.pi / 2), 1.0
            )
    return canvas


def draw_photograph(label: int, hue: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [size size 3]: the structure of class `label` in colours around `hue` (0..1, cyclic)."""
    relief = _height(label, size, rng)
    dark = rng.uniform(0.2, 0.4)
    ground = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.45, 0.8), dark))
    bright = dark + rng.uniform(0.3, 0.55)
    other = np.array(colorsys.hsv_to_rgb((hue + rng.normal(0, 0.04)) % 1, rng.uniform(0.2, 0.6), bright))
    image = ground + (other - ground) * (0.5 + 0.5 * relief)[..., None]
    shade = 1 + 0.12 * _clouds(size, rng, max(2, size // 2))
    image = image * shade[..., None] * rng.uniform(0.8, 1.2) + rng.normal(0, 0.03, (size, size, 3))
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_scene(size: int, night: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [size size 4] (red, green, blue, thermal) and the mask uint8 [size size]: ground, building, tree, road,
    vehicle."""
    unit = size / 64
    mask = np.zeros((size, size), np.uint8)
    grain = _clouds(size, rng, max(2, size // 4)) * 0.5 + rng.normal(0, 0.5, (size, size)).astype(np.float32)
    hue, dry = rng.uniform(0.08, 0.33), rng.uniform(0.2, 0.5)
    colour = np.empty((size, size, 3), np.float32)
    colour[:] = colorsys.hsv_to_rgb(hue, dry, rng.uniform(0.4, 0.6))
    colour *= (1 + 0.12 * grain)[..., None]
    # Heat of ground, building, tree, road and vehicle. By day the sun heats roads and roofs; by night what stores or
    # makes heat stays warm.
    heat = np.array([0.30, 0.48, 0.26, 0.42, 0.85] if night else [0.50, 0.62, 0.28, 0.70, 0.85])
    heat = heat + rng.normal(0, 0.04, 5)
    warm = np.full((size, size), heat[0], np.float32) + 0.04 * _clouds(size, rng, max(2, size // 4))

    def paint(label: int, points: np.ndarray, shade: np.ndarray, warmth: float) -> None:
        area = np.zeros((size, size), np.float32)
        _polygon(area, points, 1.0)
        colour[:] += area[..., None] * (shade - colour)
        warm[:] += area * (warmth - warm)
        mask[area > 0.5] = label

    angle = rng.uniform(0, np.pi)
    grey = rng.uniform(0.3, 0.6)
    lanes = [(rng.uniform(0.25, 0.75, 2) * size, angle)]
    if rng.random() < 0.5:
        lanes.append((rng.uniform(0.25, 0.75, 2) * size, angle + np.pi / 2 + rng.normal(0, 0.15)))
    for centre, turn in lanes:
        paint(3, _rectangle(centre, 3 * size, rng.uniform(7, 10) * unit, turn), np.full(3, grey), heat[3])
    for _ in range(rng.integers(2, 5)):
        centre, length, width = rng.uniform(0.05, 0.95, 2) * size, rng.uniform(11, 20) * unit, rng.uniform(9, 14) * unit
        turn = angle + rng.choice([0, np.pi / 2])
        roof = np.array(
            colorsys.hsv_to_rgb(rng.choice([0.02, 0.08, 0.6, 0.33]), rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.8))
        )
        warmth = heat[1] + rng.normal(0, 0.05)
        side = np.array([-np.sin(turn), np.cos(turn)]) * width / 4
        paint(1, _rectangle(centre + side, length, width / 2, turn), roof * 1.15, warmth + 0.03)
        paint(1, _rectangle(centre - side, length, width / 2, turn), roof * 0.75, warmth - 0.03)
    light = np.array([np.cos(angle + 0.7), np.sin(angle + 0.7)])
    for _ in range(rng.integers(1, 4)):  # groups of trees
        middle = rng.uniform(0, 1, 2) * size
        green = np.array(colorsys.hsv_to_rgb(hue + rng.normal(0, 0.04), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.5)))
        for _ in range(rng.integers(3, 9)):
            centre, radius = middle + rng.normal(0, 6 * unit, 2), rng.uniform(2.5, 4.5) * unit
            corners = np.linspace(0, 2 * np.pi, 14, endpoint=False)
            crown = np.stack([np.cos(corners), np.sin(corners)], 1) * radius
            paint(2, centre + crown, green * 0.7, heat[2])
            paint(2, centre - light * radius * 0.3 + crown * 0.55, green * 1.4, heat[2] + 0.02)
    for _ in range(rng.integers(2, 6)):
        centre, turn = lanes[rng.integers(len(lanes))]
        run = np.array([np.cos(turn), np.sin(turn)])
        place = (
            centre + run * rng.uniform(-0.5, 0.5) * size + np.array([-run[1], run[0]]) * rng.choice([-1.8, 1.8]) * unit
        )
        body = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.2, 0.95)))
        paint(4, _rectangle(place, 5.5 * unit, 3.2 * unit, turn), body, heat[4] + rng.normal(0, 0.05))

    shade = 1 + 0.15 * _clouds(size, rng, max(2, size // 2))
    colour *= shade[..., None]
    if night:
        lamps = np.clip(0.16 + 0.25 * np.maximum(_clouds(size, rng, max(2, size // 3)), 0), 0, 1)
        colour = colour * lamps[..., None] * np.array([1.0, 0.9, 0.75]) + rng.normal(0, 0.03, colour.shape)
    else:
        colour = colour * rng.uniform(0.85, 1.25) + rng.normal(0, 0.02, colour.shape)
    warm = cv2.GaussianBlur(warm.astype(np.float32), (0, 0), 0.7 * unit)
    warm = (warm - 0.5) * rng.uniform(0.8, 1.2) + 0.5 + rng.normal(0, 0.05) + rng.normal(0, 0.02, warm.shape)
    image = np.dstack([colour, warm])
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), mask
