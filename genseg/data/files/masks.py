"""Masks of class ids: class tables, ids from colours or from other numbers, and checks against a card."""

import dataclasses
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genseg import texts
from genseg.data.card import DatasetCard
from genseg.data.files import qgis
from genseg.errors import UserError

_STRIP = 1 << 20  # pixels whose colours or numbers are looked up at a time
_LONGEST = 4 << 20  # characters of a class table


def check_labels(mask: np.ndarray, card: DatasetCard, name: str) -> None:
    """Raises: UserError naming the file and the first value that is neither a class id nor the ignore label."""
    values = np.unique(mask)
    allowed = np.isin(values, [*range(len(card.classes)), card.ignore_label])
    if not allowed.all():
        raise UserError(
            f"The mask {name} holds the label {_number(values[~allowed][0])}, which is neither one of the {len(card.classes)} "
            f"classes nor the ignore label {card.ignore_label}: correct the mask or the classes."
        )


def colours_to_ids(mask: np.ndarray, ids: dict[tuple[int, int, int], int], name: str) -> np.ndarray:
    """A mask of colours uint8 [h w 3 or 4] to class ids uint8 [h w].

    Args:
      ids: (red, green, blue) -> id.
    Raises: UserError naming the file, the first colour that is not in `ids`, and its place.
    """
    if mask.ndim != 3 or mask.shape[2] not in (3, 4) or mask.dtype != np.uint8:
        shape = "one band" if mask.ndim == 2 else f"{mask.shape[2]} bands"
        raise UserError(f"The mask {name} has {shape} of {mask.dtype}: 8-bit RGB colours are expected.")
    known = np.array([(r << 16) | (g << 8) | b for r, g, b in ids], np.int32)
    order = np.argsort(known)
    values = np.array(list(ids.values()), np.uint8)
    out = np.empty(mask.shape[:2], np.uint8)
    height = max(1, _STRIP // mask.shape[1])
    for top in range(0, len(mask), height):  # in strips: codes and places take 20 bytes a pixel
        strip = mask[top : top + height].astype(np.int32)
        codes = (strip[..., 0] << 16) | (strip[..., 1] << 8) | strip[..., 2]
        place = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
        found = order[place]
        wrong = known[found] != codes
        if wrong.any():
            y, x = (int(v) for v in np.argwhere(wrong)[0])
            r, g, b = (int(v) for v in strip[y, x, :3])
            raise UserError(
                f"The mask {name} holds the colour ({r}, {g}, {b}) at row {top + y}, column {x}, which no class has: "
                "correct the mask or the class table."
            )
        out[top : top + height] = values[found]
    return out


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """What a mask's numbers or colours mean. Class k of the network is the k-th entry; `ids` are those in the files.

    ignored_ids, ignored_colours: of pixels that do not count.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignored_ids: tuple[int, ...] = ()
    ignored_colours: tuple[tuple[int, int, int], ...] = ()


def read_class_table(path: Path) -> ClassTable:
    """Reads a table (see genseg.texts) with the columns id, name, colour, a YAML list of such entries, or a QGIS style (.qml) with a paletted
    renderer; in ascending order of ids.

    A colour is "#rrggbb", "r g b" or, in YAML, [r, g, b]; either all entries have one or none. Ids need not be
    contiguous. An entry without a name is no class: its pixels are ignored. Raises: UserError naming the file and the
    entry.
    """
    if path.suffix.lower() == ".qml":
        rows = [{"id": i, "name": name, "colour": list(colour)} for i, name, colour in qgis.read_style(path)]
        return _table(rows, path)
    try:
        text = texts.read(path, "class table")
        if len(text) > _LONGEST:
            raise UserError(f"The class table {path} has {len(text):,} characters: give one of at most {_LONGEST:,}.")
        if path.suffix.lower() in (".yaml", ".yml", ".json") or text.lstrip().startswith(("-", "[")):
            return _table(texts.yaml_of(text, f"class table {path}"), path)
        return _table([row for _, row in texts.table(text, f"class table {path}")[1]], path)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"The class table {path} cannot be parsed ({str(error).splitlines()[0]}).") from None


def _table(rows: object, path: Path) -> ClassTable:
    if not isinstance(rows, list) or not rows:
        raise UserError(f"The class table {path} is empty: list entries with id, name and colour.")
    entries = []
    for number, row in enumerate(rows, 1):
        try:
            colour = row.get("colour", row.get("color"))
            name = str(row["name"] or "").strip()
            if not name.isprintable():  # line ends, control characters of terminals
                raise ValueError(name)
            entries.append((_whole(row["id"]), name, None if colour in (None, "") else _colour(colour)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise UserError(
                f"Entry {number} of the class table {path} is {reprlib.repr(row)}: give id, name and colour (#rrggbb)."
            ) from None
    entries.sort(key=lambda e: e[0])
    ids, _, colours = zip(*entries, strict=True)
    if len(set(ids)) < len(ids):
        raise UserError(f"The class table {path} gives an id twice: give each class its own.")
    if any(c is None for c in colours) and any(c is not None for c in colours):
        raise UserError(f"The class table {path} gives some classes a colour and some none: give all or none.")
    given = tuple(c for c in colours if c is not None)
    if len(set(given)) < len(given):
        raise UserError(f"The class table {path} gives a colour twice: give each class its own.")
    classes = [e for e in entries if e[1]]
    if not classes:
        raise UserError(f"The class table {path} names no class: entries without a name are ignored pixels.")
    return ClassTable(
        tuple(e[1] for e in classes), tuple(e[0] for e in classes), tuple(e[2] for e in classes if given),
        tuple(e[0] for e in entries if not e[1]), tuple(e[2] for e in entries if not e[1] and given),
    )  # fmt: skip


def _whole(value: object) -> int:
    """A whole number as it is written down: 1 or "1", but neither 1.9 nor true nor "1_0", which Python would take."""
    if type(value) is int or (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip())):
        return int(value)
    raise ValueError(value)


def _colour(value: object) -> tuple[int, int, int]:
    if isinstance(value, str) and value.strip().startswith("#"):
        digits = value.strip()[1:]
        if not re.fullmatch(r"[0-9A-Fa-f]{6}", digits):
            raise ValueError(value)
        parts = [*bytes.fromhex(digits)]
    else:
        parts = [_whole(v) for v in (value.replace(",", " ").split() if isinstance(value, str) else value)]
    if len(parts) != 3 or not all(0 <= v <= 255 for v in parts):
        raise ValueError(value)
    return parts[0], parts[1], parts[2]


def refuse_class_as_nodata(
    nodata: float | None, ids: Sequence[int], names: Sequence[str], mask: str, kind: str = "mask"
) -> None:
    """Raises UserError if a mask states the number of a class as "nothing here": which of the two is meant?"""
    if nodata is not None and nodata in ids:
        raise UserError(
            f"The {kind} {mask} states the nodata value {nodata:g}, which is the id of the class "
            f"{names[list(ids).index(nodata)]!r}: take the statement away (gdal_edit.py -unsetnodata) or give the class another "
            "id."
        )


def renumber(
    mask: np.ndarray, ids: tuple[int, ...], ignore_label: int, nodata: float | None, name: str,
    ignored_ids: tuple[int, ...] = (), kind: str = "mask",
) -> np.ndarray:  # fmt: skip
    """Numbers of a file [h w], integers of any dtype, to class ids uint8 [h w]: ids[k] -> k; ignored_ids, ignore_label,
    nodata and NaN -> ignore_label. Raises: UserError naming the file, as a `kind`, and the first other number."""
    height = max(1, _STRIP // mask.shape[1])
    strips = (mask[top : top + height] for top in range(0, len(mask), height))
    return np.concatenate([_renumber(strip, ids, ignore_label, nodata, name, ignored_ids, kind) for strip in strips])


def _renumber(
    mask: np.ndarray,
    ids: tuple[int, ...],
    ignore_label: int,
    nodata: float | None,
    name: str,
    ignored_ids: tuple[int, ...],
    kind: str,
) -> np.ndarray:
    values, place = _distinct(mask)
    known: dict[float, int] = {ignore_label: ignore_label} | {number: k for k, number in enumerate(ids)}
    known |= dict.fromkeys(ignored_ids, ignore_label) | ({} if nodata is None else {nodata: ignore_label})
    # Python's numbers, which compare exactly: in float64, ids beyond 2^53 would be taken for their neighbours.
    classes = [known.get(value, -1) if value == value else ignore_label for value in values.tolist()]
    if -1 in classes:
        raise UserError(
            f"The {kind} {name} holds the label {_number(values[classes.index(-1)])}, which is neither one of the {len(ids)} "
            f"classes nor the ignore label {ignore_label}: correct the {kind} or the classes."
        )
    if place is None:
        table = np.zeros(int(values[-1]) + 1, np.uint8)
        table[values] = classes
        return np.take(table, mask)  # a third of the time of table[mask]
    return np.array(classes, np.uint8)[place].reshape(mask.shape)


def _distinct(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """np.unique's sorted values and where each pixel's stands among them; None for that of unsigned 8 and 16 bits, whose values
    are places in a table themselves and are found by counting, in a fraction of the time of sorting pixels."""
    if mask.dtype not in (np.uint8, np.uint16):
        return np.unique(mask, return_inverse=True)
    return np.flatnonzero(np.bincount(mask.ravel())).astype(mask.dtype), None


def _number(value: np.generic) -> str:
    """As it is in the file: `g` would shorten large ids."""
    return str(int(value)) if value.dtype.kind in "iu" or float(value).is_integer() else f"{value:g}"
