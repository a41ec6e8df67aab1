"""Tensors of a checkpoint file as NumPy arrays: `.safetensors`, and torch's zip format read without running its pickle."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from genseg import outputs
from genseg.errors import UserError

# Names under which training scripts keep the weights beside optimizer and options.
CONTAINERS = ("state_dict", "model")

HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read(path: str) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint; floating ones as float32.

    path: a `.safetensors` file, a torch file (`.pth`, `.pt`, `.bin`, `.ckpt`), or a folder with Hugging Face's
    model.safetensors or pytorch_model.bin. Weights that lie under "model" or "state_dict" are found there; the prefix
    "module." of torch's data parallelism is removed.

    Raises UserError for a file that is absent, truncated, of another format, or without tensors.
    """
    file = _file(outputs.given(path, "--input"))
    tensors = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if not tensors:
        raise UserError(f"{file} holds no tensors; give a checkpoint with a state dict")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return {key: value if value.dtype.kind in "iub" else value.astype(np.float32) for key, value in tensors.items()}


def metadata(path: str) -> dict[str, str]:
    """What the header of a safetensors file that `read` has read says beside its tensors; {} for other files."""
    file = _file(outputs.given(path, "--input"))
    if file.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        return opened.metadata() or {}


def folder_of(path: str) -> Path | None:
    """The Hugging Face model folder that a checkpoint is in, by its name; None for any other file."""
    file = _file(outputs.given(path, "--input"))
    return file.parent if file.name in HUGGING_FACE else None


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in HUGGING_FACE:
            if (path / name).is_file():
                return path / name
        raise UserError(f"no model.safetensors or pytorch_model.bin in {path}; give the checkpoint file itself")
    if not path.is_file():
        raise UserError(f"no checkpoint file at {path}; give a .safetensors or .pth file")
    return path


# What safetensors calls the types that NumPy has; it has more, of 4 to 8 bits, for which there is no sound way to float32
# without the scales that lie elsewhere.
SAFETENSORS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_LONGEST_HEADER = 100 << 20  # bytes, as in safetensors itself


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, numpy

    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > min(_LONGEST_HEADER, file.stat().st_size):
                raise UserError(
                    f"{file} is not a whole safetensors file (its header says {length:,} bytes); copy it again"
                )
            header = json.loads(opened.read(length))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] not in SAFETENSORS:
                raise UserError(
                    f"{file}: '{name}' is of the type {entry['dtype']}; give a file with {', '.join(SAFETENSORS[:4])}"
                )
        return numpy.load_file(file)
    except UserError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} is not a whole safetensors file ({reason}); copy it again") from None


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            content = _Unpickler(archive).load()
    except zipfile.BadZipFile:
        raise UserError(
            f"{file} is not a whole torch zip file; copy it again, or if it was saved before torch 1.6 save it anew "
            f"with torch.save(torch.load(path), path)"
        ) from None
    except Exception as error:  # a damaged file may raise anything in zipfile and pickle, MemoryError and OSError too
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} cannot be read as a torch checkpoint ({reason}); copy it again") from None
    for name in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, np.ndarray)}


class _Inert:
    """Stands for every class and function that is not needed to rebuild tensors; it does nothing whatever is done to it."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


@dataclasses.dataclass
class _Storage:
    """Stands for torch's classes of storages; a key of STORAGES."""

    name: str


_LONGEST_PICKLE = 64 << 20  # bytes: names and shapes of a hundred thousand tensors


def _refuse_wild(pickled: bytes) -> None:
    """Raises UnpicklingError for a number, text or place in the memo that takes more memory than the pickle has bytes."""
    for code, argument, _ in pickletools.genops(pickled):
        if "PUT" in code.name and int(argument or 0) > len(pickled):
            raise pickle.UnpicklingError(f"{code.name} of {argument}")


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors as NumPy arrays. No global is looked up: known names map to functions of this file, others to `_Inert`."""

    def __init__(self, archive: zipfile.ZipFile):
        names = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(names) != 1:
            raise pickle.UnpicklingError("it holds no data.pkl")
        self._archive, self._root = archive, names[0].removesuffix("data.pkl")
        held = sum(min(info.file_size, info.compress_size * 4) for info in archive.infolist())
        self._left = 4 * held + (1 << 20)  # bytes of tensors; few share a storage
        order = f"{self._root}byteorder"
        if order in archive.namelist() and self._member(order, most=64) != b"little":
            raise pickle.UnpicklingError("its numbers are big-endian")
        pickled = self._member(names[0], most=_LONGEST_PICKLE)
        _refuse_wild(pickled)
        # Fresh for each file: a pickle may set attributes of whatever it names.
        self._inert = type("_Inert", (_Inert,), {})
        self._known = {
            ("collections", "OrderedDict"): type("OrderedDict", (collections.OrderedDict,), {}),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: self._counted(_rebuild_tensor(*arguments)),
            ("torch._utils", "_rebuild_parameter"): lambda *arguments: _rebuild_parameter(*arguments),
        }
        super().__init__(io.BytesIO(pickled))

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _Storage(name)
        return self._known.get((module, name), self._inert)

    def _member(self, name: str, most: int) -> bytes:
        """A member of the archive, which torch does not compress: one that says it is larger than the file is refused."""
        info = self._archive.getinfo(name)
        if info.file_size > min(most, max(info.compress_size, 1 << 20) * 4):
            raise pickle.UnpicklingError(f"{name} says it holds {info.file_size:,} bytes")
        return self._archive.read(name)

    def _counted(self, tensor: np.ndarray) -> np.ndarray:
        """A file of a few bytes may ask for one storage any number of times."""
        self._left -= tensor.nbytes
        if self._left < 0:
            raise pickle.UnpicklingError("its tensors are far larger than the file")
        return tensor

    def persistent_load(self, reference: Any) -> np.ndarray:
        kind, dtype, key, _, count = reference
        if kind != "storage" or not isinstance(dtype, _Storage):
            raise pickle.UnpicklingError(f"a storage of unknown type {dtype}")
        data = np.frombuffer(self._member(f"{self._root}data/{key}", most=1 << 48), STORAGES[dtype.name])
        if data.size < count:
            raise pickle.UnpicklingError(f"storage {key} is cut short")
        return data


def _rebuild_tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # The count keeps strides of 0 from asking for any amount of memory.
    outside = last >= storage.size or math.prod(size) > storage.size
    if min((offset, *size, *stride)) < 0 or (0 not in size and outside):
        raise pickle.UnpicklingError("a tensor reaches outside its storage")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data
