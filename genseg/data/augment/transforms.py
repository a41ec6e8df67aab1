"""Transforms of one decoded record, on NumPy arrays of any band count and dtype.

A record is a dict with `image` [h w c] and `label`: an int, or a mask uint8 [h w] of class ids. For `segmentation_train` the
image may be one that decodes what is asked of it (`resizing.Parts`). Random functions take a np.random.Generator. Image and mask
move together in every function that takes both. The builders at the end return a `transform(record, rng) -> record` for
`genseg.data.batches.pipeline`.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from genseg.data.augment.resizing import INTERPOLATIONS, MOST, Box, Image, Scaled, resize
from genseg.data.card import DatasetCard
from genseg.errors import UserError

Transform = Callable[[dict, np.random.Generator | None], dict]


def crop_box(
    height: int, width: int, rng: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A random crop: timm's and torchvision's sampling.

    Ten tries of an area uniform in `scale` of the image and a log-uniform aspect ratio; then the largest central crop
    whose ratio is allowed. Source: timm/data/transforms.py, RandomResizedCropAndInterpolation.get_params.
    """
    area = height * width
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for u, v in rng.random((10, 2)):
        target = area * (scale[0] + (scale[1] - scale[0]) * u)
        aspect = math.exp(low + (high - low) * v)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    aspect = width / height
    w, h = width, height
    if aspect < ratio[0]:
        h = round(w / ratio[0])
    elif aspect > ratio[1]:
        w = round(h * ratio[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def random_resized_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "area",
) -> np.ndarray:
    """[h w c] -> [size size c]; the crop is cut out first, then resized, as in timm and torchvision."""
    box = crop_box(image.shape[0], image.shape[1], rng, scale, ratio)
    return resize(box.of(image), size, size, interpolation)


def centre_crop(image: np.ndarray, size: int, share: float, interpolation: str = "area") -> np.ndarray:
    """Resizes the shorter side to size / share and takes the central [size size c]: the usual evaluation.

    Sides are cut and the crop's corner is rounded as in torchvision's Resize and CenterCrop.
    """
    h, w = image.shape[:2]
    shorter = int(size / share)
    height, width = (shorter, int(shorter * w / h)) if h <= w else (int(shorter * h / w), shorter)
    image = resize(image, height, width, interpolation)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def pad(
    image: np.ndarray, mask: np.ndarray | None, height: int, width: int, fill: np.ndarray, ignore_label: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Grows to at least height x width at the bottom and right: image with `fill` [c], mask with ignore_label."""
    h, w = max(height, image.shape[0]), max(width, image.shape[1])
    if (h, w) == image.shape[:2]:
        return image, mask
    out = np.empty((h, w, image.shape[2]), image.dtype)
    out[: image.shape[0], : image.shape[1]] = image
    row = np.tile(fill.astype(image.dtype), (w, 1))  # copied by rows: pixel by pixel takes NumPy ten times as long
    out[image.shape[0] :] = row
    out[: image.shape[0], image.shape[1] :] = row[image.shape[1] :]
    if mask is None:
        return out, None
    grown = np.full((h, w), ignore_label, mask.dtype)
    grown[: mask.shape[0], : mask.shape[1]] = mask
    return out, grown


def random_scale(image: Image, mask: np.ndarray, rng: np.random.Generator, scale: tuple[float, float]) -> Scaled:
    """Both by one factor uniform in `scale`; as they are, without a draw, where it is (1, 1)."""
    factor = rng.uniform(*scale) if scale != (1.0, 1.0) else 1.0
    return Scaled(image, mask, max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))


def random_crop(
    scaled: Scaled, rng: np.random.Generator, height: int, width: int, cat_max_ratio: float, ignore_label: int
) -> tuple[np.ndarray, np.ndarray]:
    """A random crop of at most height x width in which no class has more than cat_max_ratio of the valid pixels.

    After ten tries the last crop is taken, whatever it holds. Source: mmsegmentation, RandomCrop.
    """
    h, w = min(height, scaled.shape[0]), min(width, scaled.shape[1])
    for _ in range(10 if cat_max_ratio < 1 else 1):
        box = Box(int(rng.integers(scaled.shape[0] - h + 1)), int(rng.integers(scaled.shape[1] - w + 1)), h, w)
        part = scaled.mask(box)
        if cat_max_ratio >= 1:
            break
        counts = cv2.calcHist([np.ascontiguousarray(part)], [0], None, [256], [0, 256]).ravel()
        counts[ignore_label] = 0
        if np.count_nonzero(counts) > 1 and counts.max() < cat_max_ratio * counts.sum():
            break
    return scaled.image(box), part


def class_crop(
    scaled: Scaled, rng: np.random.Generator, height: int, width: int, ignore_label: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """A crop of at most height x width around a pixel of a class: one class drawn evenly from those in the mask, one of
    its pixels drawn evenly, at an even place in the crop as far as the image's edges allow it."""
    mask = scaled.mask()
    h, w = min(height, mask.shape[0]), min(width, mask.shape[1])
    ids = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    ids = ids[ids != ignore_label]
    # All draws in any case: how many there are never depends on the mask.
    which, pixel, down, right = rng.random(4)
    if ids.size:
        places = np.flatnonzero(mask == ids[int(which * ids.size)])
        row, column = divmod(int(places[int(pixel * places.size)]), mask.shape[1])
    else:
        row, column = int(down * mask.shape[0]), int(right * mask.shape[1])
    top = min(max(row - int(down * h), 0), mask.shape[0] - h)
    left = min(max(column - int(right * w), 0), mask.shape[1] - w)
    box = Box(top, left, h, w)
    return scaled.image(box), box.of(mask)


def random_flips(
    image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator, horizontal: float, vertical: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mirrors with the given probabilities."""
    for chance, axis in ((horizontal, 1), (vertical, 0)):
        if rng.random() < chance:
            image, mask = _mirrored(image, axis), None if mask is None else _mirrored(mask, axis)
    return image, mask


def _mirrored(x: np.ndarray, axis: int) -> np.ndarray:
    """np.flip of rows (0) or columns (1), copied at once: every later pass over a reversed view costs NumPy 40 times this."""
    if x.ndim == 3 and x.shape[2] > MOST:
        return np.ascontiguousarray(np.flip(x, axis))
    return cv2.flip(np.ascontiguousarray(x), axis).reshape(x.shape)


def random_turn(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turns by 0, 90, 180 or 270 degrees, equally likely: for images taken from straight above."""
    turns = int(rng.integers(4))
    return np.rot90(image, turns), np.rot90(mask, turns)


def photometric_distortion(
    image: np.ndarray, rng: np.random.Generator, bands: Sequence[int], low: float = 0.0, high: float = 255.0
) -> np.ndarray:
    """mmsegmentation's PhotoMetricDistortion on some bands of an image; the others are returned as they were.

    Each with probability 1/2: brightness shifted by up to 32/255 of the range, contrast scaled by 0.5 .. 1.5 (before or
    after the rest, at random), saturation scaled by 0.5 .. 1.5, hue turned by up to 36 degrees. uint8 goes through
    OpenCV's 8-bit HSV as there, value for value; other dtypes go through float32, with `low` .. `high` (stored units)
    as their 0 .. 255, and integers are rounded. Source: mmseg/datasets/transforms/transforms.py.

    Args:
      bands: places of red, green and blue. Saturation and hue need all three and are left out with fewer.
    """
    if not bands:
        return image
    places = list(bands)
    eight_bit = image.dtype == np.uint8
    pixels = image[..., places]
    if not eight_bit:
        pixels = np.clip((pixels.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6)), 0, 255)

    def linear(values: np.ndarray, alpha: float = 1.0, beta: float = 0.0) -> np.ndarray:
        out = np.clip(values.astype(np.float32) * np.float32(alpha) + np.float32(beta), 0, 255)
        return out.astype(np.uint8) if eight_bit else out

    def hsv(change: Callable[[np.ndarray], None]) -> np.ndarray:
        if eight_bit:
            wheel = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2HSV)
            change(wheel)
            return cv2.cvtColor(wheel, cv2.COLOR_HSV2RGB)
        wheel = cv2.cvtColor(pixels / np.float32(255), cv2.COLOR_RGB2HSV) * np.float32([0.5, 255, 255])
        change(wheel)
        return cv2.cvtColor(wheel * np.float32([2, 1 / 255, 1 / 255]), cv2.COLOR_HSV2RGB) * np.float32(255)

    def saturate(wheel: np.ndarray) -> None:
        wheel[..., 1] = linear(wheel[..., 1], alpha=saturation)

    def turn(wheel: np.ndarray) -> None:
        wheel[..., 0] = (wheel[..., 0].astype(np.float32) + hue) % 180

    # All draws come first and in one order, so that what one step does never moves the randomness of another.
    does = rng.random(4) < 0.5
    early = rng.random() < 0.5
    brightness, contrast, saturation = rng.uniform(-32, 32), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5)
    hue = int(rng.integers(-18, 18))
    if does[0]:
        pixels = linear(pixels, beta=brightness)
    if does[1] and early:
        pixels = linear(pixels, alpha=contrast)
    if does[2] and len(places) == 3:
        pixels = hsv(saturate)
    if does[3] and len(places) == 3:
        pixels = hsv(turn)
    if does[1] and not early:
        pixels = linear(pixels, alpha=contrast)
    out = image.copy()
    if not eight_bit:
        pixels = pixels * np.float32(max(high - low, 1e-6) / 255) + np.float32(low)
        pixels = pixels if image.dtype == np.float32 else np.rint(pixels)
    out[..., places] = pixels
    return out


def classification_train(
    size: int,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    interpolation: str = "area",
) -> Transform:
    """Random resized crop to [size size c] and flips. Raises: UserError for an unknown interpolation or a bad range."""
    _check_interpolation(interpolation)
    for name, (low, high) in (("scale", scale), ("ratio", ratio)):
        if not 0 < low <= high:
            raise UserError(
                f"The {name} of random crops is {low} to {high}: give two numbers above 0, the smaller first."
            )

    def transform(record: dict, rng: np.random.Generator) -> dict:
        image = random_resized_crop(record["image"], rng, size, scale, ratio, interpolation)
        image, _ = random_flips(image, None, rng, horizontal_flip, vertical_flip)
        return {"image": image, "label": record["label"]}

    return transform


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise UserError(f"interpolation is {interpolation!r}: choose one of {', '.join(INTERPOLATIONS)}.")


def classification_eval(size: int, *, crop_share: float = 0.875, interpolation: str = "area") -> Transform:
    """Shorter side to size / crop_share, then the central [size size c]. crop_share = 1 keeps all of a square image.

    Raises: UserError for an unknown interpolation or a share out of range.
    """
    _check_interpolation(interpolation)
    if not 0 < crop_share <= 1:
        raise UserError(f"The central crop's share of the shorter side is {crop_share}: it is above 0 and at most 1.")

    def transform(record: dict, rng: np.random.Generator | None) -> dict:
        return {"image": centre_crop(record["image"], size, crop_share, interpolation), "label": record["label"]}

    return transform


def segmentation_train(
    card: DatasetCard,
    size: tuple[int, int],
    *,
    scale: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    turns: bool = False,
    photometric: bool = False,
    class_crops: float = 0.0,
) -> Transform:
    """Random scale, crop to `size` (height, width), flips, quarter turns, photometric distortion of the visible bands,
    padding with the band means and the ignore label. For square sizes only where `turns` is set.

    class_crops: probability of a `class_crop` in place of a `random_crop`.

    `photometric` needs bands named red, green or blue. Raises: UserError if there are none."""
    visible = tuple(card.colours.values())
    if photometric and not visible:
        raise UserError(f"{card.name} has no band named red, green or blue to distort: set photometric=False.")
    low = min((card.bands[i].low for i in visible), default=0.0)
    high = max((card.bands[i].high for i in visible), default=255.0)
    if turns and size[0] != size[1]:
        raise UserError(f"Quarter turns need a square crop, not {size[0]} x {size[1]}: set turns=False.")

    def transform(record: dict, rng: np.random.Generator) -> dict:
        image, mask = record["image"], record["label"]
        scaled = random_scale(image, mask, rng, scale)
        if class_crops and rng.random() < class_crops:
            image, mask = class_crop(scaled, rng, *size, card.ignore_label)
        else:
            image, mask = random_crop(scaled, rng, *size, cat_max_ratio, card.ignore_label)
        image, mask = random_flips(image, mask, rng, horizontal_flip, vertical_flip)
        if turns:
            image, mask = random_turn(image, mask, rng)
        if photometric:
            image = photometric_distortion(image, rng, visible, low, high)
        image, mask = pad(image, mask, *size, card.fill, card.ignore_label)
        return {"image": image, "label": mask}

    return transform


def segmentation_eval(card: DatasetCard, *, multiple: int = 1, size: Sequence[int] = ()) -> Transform:
    """Whole images, padded at the bottom and right (mask: ignore label) to a multiple of `multiple`, or to `size`
    (height, width) if it is given. Raises: UserError if an image is larger than `size`."""

    def transform(record: dict, rng: np.random.Generator | None) -> dict:
        image, mask = record["image"], record["label"]
        h, w = size or (-(-image.shape[0] // multiple) * multiple, -(-image.shape[1] // multiple) * multiple)
        if image.shape[0] > h or image.shape[1] > w:
            raise UserError(f"{record['name']} has {image.shape[0]} x {image.shape[1]} pixels, more than {h} x {w}.")
        image, mask = pad(image, mask, h, w, card.fill, card.ignore_label)
        return {"image": image, "label": mask}

    return transform
