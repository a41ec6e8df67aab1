"""Class names and colours as QGIS and GDAL keep them beside a map: NAME.qml, and NAME.aux.xml with its attribute table."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from genseg import outputs
from genseg.data.card import DatasetCard
from genseg.errors import UserError

Classes = list[tuple[int, str, tuple[int, int, int]]]
"""(id, name, colour) of each class."""


def classes_of(card: DatasetCard) -> Classes:
    return [(i, name, card.palette[i]) for i, name in enumerate(card.classes)] if card.palette else []


def write_style(path: Path, classes: Classes) -> None:
    """A QGIS layer style, "paletted unique values": QGIS applies MAP.qml to MAP.tif by itself."""
    root = ET.Element("qgis", version="3.28", styleCategories="AllStyleCategories")
    root.append(ET.Comment(f" {outputs.MARK} "))
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    entries = ET.SubElement(renderer, "colorPalette")
    for value, name, colour in classes:
        ET.SubElement(
            entries,
            "paletteEntry",
            value=str(value),
            label=name,
            color="#{:02x}{:02x}{:02x}".format(*colour),
            alpha="255",
        )
    ET.indent(root)
    text = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode")
    with outputs.replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_attributes(path: Path, classes: Classes, counts: np.ndarray) -> None:
    """GDAL's side-car of a raster: category names, and a raster attribute table with value, class, colour and count."""
    root = ET.Element("PAMDataset")
    ET.SubElement(ET.SubElement(root, "Metadata"), "MDI", key="SOFTWARE").text = outputs.MARK
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    for _, name, _ in classes:
        ET.SubElement(names, "Category").text = name
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # Type: 0 integer, 2 text. Usage: 5 value, 2 name, 6 7 8 red green blue, 1 count (GDALRATFieldUsage).
    fields = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8), ("Count", 0, 1))
    for i, (name, kind, usage) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(i))
        for tag, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, tag).text = str(value)
    for i, (value, name, colour) in enumerate(classes):
        row = ET.SubElement(table, "Row", index=str(i))
        for cell in (value, name, *colour, int(counts[value])):
            ET.SubElement(row, "F").text = str(cell)
    ET.indent(root)
    with outputs.replacing(path) as temporary:
        temporary.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def read_style(path: Path) -> Classes:
    """(id, name, colour) of each entry of a .qml's paletted renderer, ascending. Raises: UserError."""
    try:
        root = ET.parse(outputs.regular(path, "QGIS style")).getroot()
        found = [
            (int(e.attrib["value"]), e.attrib["label"], tuple(bytes.fromhex(e.attrib["color"].lstrip("#")[:6])))
            for e in root.iter("paletteEntry")
        ]
    except UserError:
        raise
    except (OSError, ET.ParseError, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a QGIS style ({error}): save the style again as .qml.") from None
    if not found:
        raise UserError(f"{path} has no paletted renderer: choose 'Paletted/Unique values' in QGIS and save it again.")
    return sorted(found)
