"""How many pixels of each class a split's records hold: what class weights and weighted sampling are computed from."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genseg.data.batches.pipeline import Split, put_up_with
from genseg.data.files import codec


def class_pixels(split: Split, threads: int = 0, skip_corrupt: int = 0) -> np.ndarray:
    """int64 [records, classes]; ignored pixels are of none. One pass over the masks alone; 0 threads = one a core.

    skip_corrupt: as of `pipeline.train_batches`; a record whose mask cannot be decoded is noted in split.corrupt, and is a
    row of zeros: no class is in it. Raises: CorruptFile naming the file of such a mask where none is allowed; UserError if
    there are more.
    """
    classes = len(split.card.classes)

    def count(index: int) -> np.ndarray | codec.CorruptFile:
        try:
            record = split.record(index)
            mask = codec.decode_mask(record.label, f"mask of {record.file_name}")
        except codec.CorruptFile as error:
            return error
        return np.bincount(mask.ravel(), minlength=256)[:classes]

    rows = np.zeros((len(split), classes), np.int64)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for index, found in enumerate(pool.map(count, range(len(split)))):  # in order: the first damaged ones are named
            if isinstance(found, codec.CorruptFile):
                put_up_with(split, index, found, skip_corrupt)
            else:
                rows[index] = found
    return rows
