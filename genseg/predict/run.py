"""Many scenes through one network: read ahead, batches shared, written behind; finished ones are left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import genseg
from genseg import checkpoints, texts, windows
from genseg.data.files import folders, gdal, maps
from genseg.data.files.rasters import Raster
from genseg.errors import UserError
from genseg.predict import bands, quicklook
from genseg.predict.area import Area
from genseg.predict.network import Measured, Predictor
from genseg.predict.overlap import Behind, ahead
from genseg.predict.products import Products, SceneWriter, paths
from genseg.predict.scenes import Scene


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of every scene. given, sensor: see `bands.chosen`. overwrite: make finished scenes again."""

    out: Path
    products: Products
    given: dict[str, int] | None = None
    sensor: str | None = None
    area: Area | None = None
    overwrite: bool = False


@dataclasses.dataclass
class Outcome:
    """Scenes by what became of them; failed: with the sentence that says why. elsewhere: another process has them."""

    done: list[Scene] = dataclasses.field(default_factory=list)
    skipped: list[Scene] = dataclasses.field(default_factory=list)
    elsewhere: list[Scene] = dataclasses.field(default_factory=list)
    failed: dict[Scene, UserError] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class _Job:
    scene: Scene
    writer: SceneWriter
    settings: dict[str, Any]
    lock: contextlib.ExitStack
    began: float
    error: UserError | None = None


def open_scene(scene: Scene, predictor: Predictor, request: Request) -> tuple[Measured, maps.Place]:
    """The scene's bands in the card's order. Raises: UserError for whatever is wrong with its files."""
    files, picks = zip(*scene.files, strict=True)
    raster = Raster(files, picks)
    order: Sequence[int] = ()
    note = ""
    if not any(picks):
        places, note = bands.chosen(
            raster.descriptions, predictor.card, str(scene), given=request.given, sensor=request.sensor, alpha=raster.alpha
        )  # fmt: skip
        order = [i - 1 for i in places]
    image = Measured(raster, predictor.card, order, note)
    if request.area is not None:
        image.inside = request.area.on(raster.place, image.shape[:2], str(scene))
    return image, raster.place


def doubts(image: Measured, place: maps.Place, request: Request) -> list[str]:
    """A sentence for each thing that makes a scene's map a doubtful one."""
    found = image.notes()
    found += [f"{place.doubtful}."] if place.doubtful else []
    height, inside, area = image.shape[0], image.inside, request.area
    if area is None or inside is None:
        return found
    if not any(inside(row, min(row + 512, height)).any() for row in range(0, height, 512)):
        found.append(f"no pixel of it lies in the area {area.path}: its map has no class anywhere.")
    return found


RULES = 2
"""Of how a map comes of its settings: raised where a mend changes that, so that maps from before it are made anew."""


def settings_of(scene: Scene, predictor: Predictor, weights: checkpoints.Weights, request: Request) -> dict[str, Any]:
    """What decides a scene's products: a record with the same settings says that they are there."""
    files: list[list[Any]] = []
    for path, picked in scene.files:
        files.append([str(path), list(picked)])
        with contextlib.suppress(OSError):  # addresses have neither
            files[-1] += _stamp(path)
            if more := _taken_along(path):
                stamps = repr([(str(other), *_stamp(other)) for other in more])
                files[-1].append(hashlib.blake2b(stamps.encode("utf-8", "replace"), digest_size=16).hexdigest())
    settings = {
        "checkpoint": weights.path, "weights": weights.digest, "windows": dataclasses.asdict(predictor.inference), "files": files,
        "products": dataclasses.asdict(request.products), "bands": request.given, "sensor": request.sensor,
        "aoi": None if request.area is None else [str(request.area.path), request.area.digest], "genseg": genseg.__version__,
        "rules": RULES,
    }  # fmt: skip
    return json.loads(texts.as_json(settings))


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, int(found.st_mtime_ns)]


def _taken_along(path: Path) -> list[Path]:
    """The other files that decide what a raster holds and where it lies: those beside it, and what a VRT is made of."""
    found = folders.beside(path)
    with contextlib.suppress(UserError):  # of a part that the scene's opening refuses
        for part in gdal.parts(path):
            found += [part, *folders.beside(part)]
    return found


def finished(scene: Scene, settings: dict[str, Any], request: Request) -> bool:
    """Whether a record says that these very products were made of it, and they lie there."""
    where = paths(scene, request.out, request.products)
    try:
        record = json.loads(where["record"].read_text(encoding="utf-8"))
        return record["settings"] == settings and all(path.exists() for path in where.values())
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def _sole(scene: Scene, out: Path) -> Iterator[bool]:
    """Whether no other process makes this scene; they may share a list and a folder. Ends with the process."""
    path = out / f"{scene.name}.lock"
    path = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not (path.is_file() and path.stat().st_size == 0)):
        raise UserError(f"{path} is not the lock that genseg makes there; remove it, or write elsewhere")
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            yield True
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def predict(
    scenes: list[Scene], predictor: Predictor, weights: checkpoints.Weights, request: Request, *,
    told: Callable[[str, Scene, Any], None] = lambda what, scene, value: None,
) -> Outcome:  # fmt: skip
    """Writes the products of all scenes; those that cannot be read are named, and the rest goes on.

    told: called with "opened" and the pixels of a scene, "rows" and how many pixels were written, "done" and the seconds since it was opened, "skipped", "elsewhere", "failed"
    and the error, "doubt" and a sentence, "removed" and the names of products of an earlier map.
    """
    outcome, open_jobs = Outcome(), []
    origin = {
        "command": sys.argv, "card": json.loads(weights.card.to_json()), "bands": [b.name for b in weights.card.bands],
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "numpy", "rasterio")},
    }  # fmt: skip

    def fail(scene: Scene, error: UserError) -> None:
        outcome.failed[scene] = error
        told("failed", scene, error)

    def opened() -> Iterator[tuple[_Job, Measured]]:
        for scene in scenes:
            lock = contextlib.ExitStack()
            if not lock.enter_context(_sole(scene, request.out)):
                outcome.elsewhere.append(scene)
                told("elsewhere", scene, None)
                continue
            settings = settings_of(scene, predictor, weights, request)
            if not request.overwrite and finished(scene, settings, request):
                outcome.skipped.append(scene)
                told("skipped", scene, None)
                lock.close()
                continue
            try:
                image, place = open_scene(scene, predictor, request)
                image.every = every = quicklook.every(*image.shape[:2]) if request.products.quicklook else 0
                for sentence in doubts(image, place, request):
                    told("doubt", scene, sentence)
                writer = SceneWriter(scene, image, predictor, request.out, request.products, place, every)
            except UserError as error:
                fail(scene, error)
                lock.close()
                continue
            job = _Job(scene, writer, settings, lock, time.monotonic())
            open_jobs.append(job)
            told("opened", scene, image.shape[0] * image.shape[1])
            yield job, image

    def unreadable(job: _Job, error: UserError) -> None:
        job.error = error
        fail(job.scene, error)
        behind.do(drop, job)

    def drop(job: _Job) -> None:
        if job in open_jobs:
            job.writer.abandon(job.error or UserError("interrupted"))
            close(job)

    def write(job: _Job, rows: windows.Rows) -> None:
        if job.error is not None:
            return
        try:
            job.writer.write(rows)
            told("rows", job.scene, len(rows.sums) * job.writer.shape[1])
            if rows.first + len(rows.sums) == job.writer.shape[0]:
                if removed := job.writer.finish(job.settings, origin):
                    told("removed", job.scene, removed)
                outcome.done.append(job.scene)
                told("done", job.scene, time.monotonic() - job.began)
                close(job)
        except UserError as error:
            job.error = error
            fail(job.scene, error)
            drop(job)

    def close(job: _Job) -> None:
        job.lock.close()
        open_jobs.remove(job)

    behind = Behind()
    try:
        with behind:
            for job, rows in predictor.score_rows(ahead(predictor.groups(opened(), unreadable))):
                copy = windows.Rows(rows.first, rows.sums.copy(), rows.weights.copy())
                behind.do(write, job, copy)
    finally:
        for job in list(open_jobs):
            drop(job)
    return outcome
