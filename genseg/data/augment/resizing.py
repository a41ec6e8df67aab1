"""Images [h w c] and masks [h w] at other sizes, whole or in parts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import cv2
import numpy as np

from genseg.data.augment import simd


class Parts(Protocol):
    """An image that is decoded in parts; `genseg.data.batches.pipeline.Split.decode` gives such."""

    shape: tuple[int, int, int]
    dtype: np.dtype

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray: ...


Image = np.ndarray | Parts


class Box(NamedTuple):
    """A part of an image, pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image) -> np.ndarray:
        """That part of an image [h w c] or a mask [h w]."""
        if isinstance(image, np.ndarray):
            return image[self.top : self.top + self.height, self.left : self.left + self.width]
        return image.read(*self)


INTERPOLATIONS = ("area", "bilinear", "bicubic")
MOST = 64  # bands that OpenCV is given at once; version 5 takes 128 at most


def resize(image: np.ndarray, height: int, width: int, interpolation: str = "area") -> np.ndarray:
    """[h w c] -> [height width c], same dtype. Nothing is aliased: whatever the kind, shrinking averages.

    interpolation, one of INTERPOLATIONS:
      area: OpenCV's area average where it shrinks, its bicubic where it enlarges.
      bilinear: area average where it shrinks, bilinear where it enlarges.
      bicubic: Pillow's, whose kernel widens as the image shrinks: what torchvision and timm mean by bicubic. Published
        top-1 scores are measured with it. See `genseg.data.augment.simd` for how near to Pillow's pixels.
    Values stay inside the dtype's range, floats inside the image's own range.
    """
    if image.shape[:2] == (height, width):
        return image
    if interpolation == "bicubic":
        return _inside(simd.bicubic(image, height, width), image)
    shrinks = height < image.shape[0] or width < image.shape[1]
    grows = height > image.shape[0] or width > image.shape[1]
    if shrinks and grows:  # averaging enlarges by repetition: shrink one axis, then enlarge the other
        image = resize(image, min(height, image.shape[0]), min(width, image.shape[1]))
        return resize(image, height, width, interpolation)
    kind = {"area": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}[interpolation]
    out = _by_opencv(image, cv2.INTER_AREA if shrinks else kind, size=(width, height))
    return _inside(out, image) if grows and interpolation == "area" else out


def _scaled(image: np.ndarray, down: float, across: float) -> np.ndarray:
    """By two factors, both above 1 (bilinear) or both at most 1 (area average)."""
    return _by_opencv(image, cv2.INTER_LINEAR if down > 1 else cv2.INTER_AREA, fx=across, fy=down)


def _by_opencv(
    image: np.ndarray, kind: int, *, size: tuple[int, int] | None = None, fx: float = 0, fy: float = 0
) -> np.ndarray:
    """cv2.resize of [h w c] with any c."""
    most = 4 if kind == cv2.INTER_AREA else MOST  # channels that it averages at a time
    parts = [image[..., i : i + most] for i in range(0, image.shape[2], most)]
    parts = [cv2.resize(np.ascontiguousarray(p), size, fx=fx, fy=fy, interpolation=kind) for p in parts]
    parts = [p.reshape(*p.shape[:2], -1) for p in parts]
    return parts[0] if len(parts) == 1 else np.dstack(parts)


def _inside(out: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Cubic kernels overshoot: floats are brought back into each band's range (integers have been already)."""
    return np.clip(out, image.min((0, 1)), image.max((0, 1)), out=out) if out.dtype == np.float32 else out


def resize_mask(mask: np.ndarray, height: int, width: int, box: Box | None = None) -> np.ndarray:
    """[h w] -> [height width], or `box` of it, by nearest pixel centres (cv2.INTER_NEAREST takes corners and shifts by half a
    pixel)."""
    box = box or Box(0, 0, height, width)
    if mask.shape == (height, width):
        return box.of(mask)
    rows = (np.arange(box.top, box.top + box.height) * 2 + 1) * mask.shape[0] // (2 * height)
    columns = (np.arange(box.left, box.left + box.width) * 2 + 1) * mask.shape[1] // (2 * width)
    return mask.take(rows, axis=0).take(columns, axis=1)  # a third of the time of one step with two index arrays


def resize_part(image: Image, height: int, width: int, box: Box) -> np.ndarray:
    """`box` of resize(image, height, width, "bilinear"), of which only the pixels that it needs are decoded and resized.

    Equal to it but for rounding, integers within 1: enlarged photographs of three or four bands (uint8) go through SIMD code
    that rounds otherwise, and OpenCV's rounding depends on where a row begins.
    """
    sides, new, first, count = image.shape[:2], (height, width), box[:2], box[2:]
    if sides == new:
        return box.of(image)
    if (height > sides[0]) != (width > sides[1]):  # one side shrinks: two steps, see `resize`
        return box.of(resize(Box(0, 0, *sides).of(image), height, width, "bilinear"))
    # Pixels of the image on whose centres the box's outer centres lie, and one more on either side.
    low = [int((a + 0.5) * s / n - 0.5) - 1 for a, s, n in zip(first, sides, new, strict=True)]
    high = [int((a + c) * s / n) + 3 for a, c, s, n in zip(first, count, sides, new, strict=True)]
    low, high = [max(x, 0) for x in low], [min(x, s) for x, s in zip(high, sides, strict=True)]
    if height > sides[0] and simd.enlarges(image):
        region = Box(*low, high[0] - low[0], high[1] - low[1]).of(image)
        start = [max(a * s / n - x, 0.0) for a, s, n, x in zip(first, sides, new, low, strict=True)]
        extent = [
            min(c * s / n, x - a) for c, s, n, x, a in zip(count, sides, new, region.shape[:2], start, strict=True)
        ]
        return simd.enlarged(region, (*start, *extent), box.height, box.width)
    # OpenCV takes whole pixels: all from the image's corner on, where its places of sampling are those of the whole image;
    # the whole where it would find so few pixels that it copied them.
    same = all(round(x * n / s) == x for x, s, n in zip(high, sides, new, strict=True))
    region = Box(0, 0, *(sides if same else high)).of(image)
    return box.of(_scaled(region, height / sides[0], width / sides[1]))


class Scaled:
    """An image and its mask at another size: the image bilinear, the mask by nearest pixel, in parts as they are asked for."""

    def __init__(self, image: Image, mask: np.ndarray, height: int, width: int):
        self.shape = height, width
        self._image, self._mask = image, mask

    def image(self, box: Box) -> np.ndarray:
        return resize_part(self._image, *self.shape, box)

    def mask(self, box: Box | None = None) -> np.ndarray:
        """All of it for None."""
        return resize_mask(self._mask, *self.shape, box)
