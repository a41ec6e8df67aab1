"""From the official archives to a resumed run, in real processes: TFDS's builder, configs/pretrain.py shrunk in size only.

Needs TensorFlow: `make test-prepare`. The archives are small ones in the official layout, of ../shared/data's photographs
where they are there and of drawn pictures elsewhere.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from test_data_augment import torchvision_eval
from test_data_imagenet import (
    CMYK,
    PHOTOGRAPHS,
    PNG,
    _encoded,
    _picture,
    _tar,
    _train_tar,
    _validation_labels,
    needs_tensorflow,
)

from genseg import checkpoints, inputs, tasks, tree
from genseg.data.batches import pipeline
from genseg.data.sets.imagenet_classes import WORDNET_IDS
from genseg.nets import classifier

pytestmark = [pytest.mark.prepare, needs_tensorflow]

VALIDATION = 11  # no multiple of the batch of 8
BACKBONE, SIZE, SHORT_SIDE, STEPS = "convnext_micro", 32, 96, 6


def _pictures(count):
    """JPEG bytes of photographs, or of drawn pictures."""
    if PHOTOGRAPHS.is_dir():
        return [path.read_bytes() for path in sorted((PHOTOGRAPHS / "images").glob("*.JPEG"))[:count]]
    return [_encoded(_picture(i, 120 + i, 200 - i)) for i in range(count)]


def _again(data, mode="RGB", kind="JPEG"):
    """The same picture in another colour space or format."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.convert("RGB").convert(mode).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _rgb(data):
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


@pytest.fixture(scope="module")
def files():
    """(training, validation) files by name. Training has the classes of the validation images, so that a network that
    has learnt which classes there are scores more than nothing, and a grey, a CMYK and a PNG file."""
    classes = _validation_labels()[:VALIDATION]
    seen = _pictures(3 * VALIDATION)
    train = {f"{wnid}_{i}.JPEG": seen[i] for i, wnid in enumerate(classes * 2)}
    train[f"{classes[0]}_999.JPEG"] = _again(seen[0], mode="L")
    train |= {CMYK: _again(seen[1], mode="CMYK"), PNG: _again(seen[2], kind="PNG")}
    validation = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": seen[2 * VALIDATION + i] for i in range(VALIDATION)}
    return train, validation


def _command(*arguments):
    # Compiled as in conftest.py, for one device; TensorFlow's own lines are left out of what a failure shows.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(tiny.ROOT)}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)], cwd=tiny.ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finish(*arguments):
    process = _command(*arguments)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:]
    return output


def _prepare(folder, train, validation):
    """Writes both archives to `folder`/archives; the arguments that prepare them to `folder`/data."""
    (folder / "archives").mkdir()
    (folder / "archives" / "ILSVRC2012_img_train.tar").write_bytes(_train_tar(train))
    (folder / "archives" / "ILSVRC2012_img_val.tar").write_bytes(_tar(validation))
    places = ["--source", folder / "archives", "--data_dir", folder / "data"]
    return ["genseg.data.prepare", "imagenet2012", *places, "--partial"]


@pytest.fixture(scope="module")
def data_dir(files, tmp_path_factory):
    """Both copies, prepared by the commands of the README."""
    folder = tmp_path_factory.mktemp("imagenet")
    prepare = _prepare(folder, *files)
    assert f"train {len(files[0])}, validation {VALIDATION}" in _finish(*prepare)
    assert f"imagenet2012_{SHORT_SIDE}q90" in _finish(*prepare, "--short_side", SHORT_SIDE)
    assert len(list((folder / "data").iterdir())) == 2
    return folder / "data"


def test_a_killed_build_leaves_nothing_that_looks_prepared(files, tmp_path):
    prepare = _prepare(tmp_path, *files)
    process, deadline = _command(*prepare), time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if list((tmp_path / "data").glob(".partial-*/tfds/imagenet2012/*")):
            break
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()[1][-3000:]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.name.split("-")[0] for path in (tmp_path / "data").iterdir()] == [".partial"]
    assert f"train {len(files[0])}, validation {VALIDATION}" in _finish(*prepare)
    assert [path.name.split("-")[0] for path in (tmp_path / "data").iterdir()] == ["imagenet2012"]


def _shrunk(data_dir, workdir, arguments, short_side):
    """Arguments of genseg.main: the published file with a smaller network, images, batch and length, nothing else."""
    sizes = {
        "model.backbone": BACKBONE, "augment.size": SIZE, "augment.eval_size": SIZE, "train.batch_size": 8,
        "eval.batch_size": 8, "train.epochs": 0, "train.steps": STEPS, "train.warmup_epochs": 0, "train.warmup_steps": 1,
        "eval.every": 3, "checkpoint.every": 1, "report.log_every": 1,
        "data.data_dir": data_dir, "data.short_side": short_side, "data.partial": True,
    }  # fmt: skip
    config = f"--config={tiny.ROOT / 'configs' / 'pretrain.py'}:{arguments}"
    return ["genseg.main", config, f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in sizes.items())]


@pytest.mark.parametrize("short_side", [0, SHORT_SIDE])
def test_batches_hold_what_was_in_the_archives(files, data_dir, short_side):
    config = tiny.load("pretrain")
    config.data.data_dir, config.data.short_side, config.data.partial = str(data_dir), short_side, True
    config.augment.size = config.augment.eval_size = SIZE
    config.train.batch_size = config.eval.batch_size = 8
    data = inputs.open_inputs(config)
    train, validation = files
    # Training: every file under the label of its name, grey, CMYK and PNG ones in their own colours.
    names = {data.train_split.record(i).file_name: i for i in range(len(data.train_split))}
    assert names.keys() == train.keys()
    for name, index in names.items():
        found, want = data.train_split.decode(index), _rgb(train[name])
        assert found["label"] == WORDNET_IDS.index(name.split("_")[0])
        smaller = min(want.size) > short_side > 0
        if smaller:
            assert min(found["image"].shape[:2]) == short_side
            want = want.resize(found["image"].shape[1::-1], Image.Resampling.BOX)
        error = np.sqrt(np.mean((found["image"].astype(float) - np.asarray(want, float)) ** 2))
        assert error < (15 if smaller or name in (CMYK, PNG) else 1e-9), (name, error)  # swapped channels: over 40
    batch = next(data.train_batches(start=0))
    assert batch["image"].shape == (8, SIZE, SIZE, 3) and batch["valid"].all()
    # Validation: all eleven, labelled by position in the archive, resized and cropped as torchvision does it.
    seen = {}
    for batch in data.eval_batches():
        for i in np.flatnonzero(batch["valid"]):
            seen[data.eval_split.record(int(batch["index"][i])).file_name] = batch["label"][i], batch["image"][i]
    assert seen.keys() == validation.keys()
    for name, wnid in zip(sorted(validation), _validation_labels(), strict=False):
        assert seen[name][0] == WORDNET_IDS.index(wnid)
        if not short_side:
            np.testing.assert_array_equal(seen[name][1], torchvision_eval(_rgb(validation[name]), SIZE, 0.875))


@pytest.mark.parametrize(
    ("arguments", "short_side"), [("convnext_tiny,channels=4", 0), ("swin_tiny,channels=(3,4,5)", SHORT_SIDE)]
)
def test_train_evaluate_kill_and_resume(files, data_dir, tmp_path, arguments, short_side):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(*_shrunk(data_dir, whole, arguments, short_side))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == STEPS and np.isfinite(losses).all()
    scores = json.loads((whole / "result.json").read_text())["scores"]

    # The table of orders, with raw and, in ConvNeXt's recipe, averaged weights; the fixed order is what training said.
    _finish(*_shrunk(data_dir, whole, arguments, short_side), "--mode=eval", "--permutations=2")
    rows = json.loads((whole / "robustness.json").read_text())["rows"]
    kinds, counts = (("raw", "ema"), (4,)) if arguments.startswith("convnext") else (("raw",), (3, 4, 5))
    assert [(r["weights"], r["order"], r["channels"]) for r in rows] == [
        (kind, order, n) for kind in kinds for n in counts for order in tasks.ORDERS
    ]
    for row in rows:
        images = np.array(row["scores"]["top5"]) * VALIDATION  # every image once: whole numbers
        np.testing.assert_allclose(images, np.rint(images), atol=1e-9)
        assert len(images) == (2 if row["order"] == "permuted" else 1)
        if row["order"] == "fixed":
            name = {"raw": "raw_top5", "ema": "top5"}[row["weights"]] if len(kinds) > 1 else f"top5_n{row['channels']}"
            assert row["scores"]["top5"] == [scores[name]]
    if len(kinds) > 1:
        _check_by_hand(files[1], whole, rows[0]["scores"])

    # Killed after step 3, in the middle of an evaluation or a save; the same command ends in the same parameters.
    process = _command(*_shrunk(data_dir, killed, arguments, short_side))
    path, deadline = killed / "metrics.jsonl", time.monotonic() + 500
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and '"step": 3,' in path.read_text():
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1][-3000:]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "result.json").exists()
    _finish(*_shrunk(data_dir, killed, arguments, short_side))
    for ema in [kind == "ema" for kind in kinds]:
        once, twice = (dict(tree.items(checkpoints.load_weights(str(d), ema=ema).params)) for d in (whole, killed))
        assert once.keys() == twice.keys()
        for name, leaf in once.items():
            np.testing.assert_array_equal(leaf, twice[name], err_msg=name)
    assert json.loads((killed / "result.json").read_text())["scores"] == scores


def _check_by_hand(validation: dict[str, bytes], workdir: Path, scores: dict) -> None:
    """Top-1 and top-5 of the raw weights, image by image from the archive's bytes, with bounds for rounding to bfloat16."""
    weights = checkpoints.load_weights(str(workdir), ema=False)
    net = classifier(BACKBONE, channels=4, classes=1000, drop_path=0.1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    apply = jax.jit(lambda image: net.apply(weights.params, weights.stats, image, train=False)[0])
    sure, possible = np.zeros(2), np.zeros(2)
    for name, wnid in zip(sorted(validation), _validation_labels(), strict=False):
        pixels = (torchvision_eval(_rgb(validation[name]), SIZE, 0.875) / 255 - mean) / std
        logits = np.asarray(apply(pixels[None, ..., [0, 1, 2, 0]].astype(np.float32)))[0]
        own, others = logits[WORDNET_IDS.index(wnid)], np.sort(np.delete(logits, WORDNET_IDS.index(wnid)))[::-1]
        for k, best in enumerate((others[0], others[4])):
            slack = 0.02 * np.abs(logits).max()
            sure[k] += own > best + slack
            possible[k] += own > best - slack
    for k, name in enumerate(("top1", "top5")):
        (share,) = scores[name]
        assert sure[k] <= round(share * VALIDATION) <= possible[k], name
    assert sure[1] > 0  # something was learnt, so that a wrong label or a lost image shows


def test_reading_what_the_builder_wrote_imports_no_tensorflow(data_dir):
    (folder,) = data_dir.glob("imagenet2012-*")
    script = (
        "import sys\n"
        "from genseg.data.batches import pipeline\n"
        f"print(pipeline.open_split({str(folder)!r}, 'train').decode(0)['name'])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=tiny.ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    assert printed.stdout.strip() == pipeline.open_split(folder, "train").record(0).file_name
