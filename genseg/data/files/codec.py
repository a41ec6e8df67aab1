"""Encoded bytes to pixels and back: JPEG, PNG, TIFF, NPY and what GDAL reads, recognised by their first bytes.

Pixels are kept as they are stored. A fourth PNG or TIFF channel marked as alpha is returned as a plain fourth band,
since multi-spectral files keep infrared or thermal values there (MFNet, NAIP): it is neither premultiplied nor dropped.
"""

import io
import logging
import struct
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from genseg import arrays, memory, outputs
from genseg.data.files import gdal, orientation
from genseg.errors import CorruptFile, UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_NPY = b"\x93NUMPY"
ZSTD_LEVEL = (
    1  # of stored images: 3 takes 1.4 times as long, is up to 3 % smaller on photographs, and is read no faster
)
TILE = 128  # side of a stored image's tiles, pixels: smaller ones take longer a pixel, larger ones hold more that no crop needs

Image.MAX_IMAGE_PIXELS = None  # masks of scenes are larger than what Pillow takes for an attack
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of damaged files is said in one sentence
cv2.setNumThreads(0)  # images are decoded and resized in several threads already


def corrupt(name: str, reason: object) -> CorruptFile:
    """To be raised for the image `name`."""
    return CorruptFile(f"The image {name} cannot be decoded ({reason}): repair or remove it, or set skip_corrupt.")


def first_line(error: Exception) -> str:
    """What a decoder says, in one short line."""
    return str(error).strip().split("\n")[0][:120] or type(error).__name__


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes to [h w c] with the stored dtype; palettes become RGB, a grey JPEG has one band, channel order is the file's.
    Turned as an EXIF orientation says.

    Raises: CorruptFile, naming `name`, if the bytes are damaged, cut short or of no format that is read.
    """
    return _plain(_upright(_decoded(data, name), data))


def _upright(pixels: np.ndarray, data: bytes) -> np.ndarray:
    noted = orientation.orientation(data)
    return pixels if noted == 1 else np.ascontiguousarray(orientation.upright(pixels, noted))


def _decoded(data: bytes, name: str) -> np.ndarray:
    try:
        refuse_too_large(declared_bytes(data))
        if data[:2] == _JPEG:
            pixels = _decode_jpeg(data)
        elif data[:8] == _PNG:
            pixels = _decode_png(data, indices=False)
        elif data[:4] in gdal.TIFF:
            pixels = _decode_tiff(data)
        elif data[:6] == _NPY:
            file = io.BytesIO(data)
            pixels = np.load(file, allow_pickle=False)
            if behind := len(data) - file.tell():
                raise ValueError(f"there are {behind} bytes behind its pixels")
        elif not data:
            raise ValueError("it is empty")
        else:
            pixels = gdal.decode(data, name)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.dtype.kind not in "buif":
            raise ValueError(f"it holds {pixels.dtype}, not real numbers")
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise ValueError(f"its shape is {pixels.shape}, not height x width x bands")
        return pixels
    except UserError:
        raise
    except Exception as error:  # every codec has its own exception classes, and damaged bytes can raise any of them
        raise corrupt(name, first_line(error)) from None


def grey_as_colour(data: bytes, pixels: np.ndarray, bands: int) -> np.ndarray:
    """A grey JPEG [h w 1] among colour images, which have 3 bands, repeats its one band; all else stays as it is."""
    return np.repeat(pixels, 3, axis=2) if bands == 3 and pixels.shape[2] == 1 and data[:2] == _JPEG else pixels


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decodes a photograph to uint8 [h w 3]: grey is repeated, alpha dropped, CMYK converted, no EXIF orientation applied.

    Raises: CorruptFile if it cannot be decoded; UserError if it has another band count or is not 8-bit.
    """
    pixels = _plain(_decoded(data, name))
    if pixels.dtype == np.uint16 and data[:8] == _PNG:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 2, 3, 4):
        raise UserError(
            f"The photograph {name} has {pixels.shape[2]} bands of {pixels.dtype}: classification takes 8-bit grey or "
            "RGB."
        )
    if pixels.shape[2] <= 2:
        return cv2.cvtColor(np.ascontiguousarray(pixels[..., 0]), cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(pixels[..., :3])


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decodes a mask of class ids to [h w] (palette indices and sub-byte greys as stored, not as shown), or a mask of
    colours to [h w c]. Raises: CorruptFile, naming `name`."""
    try:
        refuse_too_large(declared_bytes(data))
        pixels = _decode_png(data, indices=True) if data[:8] == _PNG else None
    except Exception as error:
        raise corrupt(name, first_line(error)) from None
    if pixels is None:
        pixels = _decoded(data, name)
        if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize < 4:  # float32 would round ids beyond 2^24
            pixels = _plain(pixels)
    pixels = _upright(pixels, data)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def declared_bytes(data: bytes) -> float:
    """Bytes of memory that a JPEG, PNG or NPY says it takes when decoded; 0 for others. Raises what the decoders raise."""
    if data[:2] == _JPEG:
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError:  # of a kind that Pillow reads
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        return 3 * height * width
    if data[:8] == _PNG:
        width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
        return height * width * {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour] * (depth // 8 or 1)
    if data[:6] == _NPY:
        return arrays.declared(data)
    return 0


def refuse_too_large(size: float) -> None:
    """Raises ValueError for an image of more bytes than are allowed."""
    if words := memory.excess(size):
        raise ValueError(words)


def has_alpha(data: bytes, bands: int) -> bool:
    """Whether the last of a picture's decoded bands is opacity: PNG with alpha, or with a transparent colour."""
    return data[:8] == _PNG and bands in (2, 4)


def plain_picture(path: Path) -> bool:
    """Whether a file is PNG, JPEG or NPY by its first bytes, whatever its name: all else is GDAL's."""
    if gdal.remote(path):
        return False
    try:
        with open(outputs.regular(path, "image"), "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    return head[:2] == _JPEG or head == _PNG or head[:6] == _NPY


def encode_png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of uint8 or uint16 [h w] or [h w c], 1 <= c <= 4, any c as raw channels."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return imagecodecs.png_encode(np.ascontiguousarray(pixels), level=4)


def encode_tiff(pixels: np.ndarray, compression: str = "deflate", tile: int = 0, **options: int) -> bytes:
    """Lossless TIFF of [h w c] with any band count and dtype; compression and its options as tifffile names them.

    tile: side of its tiles, pixels, a multiple of 16; 0 = strips."""
    buffer = io.BytesIO()
    planar = "contig" if pixels.shape[2] > 1 else None
    pixels = pixels if planar else pixels[..., 0]
    tifffile.imwrite(
        buffer, pixels, compression=compression, compressionargs=options or None, predictor=True,
        photometric="minisblack", planarconfig=planar, tile=(tile, tile) if tile else None,
    )  # fmt: skip
    return buffer.getvalue()


def encode_image(pixels: np.ndarray) -> bytes:
    """Lossless TIFF (zstd) of [h w c] with any band count and dtype: a tenth larger than PNG, read in a quarter of the time.

    What is larger than a TILE is stored in such tiles, so that a part can be read alone (`genseg.data.files.tiles`)."""
    return encode_tiff(pixels, "zstd", tile=TILE if max(pixels.shape[:2]) > TILE else 0, level=ZSTD_LEVEL)


def encode_mask(ids: np.ndarray) -> bytes:
    """Lossless TIFF (zstd) of class ids uint8 [h w], about as large as PNG and read in half of its time."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, ids, compression="zstd", compressionargs={"level": 3}, photometric="minisblack", rowsperstrip=len(ids)
    )
    return buffer.getvalue()


def size_of_mask(data: bytes) -> tuple[int, int]:
    """Height and width of what `encode_mask` or `encode_png` gave."""
    if data[:8] == _PNG:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page: Any = tiff.pages[0]
        return page.imagelength, page.imagewidth


def repacked(data: bytes, pixels: np.ndarray) -> bytes:
    """A file as it is to be stored: a PNG, which is slow to read, and an NPY, which is not compressed, as `encode_image` of its
    pixels, all else as it is."""
    return encode_image(pixels) if data[:8] == _PNG or data[:6] == _NPY else data


def read(path: Path) -> bytes:
    """The file's bytes. Raises: UserError if it cannot be opened, or is a pipe or a device; CorruptFile if it is too large to
    be read whole."""
    try:
        if words := memory.excess(outputs.regular(Path(path), "image").stat().st_size):
            raise corrupt(str(path), words)
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None


def plain_dtype(dtype: np.dtype) -> np.dtype:
    """The one of the dtypes that cards know, in native byte order, that pixels of `dtype` are turned into."""
    if dtype in (bool, np.int8):
        return np.dtype(np.int16 if dtype == np.int8 else np.uint8)
    if dtype in (np.float64, np.float16, np.uint32, np.int32, np.int64, np.uint64):
        return np.dtype(np.float32)
    return np.dtype(dtype).newbyteorder("=")


def _plain(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(plain_dtype(pixels.dtype), copy=False)


def _decode_jpeg(data: bytes) -> np.ndarray:
    try:
        grey = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
        return simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB")
    except ValueError:
        # CMYK, and files with harmless warnings: Pillow reads them, and still refuses truncated ones.
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


def _decode_png(data: bytes, indices: bool) -> np.ndarray:
    if len(data) < 33:
        raise ValueError("it is cut short")
    depth, colour = struct.unpack(">BB", data[24:26])
    if colour == 3 and indices:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)
    pixels = imagecodecs.png_decode(data)
    if indices and colour == 0 and depth < 8:
        return pixels // np.uint8(255 // (2**depth - 1))  # libpng stretches sub-byte greys to 0..255
    return pixels


def _decode_tiff(data: bytes) -> np.ndarray:
    gdal.refuse_endless(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        refuse_too_large(sum(int(np.prod(s.shape, dtype=np.float64)) * s.dtype.itemsize for s in tiff.series))
        for page in tiff.pages:  # those that lack some would be filled up with zeros, slowly
            if len(page.dataoffsets) != np.prod(page.chunked, dtype=np.int64):
                raise ValueError(
                    f"{len(page.dataoffsets)} of {np.prod(page.chunked, dtype=np.int64)} strips or tiles are there"
                )
        first = tiff.series[0]  # at full resolution; overviews are other levels, or series of other sizes
        if first.ndim == 2:  # one band, or one page a band
            alike = [s for s in tiff.series if s.shape == first.shape and s.dtype == first.dtype]
            return np.stack([s.asarray() for s in alike], axis=2)
        pixels = first.asarray()
        planar = first.axes.index("Y") != 0
    return np.ascontiguousarray(np.moveaxis(pixels, 0, 2) if planar else pixels)
