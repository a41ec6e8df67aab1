"""What is written of a scene: class map and, as asked, probabilities, entropy, margin, polygons; areas, picture, record."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genseg import outputs, windows
from genseg.data.card import DatasetCard
from genseg.data.files import maps, qgis, rasters
from genseg.data.palette import distinct_colours
from genseg.predict import polygons, quicklook
from genseg.predict.network import Measured, Predictor
from genseg.predict.scenes import Scene
from genseg.report import writing

# Probabilities, entropy and margin lie in 0 .. 1; a byte holds 250 times that, and NONE where there is no class.
STEPS, NONE = 250, 255


@dataclass(frozen=True)
class Products:
    """What to write beside the class map. entropy: of the probabilities, over its largest value, log(classes). margin: of the
    two largest probabilities. smallest: pixels of the smallest polygon."""

    probabilities: bool = False
    entropy: bool = False
    margin: bool = False
    polygons: bool = False
    smallest: int = 0
    quicklook: bool = True


def coloured(card: DatasetCard) -> DatasetCard:
    """The card, with a palette if it has none."""
    import dataclasses

    return card if card.palette else dataclasses.replace(card, palette=distinct_colours(len(card.classes)))


def paths(scene: Scene, out: Path, products: Products) -> dict[str, Path]:
    """What is written of a scene; "record" last of all."""
    base = out / scene.name

    def named(ending: str) -> Path:
        return base.with_name(base.name + ending)

    found = {"classes": named("_classes.tif" if scene.placed else "_classes.png")}
    for name in ("probabilities", "entropy", "margin"):
        if getattr(products, name):
            found[name] = named(f"_{name}.tif")
    if products.polygons:
        found["polygons"] = named("_polygons.gpkg")
    if products.quicklook:
        found["quicklook"] = named("_quicklook.png")
    found |= {"style": named("_classes.qml"), "attributes": named(f"{found['classes'].name[len(base.name) :]}.aux.xml")}
    return found | {"areas": named("_areas.csv"), "record": named(".json")}


class SceneWriter:
    """Takes a scene's rows, top to bottom, and writes all its products; none has its name before it is whole."""

    def __init__(
        self, scene: Scene, image: Measured, predictor: Predictor, out: Path, products: Products, place: maps.Place,
        every: int,
    ):  # fmt: skip
        self.scene, self._image, self._predictor, self._products = scene, image, predictor, products
        self._card, self._place, self._every = coloured(predictor.card), place, every
        self.paths = paths(scene, out, products)
        self.shape = image.shape[:2]
        self._hectares = place.hectares(self.shape[0])
        self._pixels = np.zeros(256, np.int64)
        self._measured = np.zeros(256)
        self._small: list[np.ndarray] = []
        self._written = 0  # rows
        for path in self.paths.values():  # of a process that was killed: this scene is ours alone
            for leftover in path.parent.glob(f".partial-{glob.escape(path.name)}*"):
                leftover.unlink(missing_ok=True)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self._open())

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        self.paths["classes"].parent.mkdir(parents=True, exist_ok=True)
        card, tags = self._card, {"CLASSES": ", ".join(f"{i} {name}" for i, name in enumerate(self._card.classes))}
        self._sinks: dict[str, maps.Writer] = {}
        with contextlib.ExitStack() as stack:
            if self.scene.placed:
                self._sinks["classes"] = stack.enter_context(
                    maps.cog(
                        self.paths["classes"], self.shape, self._place, bands=("class",), nodata=self._predictor.nodata,
                        palette=card.palette, tags=tags,
                    )
                )  # fmt: skip
            else:
                self._rows: list[np.ndarray] = []
            bands = {"probabilities": card.classes, "entropy": ("entropy",), "margin": ("margin",)}
            for name in bands.keys() & self.paths.keys():
                self._sinks[name] = stack.enter_context(
                    maps.cog(
                        self.paths[name],
                        self.shape,
                        self._place,
                        bands=bands[name],
                        nodata=NONE,
                        tags=tags,
                        steps=STEPS,
                    )
                )
            yield

    def write(self, rows: windows.Rows) -> None:
        """rows: whose arrays no one else writes to."""
        first, end = rows.first, rows.first + len(rows.sums)
        if first != self._written:
            raise ValueError(f"rows from {first} on come after {self._written} rows of {self.scene}")
        self._written = end
        ids, valid = rows.ids(), self._image.measured(first, end)
        if self._image.inside is not None:
            inside = self._image.inside(first, end)
            valid = inside if valid is None else valid & inside
        if valid is not None:
            ids = np.where(valid, ids, np.uint8(self._predictor.nodata))
        if "classes" in self._sinks:
            self._sinks["classes"].write(ids)
        else:
            self._rows.append(ids)
        self._count(ids, valid, first)
        if self._every:
            self._small.append(ids[-first % self._every :: self._every, :: self._every].copy())
        self._write_scores(rows, valid)

    def _write_scores(self, rows: windows.Rows, valid: np.ndarray | None) -> None:
        if not self._sinks.keys() - {"classes"}:
            return
        shares, found = self._predictor.probabilities(rows), {}
        if "probabilities" in self._sinks:
            found["probabilities"] = shares
        if "entropy" in self._sinks:
            surprise = -shares * np.log(np.maximum(shares, np.float32(1e-30)))
            found["entropy"] = surprise.sum(axis=-1) / np.log(max(shares.shape[-1], 2))
        if "margin" in self._sinks:
            best = np.sort(shares, axis=-1)
            found["margin"] = best[..., -1] - best[..., -2] if shares.shape[-1] > 1 else best[..., -1]
        for name, values in found.items():
            stored = np.rint(values * STEPS).astype(np.uint8)
            if valid is not None:
                stored[~valid] = NONE
            self._sinks[name].write(stored)

    def _count(self, ids: np.ndarray, valid: np.ndarray | None, first: int) -> None:
        for row, line in enumerate(ids):
            line = line if valid is None else line[valid[row]]
            counts = np.bincount(line, minlength=256)
            self._pixels += counts
            if self._hectares is not None:
                self._measured += counts * self._hectares[first + row]

    def finish(self, settings: dict[str, Any], origin: dict[str, Any]) -> list[str]:
        """The rest of the products, after the last row; the record, which says that the scene is done, last. Names of those
        of the map before that this one does not have, and that would be taken for its own: they are removed."""
        self._stack.close()
        card, classes, where = self._card, qgis.classes_of(self._card), self.paths
        if not self.scene.placed:
            rasters.write_classes(where["classes"], self._rows, card)
        qgis.write_style(where["style"], classes)
        qgis.write_attributes(where["attributes"], classes, self._pixels)
        count = None
        if "polygons" in where:
            count = polygons.write(
                where["polygons"], where["classes"], classes, nodata=self._predictor.nodata,
                smallest=self._products.smallest,
            )  # fmt: skip
        if "quicklook" in where:
            metres = self._place.metres_across(self.shape[0] / 2)
            quicklook.write(
                where["quicklook"], self._image.thumbnail, np.concatenate(self._small), self.card_with_nodata,
                metres=None if metres is None else metres * self._every, title=self.scene.name,
            )  # fmt: skip
        areas = self._areas()
        with outputs.replacing(where["areas"]) as temporary:
            text = io.StringIO()
            table = csv.DictWriter(text, list(areas[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(areas)
            temporary.write_text(text.getvalue(), encoding="utf-8")
        stale = self._stale()
        for path in stale:
            path.unlink()
        record = {
            "software": outputs.MARK, "settings": settings, **origin, "height": self.shape[0], "width": self.shape[1],
            "areas": areas, "polygons": count, "written": sorted(p.name for k, p in where.items() if k != "record"),
        }  # fmt: skip
        writing.write_json(where["record"], record)
        return [path.name for path in stale]

    def _stale(self) -> list[Path]:
        """What the record of the map before lists and is no product of this one."""
        record, own = self.paths["record"], {path.name for path in self.paths.values()}
        try:
            listed = json.loads(record.read_text(encoding="utf-8"))["written"]
            names = [name for name in listed if name not in own and name.startswith(f"{record.stem}_")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        found = [record.with_name(Path(name).name) for name in names]
        return [path for path in found if path.is_file()]

    @property
    def card_with_nodata(self) -> DatasetCard:
        """The card with the scene's own nodata and a palette."""
        return coloured(self._image.card)

    def _areas(self) -> list[dict[str, Any]]:
        total = max(int(self._pixels[: len(self._card.classes)].sum()), 1)
        return [
            {
                "class_id": i,
                "class": name,
                "pixels": int(self._pixels[i]),
                "hectares": "" if self._hectares is None else round(float(self._measured[i]), 6),
                "percent": round(100 * self._pixels[i] / total, 4),
            }
            for i, name in enumerate(self._card.classes)
        ]

    def abandon(self, error: BaseException) -> None:
        """Leaves nothing of an unfinished scene."""
        self._stack.__exit__(type(error), error, error.__traceback__)
