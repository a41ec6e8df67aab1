"""RandAugment as timm's `rand-m9-mstd0.5-inc1` defines it, on uint8 images.

It is the policy of the published ConvNeXt and Swin ImageNet recipes (facebookresearch/ConvNeXt main.py `--aa`,
microsoft/Swin-Transformer config.py `AUG.AUTO_AUGMENT`); the definitions are those of timm/data/auto_augment.py
(timm 1.0.31): fifteen operations, of which two are drawn with replacement, each then applied with probability 0.5 at a
magnitude drawn from N(9, 0.5) and clamped to [0, 10]. With `inc1` a larger magnitude always means a stronger change.

In the pre-training transform it stands between the horizontal flip and the uint8 batch:
decode -> RandomResizedCrop -> flip -> RandAugment -> uint8 [h w 3]; normalisation, channel shuffling, mixup, cutmix and
erasing follow on the accelerator. The operations are defined on red, green and blue, so they come before channels are
repeated and shuffled.

The colour operations are bit-exact to Pillow's ImageOps and ImageEnhance, mostly as one table of 256 values. The
rotation is Pillow's own: OpenCV's cubic kernel is another one (a = -0.75 against -1) and its positions are rounded to 1/32
pixel. Shears and translations move along one axis only, which `sliding` does in a third of the time, with values that differ
by 1 in less than 0.5 % of pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from genseg.data.augment import sliding
from genseg.data.augment.transforms import Transform
from genseg.keys import at_least, enforce, key, within

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_values = np.arange(256)


def _lookup(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table` is uint8 [256], or [3, 256] with one table a channel."""
    if table.ndim == 1:
        return cv2.LUT(image, table)
    return cv2.LUT(image, np.ascontiguousarray(table.T)[None])


def _histograms(image: np.ndarray) -> np.ndarray:
    """Counts of each value in each channel: int64 [3, 256]."""
    return np.array(Image.fromarray(image).histogram()).reshape(3, 256)


def _grey(image: np.ndarray) -> np.ndarray:
    """Pillow's RGB -> L (libImaging/Convert.c, `L24`): ITU-R 601 luma in 16-bit fixed point. uint8 [h w]."""
    weighted = image[..., 0] * np.int32(19595) + image[..., 1] * np.int32(38470) + image[..., 2] * np.int32(7471)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)


def _blend(start: np.ndarray | int, end: np.ndarray, factor: float) -> np.ndarray:
    """Pillow's Image.blend (libImaging/Blend.c): start + factor * (end - start) in float32, clipped, cut to uint8."""
    out = np.empty(end.shape, np.uint8)
    start = np.broadcast_to(start, end.shape)
    for first in range(0, len(end), 32):  # rows at once: what is made on the way stays in a core's cache
        rows = slice(first, first + 32)
        low = start[rows].astype(np.float32)
        mixed = end[rows].astype(np.float32)
        mixed -= low
        mixed *= np.float32(factor)
        mixed += low
        out[rows] = np.clip(mixed, 0, 255, out=mixed)
    return out


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel so that its smallest value becomes 0 and its largest 255 (ImageOps.autocontrast)."""
    tables = np.empty((3, 256), np.uint8)
    for c, counts in enumerate(_histograms(image)):
        present = np.flatnonzero(counts)
        lo, hi = int(present[0]), int(present[-1])
        if lo == hi:
            tables[c] = _values
        else:
            scale = 255.0 / (hi - lo)
            tables[c] = np.clip((_values * scale - lo * scale).astype(np.int64), 0, 255)
    return _lookup(image, tables)


def equalize(image: np.ndarray) -> np.ndarray:
    """Flattens each channel's histogram (ImageOps.equalize)."""
    tables = np.empty((3, 256), np.uint8)
    for c, counts in enumerate(_histograms(image)):
        present = counts[counts > 0]
        step = int(present.sum() - present[-1]) // 255
        if len(present) <= 1 or step == 0:
            tables[c] = _values
        else:
            below = np.concatenate([[0], np.cumsum(counts)[:-1]])
            # Pillow's 8-bit lookup clips: the last entries can reach 256 and more.
            tables[c] = np.clip((step // 2 + below) // step, 0, 255)
    return _lookup(image, tables)


def invert(image: np.ndarray) -> np.ndarray:
    """255 - value (ImageOps.invert)."""
    return 255 - image


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the `bits` highest bits of each value, 0 to 8 (ImageOps.posterize; 0 bits give a black image).

    Magnitude 10, which 2 % of the draws reach, means 0 bits. Pillow gave black for it when the recipes were published;
    since Pillow 13 it refuses 0 bits.
    """
    return image & np.uint8(0xFF << (8 - bits) & 0xFF)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values from `threshold` (0 to 256) upwards (ImageOps.solarize)."""
    return _lookup(image, np.where(_values >= threshold, 255 - _values, _values).astype(np.uint8))


def solarize_add(image: np.ndarray, add: int) -> np.ndarray:
    """Adds `add` to the values below 128, up to 255 (timm's `solarize_add`)."""
    return _lookup(image, np.where(_values < 128, np.minimum(_values + add, 255), _values).astype(np.uint8))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from grey (factor 0) through the image (1) to stronger colours (ImageEnhance.Color)."""
    return _blend(_grey(image)[..., None], image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the mean grey (factor 0) through the image (1) to more contrast (ImageEnhance.Contrast)."""
    return _lookup(image, _blend(int(_grey(image).mean() + 0.5), _values, factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies by `factor` (ImageEnhance.Brightness)."""
    return _lookup(image, _blend(0, _values, factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from a smoothed image (factor 0) through the image (1) to a sharper one (ImageEnhance.Sharpness).

    The smoothing is Pillow's ImageFilter.SMOOTH: weights 1 around a centre of 5, over 13; the outermost pixels stay.
    """
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        sums = cv2.boxFilter(image, cv2.CV_16U, (3, 3), normalize=False)[1:-1, 1:-1].astype(np.uint16)
        sums += np.uint16(4) * image[1:-1, 1:-1]
        # Rounded to the nearest: sums / 13 never ends in .5.
        smooth[1:-1, 1:-1] = (sums + np.uint16(6)) // np.uint16(13)
    return _blend(smooth, image, factor)


@dataclass(frozen=True)
class Warp:
    """How the geometric operations resample: `fill` is RGB for what comes from outside the image."""

    fill: tuple[int, int, int]
    resample: Image.Resampling

    def along_rows(self, image: np.ndarray, shift: float, shear: float) -> np.ndarray:
        """Output (x, y) is the input at (x + shear y + shift, y): Pillow's affine transform, see `sliding`."""
        height, width = image.shape[:2]
        if self.resample == Image.Resampling.BICUBIC:
            return sliding.slide(image, shear * (np.arange(height) + 0.5) + shift, self.fill)
        picture = Image.fromarray(image)
        matrix = (1, shear, shift, 0, 1, 0)
        return np.asarray(
            picture.transform((width, height), Image.Transform.AFFINE, matrix, self.resample, fillcolor=self.fill)
        )

    def along_columns(self, image: np.ndarray, shift: float, shear: float) -> np.ndarray:
        """Output (x, y) is the input at (x, y + shear x + shift)."""
        return cv2.transpose(self.along_rows(cv2.transpose(image), shift, shear))


def rotate(image: np.ndarray, degrees: float, warp: Warp) -> np.ndarray:
    """Counter-clockwise about the centre (PIL.Image.rotate)."""
    return np.asarray(Image.fromarray(image).rotate(degrees, warp.resample, fillcolor=warp.fill))


def shear_x(image: np.ndarray, factor: float, warp: Warp) -> np.ndarray:
    return warp.along_rows(image, 0.0, factor)


def shear_y(image: np.ndarray, factor: float, warp: Warp) -> np.ndarray:
    return warp.along_columns(image, 0.0, factor)


def translate_x(image: np.ndarray, share: float, warp: Warp) -> np.ndarray:
    """Moves the picture to the left by `share` of its width."""
    return warp.along_rows(image, share * image.shape[1], 0.0)


def translate_y(image: np.ndarray, share: float, warp: Warp) -> np.ndarray:
    """Moves the picture up by `share` of its height."""
    return warp.along_columns(image, share * image.shape[0], 0.0)


def enhance_factor(level: float, sign: int) -> float:
    """timm `_enhance_increasing_level_to_arg`: 1 is no change, the distance from it grows to 0.9, never below 0.1."""
    return max(0.1, 1.0 + sign * level * 0.9)


# An operation takes the image, the level = magnitude / 10 in [0, 1], a random sign (+1 or -1) and the Warp, and maps
# the level to its argument as timm's LEVEL_TO_ARG does. The names are timm's.
Operation = Callable[[np.ndarray, float, int, Warp], np.ndarray]
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, level, sign, warp: auto_contrast(image),
    "Equalize": lambda image, level, sign, warp: equalize(image),
    "Invert": lambda image, level, sign, warp: invert(image),
    "Rotate": lambda image, level, sign, warp: rotate(image, sign * level * 30.0, warp),
    "PosterizeIncreasing": lambda image, level, sign, warp: posterize(image, 4 - int(level * 4)),
    "SolarizeIncreasing": lambda image, level, sign, warp: solarize(image, 256 - int(level * 256)),
    "SolarizeAdd": lambda image, level, sign, warp: solarize_add(image, int(level * 110)),
    "ColorIncreasing": lambda image, level, sign, warp: color(image, enhance_factor(level, sign)),
    "ContrastIncreasing": lambda image, level, sign, warp: contrast(image, enhance_factor(level, sign)),
    "BrightnessIncreasing": lambda image, level, sign, warp: brightness(image, enhance_factor(level, sign)),
    "SharpnessIncreasing": lambda image, level, sign, warp: sharpness(image, enhance_factor(level, sign)),
    "ShearX": lambda image, level, sign, warp: shear_x(image, sign * level * 0.3, warp),
    "ShearY": lambda image, level, sign, warp: shear_y(image, sign * level * 0.3, warp),
    "TranslateXRel": lambda image, level, sign, warp: translate_x(image, sign * level * 0.45, warp),
    "TranslateYRel": lambda image, level, sign, warp: translate_y(image, sign * level * 0.45, warp),
}


@dataclass(frozen=True)
class Draw:
    """One operation to apply: its name in OPERATIONS, level = magnitude / 10 in [0, 1], and the sign +1 or -1."""

    name: str
    level: float
    sign: int


def draw_operations(
    rng: np.random.Generator, *, magnitude: float, magnitude_std: float, layers: int, prob: float
) -> list[Draw]:
    """The random part: `layers` operations with replacement, each kept with probability `prob`."""
    names = tuple(OPERATIONS)
    drawn = []
    for index in rng.integers(len(names), size=layers):
        if rng.random() < prob:
            level = min(max(rng.normal(magnitude, magnitude_std), 0.0), 10.0) / 10.0
            drawn.append(Draw(names[index], level, int(rng.choice((-1, 1)))))
    return drawn


def rand_augment(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    layers: int = 2,
    prob: float = 0.5,
    fill: tuple[int, int, int] = (124, 116, 104),
    interpolation: str = "bicubic",
) -> np.ndarray:
    """RandAugment of one image; the defaults are `rand-m9-mstd0.5-inc1` with ImageNet's mean colour as fill.

    Args:
      image: uint8 [h w 3], red, green, blue. It is not changed.
      rng: source of all randomness.
      magnitude, magnitude_std: mean and standard deviation of the magnitude, whose range is [0, 10].
      layers: how many operations are drawn.
      prob: with which probability each drawn operation is applied.
      fill: RGB of what the geometric operations bring in from outside; timm takes round(255 * mean).
      interpolation: "bicubic" or "bilinear", that of the training crop (timm transforms_factory.py).

    Returns:
      uint8 [h w 3].

    Raises:
      ValueError: the image is not uint8 [h w 3], or the interpolation has another name.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"rand_augment needs a uint8 [h w 3] image; this one is {image.dtype} {list(image.shape)}")
    if interpolation not in RESAMPLING:
        raise ValueError(f"interpolation is '{interpolation}'; it must be one of {tuple(RESAMPLING)}")
    warp = Warp(tuple(fill), RESAMPLING[interpolation])
    for draw in draw_operations(rng, magnitude=magnitude, magnitude_std=magnitude_std, layers=layers, prob=prob):
        image = OPERATIONS[draw.name](image, draw.level, draw.sign, warp)
    return image


@dataclass(frozen=True)
class RandAugment:
    """config.augment.rand_augment: the arguments of `rand_augment` of the same names. The defaults are timm's policy
    rand-m9-mstd0.5-inc1."""

    layers: int = key(2, "operations drawn for each image; 0 = none", at_least(0))
    magnitude: float = key(9.0, "mean strength of an operation", within(0, 10))
    magnitude_std: float = key(0.5, "standard deviation of the strength", at_least(0))
    prob: float = key(0.5, "that a drawn operation is applied", within(0, 1))

    def __post_init__(self):
        enforce(self, "augment.rand_augment")


def with_rand_augment(
    transform: Transform, settings: RandAugment, *, fill: tuple[int, int, int], interpolation: str
) -> Transform:
    """`transform` (crop and flip), then `rand_augment`. With settings.layers = 0 it is `transform` itself."""
    if settings.layers == 0:
        return transform
    options = dict(dataclasses.asdict(settings), fill=fill, interpolation=interpolation)

    def augmented(record: dict, rng: np.random.Generator) -> dict:
        record = transform(record, rng)
        return {**record, "image": rand_augment(record["image"], rng, **options)}

    return augmented
