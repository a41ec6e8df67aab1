"""Decoding: every PNG and TIFF form, kept as stored; damage is named."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from genseg.data.files import codec, gdal
from genseg.errors import UserError

RNG = np.random.default_rng(0)


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_round_trip(bands, dtype):
    pixels = RNG.integers(0, np.iinfo(dtype).max, (7, 9, bands)).astype(dtype)
    assert np.array_equal(codec.decode_image(codec.encode_image(pixels), "x"), pixels)


def test_transparent_rgba_keeps_all_four_values():
    # Where "alpha" is 0, a viewer or a premultiplying reader loses red, green and blue.
    pixels = RNG.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[:4, :, 3] = 0
    assert np.array_equal(codec.decode_image(png(Image.fromarray(pixels, "RGBA")), "x"), pixels)


@pytest.mark.parametrize("bands", [1, 3, 4, 5, 6, 13])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("layout", ["contig", "separate", "pages"])
def test_tiff_layouts(bands, dtype, layout):
    pixels = (RNG.random((17, 19, bands)) * 250).astype(dtype)
    buffer = io.BytesIO()
    if layout == "pages":
        with tifffile.TiffWriter(buffer) as writer:
            for band in range(bands):
                writer.write(pixels[..., band], photometric="minisblack", contiguous=False)
    elif layout == "separate":
        planes = pixels.transpose(2, 0, 1)
        tifffile.imwrite(buffer, planes, photometric="minisblack", planarconfig="separate" if bands > 1 else None)
    else:
        buffer.write(codec.encode_tiff(pixels))
    decoded = codec.decode_image(buffer.getvalue(), "x")
    assert decoded.dtype == dtype and np.array_equal(decoded, pixels)


def test_tiff_with_three_rows_is_not_taken_for_planes():
    pixels = (RNG.random((3, 40, 5)) * 250).astype(np.uint8)
    assert np.array_equal(codec.decode_image(codec.encode_tiff(pixels), "x"), pixels)


def test_tiff_overviews_are_left_out():
    pixels = RNG.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(pixels, photometric="minisblack", planarconfig="contig", subifds=1)
        writer.write(pixels[::2, ::2], photometric="minisblack", planarconfig="contig", subfiletype=1)
    assert np.array_equal(codec.decode_image(buffer.getvalue(), "x"), pixels)


def test_gdal_overview_pages_are_left_out():
    pixels = RNG.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(pixels, photometric="minisblack", planarconfig="contig")
        writer.write(pixels[::2, ::2], photometric="minisblack", planarconfig="contig", subfiletype=1)
    assert np.array_equal(codec.decode_image(buffer.getvalue(), "x"), pixels)


def test_nodata_tag(tmp_path):
    def stated(text, **options):
        tifffile.imwrite(
            tmp_path / "x.tif", np.zeros((4, 4), np.float32), extratags=[(42113, "s", 0, text, True)], **options
        )
        return gdal.File(tmp_path / "x.tif").nodata

    assert stated("-99999") == (-99999,)
    assert stated("nan") == (None,)  # NaN is never a measurement, and equals nothing
    (tmp_path / "x.tif").write_bytes(codec.encode_tiff(np.zeros((4, 4, 1), np.uint8)))
    assert gdal.File(tmp_path / "x.tif").nodata == (None,)
    # GDAL takes what is no number for 0.
    for options in ({}, {"bigtiff": True}, {"byteorder": ">"}):
        for text in ("n/a", "none at all"):
            with pytest.raises(UserError, match=rf"x\.tif states the nodata value '{text}', which is no number"):
                stated(text, **options)


def test_npy_and_other_dtypes():
    for dtype, expected in (("float64", "float32"), ("int32", "float32"), ("bool", "uint8"), (">u2", "uint16")):
        buffer = io.BytesIO()
        np.save(buffer, np.ones((4, 5, 6), dtype))
        decoded = codec.decode_image(buffer.getvalue(), "x")
        assert decoded.dtype == expected and decoded.shape == (4, 5, 6) and (decoded == 1).all()


def test_masks_hold_ids_however_they_are_stored():
    ids = RNG.integers(0, 4, (6, 8), dtype=np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    for data in (png(Image.fromarray(ids)), png(palette), png(palette, bits=2), png(Image.fromarray(ids), bits=2)):
        assert np.array_equal(codec.decode_mask(data, "x"), ids)
    assert codec.decode_image(png(palette), "x").shape == (6, 8, 3)  # as an image, a palette is colours
    bit = Image.fromarray((ids > 1).astype(np.uint8) * 255).convert("1")
    assert np.array_equal(codec.decode_mask(png(bit), "x"), ids > 1)


def test_photographs_of_every_mode_become_rgb():
    pixels = np.full((10, 12, 3), (200, 100, 50), np.uint8)
    image = Image.fromarray(pixels)
    for mode in ("RGB", "RGBA", "P", "L", "LA", "I;16"):
        decoded = codec.decode_rgb(
            png(image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)), "x"
        )
        assert decoded.shape == (10, 12, 3) and decoded.dtype == np.uint8, mode
        if mode in ("RGB", "RGBA"):
            assert np.array_equal(decoded, pixels)
    for mode in ("RGB", "L", "CMYK"):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, "jpeg", quality=95)
        decoded = codec.decode_rgb(buffer.getvalue(), "x")
        reference = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")).astype(int)
        assert decoded.shape == (10, 12, 3) and abs(decoded - reference).max() <= 3


def test_five_bands_are_no_photograph():
    with pytest.raises(UserError, match="has 5 bands"):
        codec.decode_rgb(codec.encode_tiff(np.zeros((4, 4, 5), np.uint8)), "hills.tif")


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "npy"])
@pytest.mark.parametrize("damage", ["half", "empty", "head", "noise"])
def test_damage_is_named(kind, damage):
    pixels = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    data = {
        "jpg": simplejpeg.encode_jpeg(pixels),
        "png": codec.encode_png(pixels),
        "tif": codec.encode_tiff(pixels),
        "npy": buffer.getvalue(),
    }[kind]
    data = {
        "half": data[: len(data) // 2],
        "empty": b"",
        "head": data[:12],
        "noise": bytes(RNG.integers(0, 256, 500, dtype=np.uint8)),
    }[damage]
    for decode in (codec.decode_image, codec.decode_rgb, codec.decode_mask):
        with pytest.raises(codec.CorruptFile, match=r"val/broken\.file"):
            decode(data, "val/broken.file")


def test_unreadable_file_is_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="give one that exists"):
        codec.read(tmp_path / "none.png")


def test_png_and_npy_files_are_stored_anew_and_others_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 60000, (9, 8, 4), dtype=np.uint16)
    png, tiff, npy = codec.encode_png(pixels), codec.encode_tiff(pixels), io.BytesIO()
    np.save(npy, pixels)
    for data in (png, npy.getvalue()):
        stored = codec.repacked(data, pixels)
        assert stored != data and np.array_equal(codec.decode_image(stored, "x"), pixels)
    assert codec.repacked(tiff, pixels) is tiff
