"""How many pixels of each class a split's records hold: what class weights and weighted sampling are computed from."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genseg.data.batches.pipeline import Split
from genseg.data.files import codec


def class_pixels(split: Split, threads: int = 0) -> np.ndarray:
    """int64 [records, classes]; ignored pixels are of none. One pass over the masks alone; 0 threads = one a core.

    Raises: CorruptFile naming the file whose mask cannot be decoded.
    """
    classes = len(split.card.classes)

    def count(index: int) -> np.ndarray:
        record = split.record(index)
        mask = codec.decode_mask(record.label, f"mask of {record.file_name}")
        return np.bincount(mask.ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return np.stack(list(pool.map(count, range(len(split))))).astype(np.int64)
