"""Every text that genseg reads, and the tables and lists that people make with spreadsheets and editors.

One rule for all: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one; lines end with LF, CR LF or CR. The cells of
a table are separated by tabs, semicolons or commas, whichever of these, in this order, stands outside quotes in its first line
(of a list without column names: in any line), or by what a first line "sep=;" says. A cell that holds the separator or a line's
end stands in double quotes. Empty lines, and empty cells at a line's end, say nothing.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from genseg import memory, outputs
from genseg.errors import UserError

_MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_SEPARATORS = "\t;,"
_MEND = "save it as UTF-8 (spreadsheets call it 'CSV UTF-8')"


def read(path: Path, what: str) -> str:
    """The text of a file, lines ending in LF. Raises UserError, naming `what` and the file, if it is none, or not a file."""
    try:
        if words := memory.excess(outputs.regular(path, what).stat().st_size, 1 / memory.TEXTS):
            raise UserError(f"The {what} {path} is no text that is read whole ({words}): give another one.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read ({error.strerror}): give another one.") from None
    return decode(data, f"{what} {path}")


def decode(data: bytes, name: str) -> str:
    """The text that bytes are. Raises UserError for bytes that are none; `name` says whose, as in "list train.txt"."""
    codec, called = next(
        ((codec, called) for mark, codec, called in _MARKS if data.startswith(mark)), ("utf-8", "UTF-8")
    )
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f" (line {line} holds the byte 0x{data[error.start]:02x})" if called == "UTF-8" else ""
        raise UserError(f"The {name} is no text in {called}{where}: {_MEND}.") from None
    if "\0" in text:
        raise UserError(f"The {name} holds null bytes, as UTF-16 without its mark does: {_MEND}.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines(text: str) -> list[str]:
    """Lines that are not empty, without space around them. Other characters that Python takes for a line's end are none."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def rows(text: str, name: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of a list without column names; lines beginning with # say nothing. Raises: UserError."""
    separator, body = _separator(text, every=True)
    return [(number, cells) for number, cells in _cells(body, separator, name) if not cells[0].startswith("#")]


def table(text: str, name: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, in lower case, and (line, column -> cell) of a table; a cell that is not there is "".

    Raises: UserError naming the file for a line with more cells than columns, a column named twice, quotes that do not close.
    """
    separator, body = _separator(text, every=False)
    found = _cells(body, separator, name)
    if not found:
        return [], []
    columns = [cell.lower() for cell in found[0][1]]
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise UserError(f"The {name} has two columns {twice[0]!r}: name each once in its first line.")
    entries = []
    for number, cells in found[1:]:
        if len(cells) > len(columns):
            raise UserError(
                f"Line {number} of the {name} has {len(cells)} cells, but there are {len(columns)} columns: put a cell that holds "
                "the separator into double quotes."
            )
        entries.append((number, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))))
    return columns, entries


def yaml_of(text: str, name: str) -> Any:
    """What a YAML (or JSON) text says. Raises UserError for one that is none, that names a key twice, or that repeats parts by
    aliases, of which a few lines can stand for more than a machine holds."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "aliases are not read", self.peek_event().start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            said: set[str] = set()
            for key, _ in node.value:
                if str(key.value) in said:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is named twice", key.start_mark)
                said.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"The {name} cannot be parsed ({reason}).") from None


def mapping(path: Path, what: str, mend: str) -> dict[str, Any]:
    """The JSON mapping that a file of genseg's own holds. Raises UserError, with the mend, if it holds none."""
    with outputs.undamaged(path, mend):
        found = json.loads(read(path, what))
        if not isinstance(found, dict):
            raise TypeError("no mapping")
        return found


def as_json(value: Any, **layout: Any) -> str:
    """JSON as every reader takes it: numbers that are not finite, which the format has no word for, are null.

    layout: of `json.dumps` (indent, sort_keys, default)."""
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:  # looked for only where there is one: values are large at times
        plain = json.loads(json.dumps(value, **layout), parse_constant=lambda word: None)
        return json.dumps(plain, allow_nan=False, **layout)


def _separator(text: str, every: bool) -> tuple[str, str]:
    """The separator of a table, and its text, in which a line "sep=;" is left empty."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if said := re.fullmatch(r'"?sep=(.)"?', first.strip(" ")):
        return said[1], text.replace(first, "", 1)
    bare = re.sub(r'"(?:[^"]|"")*"', "x", text)
    seen = lines(bare)
    if every:
        seen = [line for line in seen if not line.startswith("#")]
    looked_at = "\n".join(seen if every else [bare.lstrip("\n").split("\n", 1)[0]])
    return next((separator for separator in _SEPARATORS if separator in looked_at), ","), text


def _cells(text: str, separator: str, name: str) -> list[tuple[int, list[str]]]:
    found = []
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                found.append((reader.line_num, cells))
    except csv.Error as error:
        raise UserError(
            f"Line {reader.line_num} of the {name} is no line of a table ({error}): correct its quotes."
        ) from None
    return found
