"""Rasters through GDAL: one opener for GeoTIFF, JPEG 2000, VRT, ENVI, ERDAS and whatever else it reads.

Nothing here is imported by training on plain pictures: rasterio is imported where a file is opened.
"""

from __future__ import annotations

import contextlib
import html
import io
import logging
import os
import re
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg import memory, outputs
from genseg.errors import CorruptFile, UserError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NODATA_TAG, _ORIENTATION_TAG = 42113, 274
_CACHE = 256  # MiB of decoded blocks, for mosaics; files of one scene are read block row by block row
_PAGES = 512  # of a TIFF with a page a band; each is a file that is opened
_SCHEMES = {"https": "/vsicurl/https:/", "http": "/vsicurl/http:/", "s3": "/vsis3", "gs": "/vsigs", "az": "/vsiaz"}


def address(text: str, what: str = "the file", below: Path | None = None) -> Path:
    """A path (see `outputs.given`), or an address that GDAL opens (https://, s3://, gs://, az://, /vsizip/..., /vsicurl/...), as
    a path."""
    if (found := re.match(r"(\w+)://?(?=[^/])", text)) and (prefix := _SCHEMES.get(found[1].lower())):
        return Path(f"{prefix}/{text[found.end() :]}")
    return outputs.given(text, what, below)


def remote(path: Path) -> bool:
    """Whether a path is read by one of GDAL's virtual file systems instead of the operating system's."""
    return str(path).startswith("/vsi")


def present(path: Path) -> bool:
    """Whether there is a file to open; of addresses that is found out when they are opened."""
    return remote(path) or path.is_file()


def shown(path: Path) -> str:
    """As GDAL takes it: a path keeps one of the two slashes of an address or of an absolute archive inside it."""
    text = str(path)
    if archive := re.match(r"(/vsi(?:zip|tar|gzip|7z|rar)/)(?!vsi|/|\{)(.*)", text):
        inside = Path(archive[2])
        here = any(part.is_file() for part in (inside, *inside.parents))
        return text if here else f"{archive[1]}/{archive[2]}"
    return re.sub(r"^(/vsicurl(?:_streaming)?/https?):/+", r"\1://", text)


def known(path: Path) -> bool:
    """Whether a file is one of the usual rasters, by its first bytes: TIFF, JPEG 2000, ERDAS, VRT, or ENVI by the header
    beside it."""
    with open(path, "rb") as file:
        head = file.read(512)
    beside = [path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr")]
    starts = (*TIFF, b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"EHFA_HEADER_TAG")
    if head.startswith(starts) or b"<VRTDataset" in head:
        return True
    return any(p.is_file() and p.read_bytes()[:4] == b"ENVI" for p in beside)


_said = threading.local()


class _Heard(logging.Handler):
    """Keeps the last message of GDAL of this thread: rasterio's exceptions often say only that there was one."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            _said.last = record.getMessage()


def refusals() -> tuple[type[Exception], ...]:
    """What rasterio raises where GDAL cannot read or write; some of GDAL's own errors come through it as they are."""
    import rasterio
    from rasterio._err import CPLE_BaseError

    return rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """GDAL's settings, with errors as a CorruptFile that names the file, and nothing on standard error."""
    import rasterio

    log = logging.getLogger("rasterio")
    if not any(isinstance(handler, _Heard) for handler in log.handlers):
        log.addHandler(_Heard())
        log.propagate = False
    options = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": _CACHE}
    _said.last = ""
    unplaced = rasterio.errors.NotGeoreferencedWarning
    if not any(known[2] is unplaced for known in warnings.filters):  # catch_warnings is not for several threads
        warnings.simplefilter("ignore", unplaced)
    with rasterio.Env(**options):
        try:
            yield
        except (*refusals(), UnicodeError) as error:
            cause = str(error.__cause__ or error) or _said.last or type(error).__name__
            reason = " ".join(cause.split())[:160]
            raise CorruptFile(
                f"The image {name} cannot be decoded ({reason}): repair or remove it, or set skip_corrupt."
            ) from None


class File:
    """A raster that GDAL opens, whole or some of its bands, read by rows; opened anew in each process.

    shape: height, width, bands. dtype: of all bands together, as stored. nodata: of each band the value that it states,
    None also for NaN and infinities. alpha: of each band whether it is opacity. scales: of each band (scale, offset).
    """

    def __init__(self, source: Path | bytes, name: str = ""):
        """source: a path, or the bytes of a file called `name`. Raises: CorruptFile; UserError for what is no image."""
        self._source, self.name = source, name or shown(source)
        self._process, self._files, self._memory = 0, [], None
        with quiet(self.name):
            self._look()

    def _look(self) -> None:
        """At all that is known without a pixel."""
        source = self._source
        first = self._opened()[0]
        self._bands = [(i, band) for i, file in enumerate(self._files) for band in file.indexes]
        self.shape = (first.height, first.width, len(self._bands))
        types = self._each("dtypes")
        if odd := [t for t in types if t not in _TYPES]:
            raise UserError(f"{self.name} holds {odd[0]} values: give real numbers (gdal_translate -ot Float32).")
        self.dtype = np.result_type(*map(np.dtype, set(types)))
        if isinstance(source, bytes) or not remote(source):
            _refuse_strange_tags(source, self.name)
        self.nodata = tuple(None if v is None or not np.isfinite(v) else float(v) for v in self._each("nodatavals"))
        self.alpha = tuple(kind.name == "alpha" for kind in self._each("colorinterp"))
        self.scales = tuple(zip(self._each("scales"), self._each("offsets"), strict=True))
        self.descriptions = tuple(text or "" for text in self._each("descriptions"))
        self._flags = self._each("mask_flag_enums")
        tall, wide = first.block_shapes[0]
        self._height = min(tall, first.height)
        refuse_too_large(self.name, self.shape, self.dtype, memory.SCENES)
        refuse_too_large(self.name, (self._height, max(first.width, wide), self.shape[2]), self.dtype)
        self._held, self._first = np.empty((0, *self.shape[1:]), self.dtype), 0

    def _pairs(self) -> Iterator[tuple[Any, int]]:
        files = self._opened()
        return ((files[i], band) for i, band in self._bands)

    def _each(self, what: str) -> tuple[Any, ...]:
        """An attribute of rasterio's data sets that has a value a band, of all bands. Asked for once a file: it makes all."""
        return tuple(value for file in self._opened() for value in getattr(file, what))

    def _opened(self) -> list[Any]:
        """The data sets of this process: a handle that two processes share reads wrong places."""
        if self._process != os.getpid():
            self._files, self._process = self._open(), os.getpid()
        return self._files

    def _open(self) -> list[Any]:
        import rasterio
        from rasterio.io import MemoryFile

        with quiet(self.name):
            if isinstance(self._source, bytes):
                self._memory = MemoryFile(self._source)
                first = self._memory.open()
            else:
                if not remote(self._source):
                    outputs.regular(self._source, "image")
                    refuse_special_parts(self._source)
                first = rasterio.open(shown(self._source), sharing=False)
            if first.driver == "GTiff" and (count := len(first.subdatasets)) > _PAGES:
                raise UserError(
                    f"{self.name} holds {count} images: give one with its bands together, or at most {_PAGES} pages."
                )
            if first.count == 1 and first.driver == "GTiff" and len(first.subdatasets) > 1:
                order = sorted(first.subdatasets, key=lambda page: int(page.split(":")[1]))  # GTIFF_DIR:10:name
                pages = [rasterio.open(page, sharing=False) for page in order[1:]]
                alike = [p for p in pages if (p.shape, p.dtypes) == (first.shape, first.dtypes)]
                return [first, *alike]  # a page a band
            if not first.count:
                inside = ", ".join(first.subdatasets[:3]) or "nothing"
                raise UserError(f"{self.name} is no single image but holds {inside}: name one of them.")
            return [first]

    def rows(self, first: int, end: int) -> np.ndarray:
        """[end - first, width, bands], not to be written to. Rows asked for before are kept while later ones are asked
        for, and whole rows of blocks are read, so that from top to bottom each block is decoded once.

        Raises: CorruptFile."""
        kept, stop = self._first, self._first + len(self._held)
        if not kept <= first <= end <= stop:
            tall = self._height
            begin = stop if kept <= first < stop else first // tall * tall
            until = max(begin, min(-(-end // tall) * tall, self.shape[0]))
            top = min(first, begin) if kept <= first < stop else begin
            held = np.empty((until - top, *self.shape[1:]), self.dtype)
            held[: begin - top] = self._held[top - kept :] if begin > top else 0
            self._read(begin, until, held[begin - top :])
            held.flags.writeable = False  # it is handed out again and again
            self._held, self._first = held, top
        return self._held[first - self._first : end - self._first]

    def _read(self, first: int, end: int, out: np.ndarray) -> None:
        from rasterio.windows import Window

        if first >= end:
            return
        window, planes = Window(0, first, self.shape[1], end - first), out.transpose(2, 0, 1)
        with quiet(self.name):
            files = self._opened()
            if len(files) == 1:
                files[0].read(out=planes, window=window)
            else:
                for place, (file, band) in enumerate(self._pairs()):
                    planes[place] = file.read(band, window=window)

    def valid(self, first: int, end: int, taken: Sequence[int]) -> np.ndarray | None:
        """bool [end - first, width]: where neither an alpha band that is not `taken` as data nor a mask of the file takes
        a pixel of a taken band (from 0) out; None if nothing does. Nodata values are not looked at."""
        from rasterio.enums import MaskFlags
        from rasterio.windows import Window

        found = None
        for band, alpha in enumerate(self.alpha):
            if alpha and band not in taken:
                found = _both(found, self.rows(first, end)[..., band] > 0)
        window, asked = Window(0, first, self.shape[1], end - first), set()
        for band in taken:
            flags, (which, index) = self._flags[band], self._bands[band]
            of_all = MaskFlags.per_dataset in flags
            if MaskFlags.all_valid in flags or MaskFlags.alpha in flags or flags == [MaskFlags.nodata]:
                continue
            if (which, of_all or index) in asked:
                continue
            asked.add((which, of_all or index))
            with quiet(self.name):
                found = _both(found, self._opened()[which].read_masks(index, window=window) > 0)
        return None if found is None or found.all() else found

    @property
    def first(self) -> Any:
        """rasterio's data set of the file, or of its first page."""
        return self._opened()[0]

    def close(self) -> None:
        for file in self._files:
            file.close()


_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


def _both(found: np.ndarray | None, more: np.ndarray) -> np.ndarray:
    return more if found is None else found & more


def refuse_too_large(name: str, shape: tuple[int, ...], dtype: np.dtype, share: float = 1) -> None:
    """For those who decode a file whole, or a `share` below one of it. Raises: CorruptFile."""
    if words := memory.excess(float(np.prod(shape, dtype=np.float64)) * dtype.itemsize, share):
        raise CorruptFile(f"The image {name} cannot be decoded ({words}): repair or remove it, or set skip_corrupt.")


def refuse_special_parts(path: Path) -> None:
    """Raises UserError if a VRT, or one that it names, names a pipe or a device: GDAL would wait for it, or take zeros."""
    for _ in parts(path):
        pass


def parts(path: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The files that a VRT takes its pixels from, and those that these take, where they are there; none of other files.

    Raises: UserError for a part that is no file of bytes."""
    with open(path, "rb") as file:
        if b"<VRTDataset" not in file.read(512):
            return
    if words := memory.excess(path.stat().st_size, 1 / memory.TEXTS):
        raise UserError(f"The image {path} is a VRT that is not read ({words}): give another one.")
    for within, name in re.findall(rb"<Source(?:Filename|Dataset)([^>]*)>([^<]*)</Source", path.read_bytes()):
        part = Path(html.unescape(os.fsdecode(name.strip())))
        part = path.parent / part if b'relativeToVRT="1"' in within else part
        if not part.exists() or part.is_dir() or part in seen:
            continue
        yield outputs.regular(part, f"part of {path}")
        yield from parts(part, seen | {part})


def decode(data: bytes, name: str) -> np.ndarray:
    """The bytes of a file that GDAL opens, decoded whole: [h w c] of the stored type. Raises: CorruptFile."""
    file = File(data, name)
    try:
        refuse_too_large(name, file.shape, file.dtype)
        out = np.empty(file.shape, file.dtype)
        file._read(0, file.shape[0], out)
        return out
    finally:
        file.close()


def _refuse_strange_tags(source: Path | bytes, name: str) -> None:
    """Of what GDAL passes over in a TIFF: a nodata statement that is no number, such as "n/a", is 0 to it, so that pixels
    of 0 would be lost; an orientation is left to the reader. Raises: UserError."""
    with contextlib.suppress(OSError, struct.error, OverflowError):
        tags = _tags(source)
        text = tags.get(_NODATA_TAG, b"0").decode("latin-1").strip("\0 ")
        try:
            float(text or 0)
        except ValueError:
            raise UserError(
                f"{name} states the nodata value {text!r}, which is no number: correct it (gdal_edit.py -a_nodata)."
            ) from None
        turned = tags.get(_ORIENTATION_TAG, b"\1\0")[:2]
        if max(turned) not in (0, 1):
            raise UserError(f"{name} is stored turned or mirrored (TIFF orientation {max(turned)}): store it upright.")


def refuse_endless(data: bytes) -> None:
    """Raises ValueError for a TIFF whose pages go in a circle, or are more than 2^12: readers follow them all."""
    order, big = "<" if data[:1] == b"I" else ">", 43 in data[2:4]
    place, number, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset, seen = struct.unpack_from(order + place, data, 8 if big else 4)[0], set()
    while offset and offset < len(data) - 8:
        if offset in seen or len(seen) == 1 << 12:
            raise ValueError(f"its pages go in a circle, or are more than {1 << 12}")
        seen.add(offset)
        (count,) = struct.unpack_from(order + number, data, offset)
        behind = offset + struct.calcsize(number) + size * count
        offset = struct.unpack_from(order + place, data, behind)[0] if behind < len(data) - 8 else 0


def _tags(source: Path | bytes) -> dict[int, bytes]:
    """Bytes, 64 at most, of the tags that are looked at, of the first page of a TIFF (TIFF 6.0, and BigTIFF's 64-bit
    offsets); {} for other files."""
    found = {}
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        head = file.read(16)
        if head[:4] not in TIFF:
            return {}
        order, big = "<" if head[:1] == b"I" else ">", 43 in head[2:4]
        place, number, entry, inline = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
        file.seek(struct.unpack_from(order + place, head, 8 if big else 4)[0])
        (count,) = struct.unpack(order + number, file.read(8 if big else 2))
        size = 20 if big else 12
        entries = file.read(size * min(count, 4096))
        for offset in range(0, len(entries) - size + 1, size):
            tag, kind, length = struct.unpack_from(order + entry, entries, offset)
            if tag in (_NODATA_TAG, _ORIENTATION_TAG):
                value, length = entries[offset + size - inline : offset + size], length * (2 if kind == 3 else 1)
                if length > inline:
                    file.seek(struct.unpack(order + place, value)[0])
                    value = file.read(min(length, 64))
                found[tag] = value[:length]
    return found
