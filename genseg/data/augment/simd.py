"""Resizing of photographs by the SIMD code of cykooz-resizer, whose kernels are Pillow's, and Pillow itself where it is not at hand.

Bicubic: with a kernel that widens as the image shrinks (a = -1/2), Pillow's, five times as fast. It resizes columns first where
Pillow mostly resizes rows first; in between either rounds to 8 bits: pixels differ from Pillow's by less than 0.5 on average, of
255 levels, and by 2 at most for 99.9 % of them; where contrast is greatest by up to about 20. All but photographs (uint8,
three bands), and everything on platforms without a wheel of it (64-bit ARM Linux), is Pillow's own.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from PIL import Image

SIMD = importlib.util.find_spec("cykooz_resizer") is not None


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """[h w c] -> [height width c], same dtype; integers stay in the dtype's range, floats may overshoot the image's."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        if not SIMD:
            return _plane(image, height, width)
        return _photograph(image, height, width, "catmull_rom", (0, 0, *image.shape[:2]))
    if image.dtype == np.uint8:
        return np.dstack([_plane(image[..., i], height, width) for i in range(image.shape[2])])
    out = np.dstack([_plane(image[..., i].astype(np.float32), height, width) for i in range(image.shape[2])])
    if image.dtype == np.float32:
        return out
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(out), limits.min, limits.max).astype(image.dtype)


def enlarges(image: Any) -> bool:
    """Whether `enlarged` takes images of this shape and dtype here."""
    return SIMD and image.dtype == np.uint8 and image.shape[2] in (3, 4)


def enlarged(image: np.ndarray, box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """`box` (top, left, height, width in the image's pixels, fractions of pixels too) -> [height width c], bilinear.

    Pixels around the box count where centres lie beyond it. For enlarging alone: as an image shrinks the kernel widens."""
    return _photograph(image, height, width, "bilinear", box)


def _plane(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's: uint8 [h w 3], uint8 or float32 [h w]."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _photograph(
    image: np.ndarray, height: int, width: int, kernel: str, box: tuple[float, float, float, float]
) -> np.ndarray:
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    kind = {3: PixelType.U8x3, 4: PixelType.U8x4}[image.shape[2]]
    source = ImageData(image.shape[1], image.shape[0], kind, image.tobytes())
    target = ImageData(width, height, kind)
    top, left, high, wide = box
    options = ResizeOptions(ResizeAlg.convolution(getattr(FilterType, kernel)), False, CropBox(left, top, wide, high))
    Resizer().resize(source, target, options)  # a new one each time: they keep buffers, and threads share none
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, -1)
