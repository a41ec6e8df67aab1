"""Class tables, and other things that describe files, which say what cannot be meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from tests.bad.data_rows import OWN
from tests.bad.row import DONE, Row, copied, replaced, special
from tests.bad.runner import PREPARE


def repeated(first: str) -> str:
    """Ten levels of a list of ten of the level below: 10^10 items in a few lines of YAML."""
    lines = [f"{first}- &a [x,x,x,x,x,x,x,x,x,x]\n"]
    lines += [
        f"- &{this} [*{below}{(',*' + below) * 9}]\n" for below, this in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    return "".join(lines) + "- {id: 0, name: *j}\n"


STYLE = '{}<qgis><pipe><rasterrenderer type="paletted"><colorPalette>{}</colorPalette></rasterrenderer></pipe></qgis>'
ENTITIES = "".join(
    f'<!ENTITY {this} "{f"&{below};" * 10}">' for below, this in zip("abcdefgh", "bcdefghi", strict=True)
)


def tables() -> Iterator[Row]:
    for name, suffix, text, sentence in (
        ("repeated parts", "yaml", repeated(""), "aliases are not read"),
        ("an id of 1.9", "yaml", "- {id: 0, name: a}\n- {id: 1.9, name: b}\n- {id: 2, name: c}\n", "Entry 2"),
        ("an id of true", "yaml", "- {id: 0, name: a}\n- {id: true, name: b}\n- {id: 2, name: c}\n", "Entry 2"),
        ("two ids of an entry", "yaml", "- {id: 0, name: a}\n- {id: 5, id: 1, name: b}\n- {id: 2, name: c}\n", "named twice"),
        ("two ids in JSON", "json", '[{"id":0,"name":"a"},{"id":9,"id":1,"name":"b"},{"id":2,"name":"c"}]', "named twice"),
        ("NaN", "json", '[{"id":NaN,"name":"a"}]', "Entry 1"), ("1e400", "json", '[{"id":1e400,"name":"a"}]', "Entry 1"),
        ("5000 digits", "json", '[{"id":' + "9" * 5000 + ',"name":"a"}]', "cannot be parsed"),
        ("1_0", "csv", "id,name\n0,a\n1_0,b\n2,c\n", "Entry 2"), ("digits of another script", "csv", "id,name\n0,a\n\u0661,b\n2,c\n", "Entry 2"),
        ("a sign", "csv", "id,name\n0,a\n+1,b\n2,c\n", "Entry 2"), ("signs in a colour", "csv", "id,name,colour\n0,a,#+1+2+3\n1,b,#000000\n2,c,#111111\n", "Entry 1"),
        ("fractions in a colour", "yaml", "- {id: 0, name: a, colour: [1.9, 2, 3]}\n", "Entry 1"),
        ("names twice", "csv", "id,name\n0,a\n1,a\n2,c\n", "is used twice"), ("escapes in a name", "csv", "id,name\n0,a\x1b[31m\n1,b\n2,c\n", "Entry 1"),
        ("a line's end in a name", "csv", 'id,name\n0,"a\nb"\n1,b\n2,c\n', "Entry 1"), ("300 classes", "csv", "id,name\n" + "".join(f"{i},n{i}\n" for i in range(300)), "at most 255"),
        ("nested", "json", "[" * 5000 + "]" * 5000, "cannot be parsed"), ("of 5 MB", "csv", "id,name\n" + "0,a\n" * (5 << 18), "characters"),
        ("entities", "qml", STYLE.format('<!DOCTYPE x [<!ENTITY a "xxxxxxxxxx">' + ENTITIES + "]>", '<paletteEntry value="0" label="&i;" color="#000000"/>'), "amplification"),
        ("an entity from a file", "qml", STYLE.format('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>', '<paletteEntry value="0" label="&a;" color="#000000"/>'), "external entity"),
        ("no colour", "qml", STYLE.format("", '<paletteEntry value="0" label="a"/>'), "'color'"), ("a colour of words", "qml", STYLE.format("", '<paletteEntry value="0" label="a" color="red"/>'), "cannot be read"),
        ("a value of 0.5", "qml", STYLE.format("", '<paletteEntry value="0.5" label="a" color="#000000"/>'), "cannot be read"), ("no palette", "qml", "<qgis/>", "no paletted renderer"),
        ("cut", "qml", "<qgis><pipe>", "cannot be read"), ("empty", "qml", "", "cannot be read"),
        ("a pipe", "qml", special("pipe"), "pipe"), ("a device", "qml", special("device"), "device"), ("a folder", "qml", special("folder"), "folder"),
    ):  # fmt: skip
        content = text if callable(text) else text.encode()
        yield Row(
            f"table: {name} ({suffix})", PREPARE, (*OWN, "--classes", "()", "--class_table", f"t.{suffix}"), sentence,
            copied("tiles", replaced(f"t.{suffix}", content)),
        )  # fmt: skip
    yield Row("table: CR LF", PREPARE, (*OWN, "--classes", "()", "--class_table", "t.csv"), "Prepared", copied("tiles", replaced("t.csv", b"id,name\r\n0,a\r\n1,b\r\n2,c\r\n")), status=DONE)  # fmt: skip


def npy(kind, shape, size: int) -> bytes:
    head = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(size)


def vrt(source: str, kind: str = "") -> bytes:
    """Four bands of a source."""
    bands = "".join(f'<VRTRasterBand dataType="Byte" band="{b}" {kind}>{source}</VRTRasterBand>' for b in (1, 2, 3, 4))
    return f'<VRTDataset rasterXSize="24" rasterYSize="24">{bands}</VRTDataset>'.encode()


def simple(name: str) -> str:
    return f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'


CODE = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>" \
    '<PixelFunctionCode><![CDATA[import os\ndef f(*a): os.system("touch executed")]]></PixelFunctionCode>'  # fmt: skip


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for _ in range(600):
            writer.write(np.zeros((4, 4), np.uint8), contiguous=False)


def bands(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((2, 2, 60_000), np.uint8), photometric="minisblack", planarconfig="contig")


def containers() -> Iterator[Row]:
    """Images whose beginning is sound."""
    four = 24 * 24 * 4
    for name, content, sentence in (
        ("npy of structures", npy([("a", "|u1"), ("b", "|u1")], (24, 24), four), "cannot be decoded"),
        ("npy of bytes", npy("|S4", (24, 24, 4), 4 * four), "cannot be decoded"), ("npy of dates", npy("<M8[s]", (24, 24, 4), 8 * four), "cannot be decoded"),
        ("npy of complex numbers", npy("<c8", (24, 24, 4), 8 * four), "cannot be decoded"), ("npy of text", npy("<U1", (24, 24, 4), 4 * four), "cannot be decoded"),
        ("npy of objects", npy("|O", (24, 24), 99), "cannot be decoded"), ("npy of negative sizes", npy("|u1", (-24, -24, 4), four), "of shape"),
        ("npy with an axis too many", npy("|u1", (1, 24, 24, 4), four), "not height x width x bands"), ("npy with surplus bytes", npy("|u1", (24, 24, 4), four + 9), "9 bytes behind"),
        ("npy cut", npy("|u1", (24, 24, 4), four - 1), "cannot be decoded"), ("npy, bands first", npy("|u1", (4, 24, 24), four), "24 band(s)"),
        ("a VRT of itself", vrt(simple("tile_0.tif")), ""), ("a VRT of a pipe", vrt(simple("pipe")), "is a pipe"),
        ("a VRT of a VRT of a pipe", vrt(simple("other.vrt")), "is a pipe"), ("a VRT of nothing", vrt(simple("nosuch.tif")), "nosuch.tif"),
        ("a VRT of a device", vrt("<SourceFilename>/dev/zero</SourceFilename>", 'subClass="VRTRawRasterBand"'), "device"),
        ("a VRT that runs code", vrt(CODE, 'subClass="VRTDerivedRasterBand"'), "cannot be decoded"),
        ("a VRT of any size", b'<VRTDataset rasterXSize="2147483647" rasterYSize="2147483647"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>', "GENSEG_MAX_IMAGE_BYTES"),
        ("600 pages", pages, "at most 512 pages"), ("60,000 bands", bands, "60000 band(s)"),
    ):  # fmt: skip

        def make(root, content=content):
            replaced("train/img/tile_0.tif", content)(root)
            os.mkfifo(root / "train" / "img" / "pipe")
            (root / "train" / "img" / "other.vrt").write_bytes(vrt(simple("pipe")))

        yield Row(f"image: {name}", PREPARE, OWN, sentence, copied("tiles", make))


def options() -> Iterator[Row]:
    for name, more, sentence in (
        ("an empty class", ("--classes", "('a','','c')"), "config.data.classes"), ("a class of two lines", ("--classes", "('a\\nb','b','c')"), "config.data.classes"),
        ("one colour twice", ("--palette", "((1,1,1),(1,1,1),(2,2,2))"), "config.data.palette"), ("a stride alone", ("--stride", "8"), "config.data.patch"),
        ("a protocol of two lines", ("--protocol", "a\nb"), "config.data.protocol"), ("a band of two lines", ("--bands", "('r','g','b','n\\n')"), "config.data.bands"),
        ("ignore_label 2.0", ("--ignore_label", "2.0"), "config.data.ignore_label"), ("ignore_label True", ("--ignore_label", "True"), "config.data.ignore_label"),
        ("skip_corrupt 1_0", ("--skip_corrupt", "1_0"), "--skip_corrupt"), ("a call", ("--classes", "__import__('os').system('touch executed')"), "config.data.classes"),
        ("300 brackets", ("--classes", "(" * 300 + ")" * 300), "config.data.classes"), ("5000 digits", ("--patch", "9" * 5000), "config.data.patch"),
    ):  # fmt: skip
        yield Row(f"own: {name}", PREPARE, (*OWN, *more), sentence, copied("tiles", lambda root: None))
    yield Row("own: a name that is no text", PREPARE, OWN, "udce9", copied("tiles", lambda root: [
        (root / f"train/{kind}_caf\udce9.tif").write_bytes((root / f"train/{kind}_0.tif").read_bytes()) for kind in ("img/tile", "mask/mask")]))  # fmt: skip
