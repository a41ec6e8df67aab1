"""NumPy's files, .npz and .npy, read within the limit of memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from genseg import memory, outputs


def read(path: Path, mend: str) -> dict[str, np.ndarray]:
    """What an .npz that genseg wrote holds. Raises UserError, with the mend, if it is damaged, or says that it takes more
    memory than `memory.limit`."""
    found = {}
    with outputs.undamaged(path, mend), zipfile.ZipFile(outputs.regular(path, "file")) as archive:
        for info in archive.infolist():
            if words := memory.excess(info.file_size):
                raise ValueError(words)
            data = archive.read(info)
            if words := memory.excess(declared(data)):
                raise ValueError(words)
            found[info.filename.removesuffix(".npy")] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def declared(data: bytes) -> float:
    """Bytes that an array takes, by the beginning of the .npy file that holds it. Raises ValueError."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if min(shape, default=0) < 0 or dtype.kind not in "biufU":
        raise ValueError(f"it holds {dtype} of shape {shape}")
    return float(np.prod(shape, dtype=np.float64)) * dtype.itemsize
