"""Rows of an image moved by fractions of a pixel: what Pillow's bicubic affine transform does where only x changes."""

from __future__ import annotations

import cv2
import numpy as np

# Pillow cuts values to integers. Sums of float32 that should be integers, as in areas of one colour, may lie this much lower.
_BELOW = np.float32(1e-4)
_ROWS = 32  # at once: what is made on the way stays in a core's cache


def slide(image: np.ndarray, shifts: np.ndarray, fill: tuple[int, ...]) -> np.ndarray:
    """uint8 [h w c]: output (x, y) is the input at (x + shifts[y], y), with `fill` [c] for what lies outside.

    Cubic convolution with a = -1, edges repeated (Pillow, libImaging/Geometry.c, `bicubic_filter8`).
    Args:
      shifts: float64 [h], pixels to the right.
    """
    out = np.empty(image.shape, np.uint8)
    colour = np.full((min(_ROWS, len(image)), *image.shape[1:]), fill, np.uint8)
    for first in range(0, len(image), _ROWS):
        rows = slice(first, first + _ROWS)
        _slide_rows(image, first, shifts[rows, None], colour, out[rows])
    return out


def _slide_rows(image: np.ndarray, first: int, shifts: np.ndarray, colour: np.ndarray, out: np.ndarray) -> None:
    """The rows of `out` [n w c], those of the image from `first` on; shifts [n 1]; colour: `fill` in that shape or more."""
    (count, width, c), length = out.shape, out.shape[1] * out.shape[2]
    whole = np.floor(shifts)
    d = shifts - whole
    taps = (-d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, -(d**2) + d**3)
    columns = (np.arange(-1, width + 2) + whole).astype(np.float32)
    rows = np.broadcast_to(np.arange(first, first + count, dtype=np.float32)[:, None], columns.shape).copy()
    near = cv2.remap(image, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).reshape(count, -1)
    near = near.astype(np.float32)  # [n (w+3)*c]
    total = np.full((count, length), _BELOW)
    for number, tap in enumerate(taps):
        total += near[:, number * c : number * c + length] * tap.astype(np.float32)
    out[:] = np.clip(total, 0, 255, out=total).reshape(out.shape)  # cut, not rounded
    centres = np.arange(width) + 0.5 + shifts
    cv2.copyTo(colour[:count], ((centres < 0) | (centres >= width)).view(np.uint8), out)
