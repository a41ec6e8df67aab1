"""Bicubic resizing with a kernel that widens as the image shrinks (a = -1/2): Pillow's, five times as fast.

Photographs (uint8, three bands) go through the SIMD code of cykooz-resizer, which has the same kernel, but resizes columns
first where Pillow mostly resizes rows first. In between either rounds to 8 bits: pixels differ from Pillow's by less than 0.5
on average, of 255 levels, and by 2 at most for 99.9 % of them; where contrast is greatest by up to about 20. All else, and
everything on platforms without a wheel of it (64-bit ARM Linux), is Pillow's own.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from PIL import Image

SIMD = importlib.util.find_spec("cykooz_resizer") is not None


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """[h w c] -> [height width c], same dtype; integers stay in the dtype's range, floats may overshoot the image's."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return _photograph(image, height, width) if SIMD else _plane(image, height, width)
    if image.dtype == np.uint8:
        return np.dstack([_plane(image[..., i], height, width) for i in range(image.shape[2])])
    out = np.dstack([_plane(image[..., i].astype(np.float32), height, width) for i in range(image.shape[2])])
    if image.dtype == np.float32:
        return out
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(out), limits.min, limits.max).astype(image.dtype)


def _plane(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's: uint8 [h w 3], uint8 or float32 [h w]."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _photograph(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    source = ImageData(image.shape[1], image.shape[0], PixelType.U8x3, image.tobytes())
    target = ImageData(width, height, PixelType.U8x3)
    kernel = ResizeOptions(ResizeAlg.convolution(FilterType.catmull_rom))
    Resizer().resize(source, target, kernel)  # a new one each time: they keep buffers, and threads share none
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)
