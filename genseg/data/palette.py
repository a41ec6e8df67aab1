"""Colours for classes that have none, told apart by people of any colour vision."""

from __future__ import annotations

import functools
import itertools

import numpy as np

# What a dichromat sees of linear red, green and blue: protanopia, deuteranopia, tritanopia at severity 1.
# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency".
_DEFICIENCIES = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)  # D65
_LEVELS = (0, 51, 102, 153, 204, 255)
# Colours with a meaning of their own: the page, and pixels that are ignored.
_TAKEN = ((255, 255, 255), (255, 0, 255))


def lab(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..255 [n, 3] -> CIELAB [4, n, 3]: as normal vision, and with each of the three deficiencies, sees it."""
    share = np.asarray(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear, *(np.clip(linear @ np.transpose(m), 0, 1) for m in _DEFICIENCIES)])
    ratio = seen @ np.transpose(_TO_XYZ) / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


@functools.lru_cache
def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Black, then each time the colour whose nearest one so far is farthest, for whoever tells them apart least.

    From a cube of 214 colours, in CIELAB; the first ones of a longer palette are the shorter one. Beyond the cube's
    colours they come again.
    """
    cube = np.array([c for c in itertools.product(_LEVELS, repeat=3) if c not in _TAKEN])
    seen, taken = lab(cube), lab(np.array(_TAKEN))
    nearest = np.linalg.norm(seen[:, :, None] - taken[:, None], axis=-1).min(axis=2).min(axis=0)
    chosen: list[int] = []
    while len(chosen) < min(count, len(cube)):
        pick = int(nearest.argmax()) if chosen else 0
        chosen.append(pick)
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[:, pick : pick + 1], axis=-1).min(axis=0))
    return tuple(tuple(map(int, cube[chosen[i % len(chosen)]])) for i in range(count))
