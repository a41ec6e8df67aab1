"""Tables and lists as editors and spreadsheets write them: one reading, wherever they are given."""

import codecs
import csv
import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genseg import texts
from genseg.data.files.masks import read_class_table
from genseg.data.sets import mfnet
from genseg.data.sets.own import FolderSegmentation
from genseg.errors import UserError
from genseg.predict.scenes import scenes_of
from genseg.score import pairs
from tests.data import made

ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with BOM": lambda text: text.encode("utf-8-sig"),
    "utf-16-le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16-be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32-le": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
}
ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
WAYS = list(itertools.product(ENCODINGS, ENDS, SEPARATORS))


def written(rows, way, sep=False, quoting=csv.QUOTE_MINIMAL) -> bytes:
    encoding, end, separator = way
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=SEPARATORS[separator], lineterminator=ENDS[end], quoting=quoting).writerows(rows)
    hint = f"sep={SEPARATORS[separator]}{ENDS[end]}" if sep else ""
    return ENCODINGS[encoding](hint + text.getvalue())


# Whatever may stand in a name, line ends that only Python knows included; not what is stripped, and no lone null.
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]) | st.sampled_from(",;\t\"'\u2028\x85"), min_size=1
)
NAME = NAME.map(str.strip).filter(bool)


@given(st.lists(st.lists(NAME, min_size=2, max_size=2), min_size=1, max_size=4), st.sampled_from(WAYS), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_table_is_read_back_however_it_was_written(rows, way, sep):
    data = written([["id", "Name"], *rows], way, sep)
    columns, found = texts.table(texts.decode(data, "x"), "x")
    assert columns == ["id", "name"]
    assert [list(row.values()) for _, row in found] == rows
    assert [line for line, _ in found] == [i + 2 + sep for i in range(len(rows))]


@given(st.lists(st.lists(NAME, min_size=2, max_size=3), min_size=1, max_size=4), st.sampled_from(WAYS))
@settings(max_examples=100, deadline=None)
def test_a_list_without_column_names_is_read_back(rows, way):
    data = written(rows, way, quoting=csv.QUOTE_ALL)
    expected = [row for row in rows if not row[0].startswith("#")]
    assert [cells for _, cells in texts.rows(texts.decode(data, "x"), "x")] == expected


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_every_way_is_read_at_every_place(way, tmp_path):
    """Class tables, lists of splits of both kinds, MFNet's lists, lists of scenes and of pairs."""
    table = tmp_path / "classes.csv"
    table.write_bytes(written([["Id", "Name", "Colour"], [7, "Wald, See", "#0000ff"], [3, "Straße", "1 2 3"]], way))
    read = read_class_table(table)
    assert read.names == ("Straße", "Wald, See") and read.ids == (3, 7) and read.palette == ((1, 2, 3), (0, 0, 255))

    root = made.tiles(tmp_path / "own")
    names = sorted(p.stem.removeprefix("tile_") for p in (root / "train" / "img").glob("*.tif"))
    (root / "train.csv").write_bytes(
        written([["image", "mask"]] + [[f"train/img/tile_{n}.tif", f"train/mask/mask_{n}.tif"] for n in names], way)
    )
    (root / "train.txt").write_bytes(written([[n] for n in names], way))
    for kind in ("csv", "txt"):
        options = FolderSegmentation(
            str(root), "train/img/tile_{id}.tif", "train/mask/mask_{id}.tif", ("train",), {"train": f"train.{kind}"},
            bands=("red", "green", "blue", "nir"), classes=("a", "b", "c"),
        )  # fmt: skip
        assert [p.mask.stem.removeprefix("mask_") for p in options.plan().items["train"]] == names

    for name in ("ä.png", "b.png", "m.png"):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name)
    (tmp_path / "scenes.csv").write_bytes(written([["ä.png", "b.png:1,1"], ["b.png"]], way))
    first, second = scenes_of([], [str(tmp_path / "scenes.csv")])
    assert first.files == ((tmp_path / "ä.png", ()), (tmp_path / "b.png", (1, 1))) and second.name == "b"
    (tmp_path / "pairs.csv").write_bytes(written([["ä.png", "m.png"], ["b.png", "m.png"]], way))
    assert [(scene.name, mask.name) for scene, mask in pairs.listed(str(tmp_path / "pairs.csv"))] == [
        ("ä", "m.png"), ("b", "m.png"),
    ]  # fmt: skip


def test_mfnets_lists_are_read_so_too(tmp_path, monkeypatch):
    monkeypatch.setattr(mfnet, "COUNTS", {"train": 3, "val": 2, "test": 3})
    options = mfnet.MFNet(str(made.mfnet(tmp_path / "raw")))
    before = options.plan().items
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(codecs.BOM_UTF16_LE + path.read_text().replace("\n", "\r").encode("utf-16-le"))
    assert {s: [name for name, *_ in items] for s, items in options.plan().items.items()} == {
        s: [name for name, *_ in items] for s, items in before.items()
    }


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            "caf\xe9".encode("latin-1"),
            r"^The list a.txt is no text in UTF-8 \(line 1 holds the byte 0xe9\): save it as UTF-8",
        ),
        (b"a\nb\n\xff\n", "line 3 holds the byte 0xff"),
        (
            "ab\n".encode("utf-16-le"),
            "^The list a.txt holds null bytes, as UTF-16 without its mark does: save it as UTF-8",
        ),
        (codecs.BOM_UTF16_LE + b"a\0b", "no text in UTF-16: save it as UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_one_sentence(data, sentence):
    with pytest.raises(UserError, match=sentence):
        texts.decode(data, "list a.txt")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,name,colour\n1,a,10,20,30\n", r"Line 2 of the table t has 5 cells, but there are 3 columns"),
        ("id,id\n1,2\n", "two columns 'id'"),
        ('id,name\n1,"a\n2,b\n', "of the table t is no line of a table .*: correct its quotes"),
        ("id,name\n1," + "a" * 200_000, "Line 2 of the table t is no line of a table"),
    ],
)
def test_tables_that_are_none_are_one_sentence(text, sentence):
    with pytest.raises(UserError, match=sentence):
        texts.table(text, "table t")


def test_what_spreadsheets_add_says_nothing():
    text = "id;name;;\n;;;\n1;a;;\n\n2;b;;\n;;;\n"
    assert texts.table(text, "t") == (["id", "name"], [(3, {"id": "1", "name": "a"}), (5, {"id": "2", "name": "b"})])
    assert texts.table("", "t") == ([], []) and texts.rows("# a;b\n", "t") == []
