"""Cutting large scenes into patches of one size, so that they can be read at random and put together again."""

from collections.abc import Collection, Iterator

import numpy as np

from genseg.data.augment.transforms import pad
from genseg.data.card import DatasetCard
from genseg.data.files import codec
from genseg.data.records.storage import Record
from genseg.errors import UserError


def starts(length: int, patch: int, stride: int) -> list[int]:
    """Where patches begin along one axis: every `stride` pixels, the last one moved back to the border.

    Source: mmsegmentation tools/dataset_converters/isaid.py, whose duplicates overwrite each other.
    """
    return sorted({min(s, max(length - patch, 0)) for s in range(0, length, stride)})


def windows(height: int, width: int, patch: int, stride: int) -> list[tuple[int, int]]:
    """(row, column) of all patches of a scene, row by row.

    Raises: UserError if patch or stride is not positive, or stride leaves gaps between patches.
    """
    if not 0 < stride <= patch:
        raise UserError(f"A stride of {stride} does not cover a scene with patches of {patch}: use 1 .. {patch}.")
    return [(r, c) for r in starts(height, patch, stride) for c in starts(width, patch, stride)]


def central(starts: Collection[int], start: int, patch: int) -> tuple[int, int]:
    """(first, last + 1), counted from `start`: the pixels that are nearer to the centre of the patch at `start` than to
    that of any other patch, which begin at `starts` (`start` among them). Ties go to the earlier patch.

    Outermost patches keep all pixels to their outer border. Over all starts these parts cover every pixel once.
    """
    earlier = [s for s in starts if s < start]
    later = [s for s in starts if s > start]
    # Centres lie at s + (patch - 1) / 2; half-way between two of them is (s + t + patch - 1) / 2.
    first = (max(earlier) + start + patch - 1) // 2 + 1 - start if earlier else 0
    end = (start + min(later) + patch - 1) // 2 + 1 - start if later else patch
    return max(first, 0), min(end, patch)


def cut(
    image: np.ndarray, ids: np.ndarray, patch: int, stride: int, card: DatasetCard, scene: str, prefix: str
) -> Iterator[Record]:
    """Records of all patches of a scene [h w c] with its mask of ids uint8 [h w].

    Smaller scenes are padded at the bottom and right: the image with 0, as the published converters do, the mask with
    the ignore label.
    """
    height, width = ids.shape
    zero = np.zeros(image.shape[2], image.dtype)
    for row, column in windows(height, width, patch, stride):
        part = (slice(row, row + patch), slice(column, column + patch))
        pixels, mask = pad(image[part], ids[part], patch, patch, zero, card.ignore_label)
        name = f"{prefix}{scene}_{row}_{column}"
        yield Record(
            codec.encode_image(np.ascontiguousarray(pixels)), codec.encode_mask(mask), name, scene, row, column,
            height, width,
        )  # fmt: skip
