"""The small inputs of ../shared/cases through the real commands, where they are: each has the outcome that its README calls
right. Tests of the same kinds with inputs of their own: test_data_validity, test_data_rasters, test_data_orientation,
test_texts, test_data_augment, test_predict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tiny
from PIL import Image

from genseg.data.batches import pipeline
from genseg.data.card import DatasetCard

CASES = tiny.ROOT.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
SMALL = (
    "--config=configs/small_segment.py:naip", "--config.data.splits=('train','val')", "--config.data.eval_split=val",
    "--config.data.image_pattern={split}/images/{id}.tif", "--config.data.mask_pattern={split}/masks/{id}.tif",
    "--config.data.bands=('red','green','blue')", "--config.data.classes=('background','building')",
    "--config.data.palette=()", "--config.data.protocol=", "--config.augment.size=(64,64)", "--config.eval.crop=(64,64)",
    "--config.eval.stride=(32,32)", "--config.model.head_channels=16", "--config.model.aux_channels=8",
    "--config.train.steps=1", "--config.train.warmup_steps=0", "--config.train.batch_size=4", "--config.report.panels=0",
)  # fmt: skip


class Ran:
    """A script of a case: its exit status, what it said, and the folder that it made."""

    def __init__(self, name: str, here: Path, script: str = "run.sh", **environment: str):
        (here / "bin").mkdir()
        python = here / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (here / "stand").mkdir()
        (here / "stand" / "configs").symlink_to(tiny.ROOT / "configs")
        (here / "made").mkdir()
        clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu", **environment}
        done = subprocess.run(
            ["bash", str(CASES / name / script)], cwd=here / "stand", capture_output=True, text=True, timeout=1200,
            env=clean | {"PATH": f"{here / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(tiny.ROOT), "TMPDIR": str(here / "made")},
        )  # fmt: skip
        self.status, self.said = done.returncode, done.stdout + done.stderr
        self.errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.stand = here / "stand"
        found = [p for p in (here / "made").iterdir() if p.name.startswith("tmp.")]
        self.out = found[0] if found else here / "made"

    def split(self, name: str) -> pipeline.Split:
        assert self.status == 0, self.said
        (folder,) = (p for p in (self.out / "data").iterdir() if not p.name.startswith("."))
        return pipeline.open_split(folder, name)


def labels(split: pipeline.Split) -> list[np.ndarray]:
    return [split.decode(i)["label"] for i in range(len(split))]


def test_every_case_is_here():
    tested = {name for names in (PREPARED, MAPPED, REFUSED, OTHERS) for name in names}
    assert {p.name for p in CASES.iterdir() if p.is_dir()} <= tested


def grey_jpeg(ran):
    assert ran.split("train").card.channels == 4


def south_up(ran):
    assert any("SPATIAL LEAK: of 1 val tiles 1 overlap" in note for note in ran.split("train").card.notes)


def uint32_ids(ran):
    split = ran.split("train")
    assert set(np.unique(labels(split))) == {0, 1} and split.card.classes == ("winter wheat", "summer wheat")


def nodata_one_band(ran):
    for label in labels(ran.split("train")):
        assert (label == 255).sum() == 256


def sparse_float(ran):
    split = ran.split("train")
    (band,) = split.card.bands
    assert abs(band.mean - 550) < 1 and abs(band.std - 29) < 0.5 and band.low >= 500 and band.high <= 600
    for i, label in enumerate(labels(split)):
        with rasterio.open(CASES / "sparse-float" / "in" / "train" / "images" / f"{i}.tif") as file:
            unwritten = file.read(1) == file.nodata
        assert unwritten.any() and np.array_equal(label == 255, unwritten)


def exif_orientation(ran):
    split = ran.split("train")
    for i in range(len(split)):
        image, label = (split.decode(i)[key] for key in ("image", "label"))
        of_class = [image[..., 0][label == k].mean() for k in (0, 1)]
        assert of_class[1] > of_class[0] + 15  # buildings are bright: turned otherwise, both are alike
    assert Image.open(ran.stand / "out.png").size


def ignore_label_250(ran):
    assert ran.split("train").card.ignore_label == 250 and (ran.stand / "out.png").is_file()


def bom(ran):
    assert ran.split("train").card.classes == ("background", "building") and len(ran.split("val")) == 2


PREPARED = {
    "grey-jpeg": grey_jpeg, "south-up": south_up, "uint32-ids": uint32_ids, "nodata-one-band": nodata_one_band,
    "sparse-float": sparse_float, "exif-orientation": exif_orientation, "ignore-label-250": ignore_label_250, "bom": bom,
}  # fmt: skip


@pytest.mark.parametrize("name", PREPARED)
def test_preparation(name, tmp_path):
    PREPARED[name](Ran(name, tmp_path))


@pytest.mark.parametrize("script", ["run-csv.sh", "run-lists.sh"])
def test_lists_with_a_byte_order_mark(script, tmp_path):
    assert len(Ran("bom", tmp_path, script).split("train")) == 2


REFUSED = {
    "mask-nodata-0": r"the nodata value 0, which is the id of the class 'background'",
    "val-all-ignored": "val",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_refused(name, tmp_path):
    ran = Ran(name, tmp_path)
    assert ran.status == 2 and len(ran.errors) == 1 and REFUSED[name] in ran.errors[0], ran.said


OTHERS = ("palette-mask-huge", "mask-0-255", "rgba-alpha", "bands-200")


@pytest.mark.slow
def test_a_palette_mask_of_any_size(tmp_path):
    split = Ran("palette-mask-huge", tmp_path).split("train")
    assert len(split) == 196 and set(np.unique(split.decode(0)["label"])) <= {0, 1}


@pytest.mark.slow
def test_masks_of_0_and_255_are_noted(tmp_path):
    ran = Ran("mask-0-255", tmp_path)
    assert ran.status in (0, 2) and "'building'" in ran.said and "train" in ran.said
    if ran.status == 0:
        json.loads((ran.out / "run" / "result.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_constant_alpha_changes_no_map(tmp_path):
    ran = Ran("rgba-alpha", tmp_path)
    assert ran.status == 0, ran.said
    maps = []
    for name in ("scene", "scene254"):
        with rasterio.open(ran.out / f"{name}_classes.tif") as file:
            maps.append(file.read(1))
    assert np.array_equal(*maps)
    (folder,) = (p for p in (ran.out / "data").iterdir() if not p.name.startswith("."))
    assert any("alpha" in note for note in DatasetCard.read(folder).notes)


@pytest.mark.slow
def test_200_bands_train(tmp_path):
    ran = Ran("bands-200", tmp_path)
    assert ran.status == 0 and (ran.out / "run" / "result.json").is_file(), ran.said


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network of three bands, trained for a step by the real command."""
    folder = tmp_path_factory.mktemp("network")
    source = CASES / "nodata-one-band" / "in"
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "genseg.main", *SMALL, f"--config.data.source={source}", f"--config.data.data_dir={folder}/data",
         f"--workdir={folder}/run"],
        cwd=tiny.ROOT, env=clean, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def read(path: Path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform, file.crs, file.nodata


def jp2(ran):
    assert read(ran.out / "scene_classes.tif")[0].shape == (64, 64)


def world_file(ran):
    with rasterio.open(CASES / "world-file" / "scene.tif") as file:
        expected = file.transform
    assert not expected.is_identity and read(ran.out / "scene_classes.tif")[1] == expected


def internal_mask(ran):
    with rasterio.open(CASES / "internal-mask" / "scene.tif") as file:
        masked = file.dataset_mask() == 0
    ids, _, _, nodata = read(ran.out / "scene_classes.tif")
    assert masked.any() and nodata == 255 and np.array_equal(ids == 255, masked)


def gtiff_suffix(ran):
    with rasterio.open(CASES / "gtiff-suffix" / "scene.gtiff") as file:
        nowhere, place = file.dataset_mask() == 0, (file.transform, file.crs)
    ids, *found = read(ran.out / "scene_classes.tif")
    assert tuple(found[:2]) == place and np.array_equal(ids == 255, nowhere)


def png_named_tif(ran):
    ids = np.asarray(Image.open(ran.out / "scene_classes.png"))
    assert ids.shape == (128, 128) and ids.max() < 2


MAPPED = {
    "jp2": jp2, "world-file": world_file, "internal-mask": internal_mask, "gtiff-suffix": gtiff_suffix,
    "png-named-tif": png_named_tif,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPPED)
def test_maps(name, checkpoint, tmp_path):
    ran = Ran(name, tmp_path, CHECKPOINT=str(checkpoint))
    assert ran.status == 0, ran.said
    MAPPED[name](ran)
