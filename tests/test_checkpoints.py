"""Checkpoints on disk: what a flipped byte, a cut file or a missing one does, checksums, and what reading costs."""

import functools
import importlib.util
import itertools
import json
import logging
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg import checkpoints, partition, state, tree
from genseg.checkpoints import checksums, damage, layout
from genseg.data.card import DatasetCard
from genseg.data.sets.demo import DemoClassification
from genseg.dry_run import hlo
from genseg.errors import UserError


def made_state(step: int) -> state.TrainState:
    rng = np.random.default_rng(step)
    params = {
        "backbone": {"stem": {"kernel": jnp.asarray(rng.normal(size=(4, 4, 3, 8)), jnp.float32)}},
        "head": {"kernel": jnp.asarray(rng.normal(size=(300, 500)), jnp.float32), "bias": jnp.zeros(500)},
    }
    stats = {"head": {"mean": jnp.asarray(rng.normal(size=8), jnp.float32)}}
    made = state.create(params, stats, optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), ema=True)
    return made._replace(step=jnp.int32(step))


@functools.cache
def config() -> dict:
    return json.loads(tiny.pretrain(Path("data")).to_json())


def meta(card: DatasetCard) -> dict:
    return {"config": config(), "card": card.to_json(), "versions": {"jax": "0"}, "revision": ""}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Checkpoints of steps 1 and 2, the first with the better score."""
    root = tmp_path_factory.mktemp("checkpoints")
    saved = checkpoints.Checkpoints(str(root), keep=2)
    card = DemoClassification().plan().card
    for step, score in ((1, 0.9), (2, 0.5)):
        saved.save(made_state(step), batches=step, meta=meta(card), score=score)
    saved.close()
    return root


def abstract() -> state.TrainState:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), made_state(1))


def restored(root: Path) -> int:
    """Opens, restores the newest and checks it to the bit; returns its step."""
    saved = checkpoints.Checkpoints(str(root), keep=2)
    step = saved.latest()
    got = saved.restore(abstract(), step)
    assert got.batches == step and int(got.state.step) == step
    assert saved.meta(step)["config"] == config()
    jax.tree.map(np.testing.assert_array_equal, got.state, made_state(step))
    saved.close()
    return step


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def damages(folder: Path) -> list:
    """(file, what, place) of one to four flips in each file, of cutting it in half, and of losing it."""
    rng = np.random.default_rng(0)
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size, name = path.stat().st_size, str(path.relative_to(folder))
        flips = 12 if size > 100_000 else 2
        found += [(name, "flip", int(place)) for place in rng.integers(0, size, flips)]
        found += [(name, "cut", size // 2), (name, "lose", 0)]
    return found


def test_no_damage_goes_unseen(root, tmp_path, caplog):
    aside = 0
    for number, (name, what, place) in enumerate(damages(root / "checkpoints" / "2")):
        copy = tmp_path / str(number)
        shutil.copytree(root, copy)
        path = copy / "checkpoints" / "2" / name
        if what == "flip":
            flip(path, place)
        elif what == "cut":
            path.write_bytes(path.read_bytes()[:place])
        else:
            path.unlink()
        try:  # for fine-tuning: the right weights, or one sentence
            weights = checkpoints.load_weights(str(copy / "checkpoints" / "2"), ema=False)
            jax.tree.map(np.testing.assert_array_equal, weights.params, made_state(2).params)
        except UserError as error:
            assert "is damaged" in str(error)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            step = restored(copy)  # the newest to the bit, or the one before it to the bit
        if step == 1:
            aside += 1
            assert "checkpoint at step 2 is damaged" in caplog.text and (copy / "damaged" / "2-0" / "state").exists()
            assert not (copy / "checkpoints" / "2").exists()
        else:
            assert not (copy / "damaged").exists()
        shutil.rmtree(copy)
    assert aside > 20


def test_damaged_weights_are_refused_for_fine_tuning_too(root, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    # Orbax spreads parameters, averages and moments over files in an order that differs from save to save, and one
    # damaged leaf would do to set the checkpoint aside: the raw parameters are hit for sure when every leaf is.
    for path in (copy / "checkpoints" / "2" / "state").rglob("d/*"):
        for place in range(path.stat().st_size % 5000, path.stat().st_size, 5000):
            flip(path, place)
    with caplog.at_level(logging.WARNING):
        assert restored(copy) == 1
    assert "step 2 is damaged" in caplog.text and "damaged/2-0" in caplog.text
    with pytest.raises(UserError, match="is damaged"):
        checkpoints.load_weights(str(copy / "damaged" / "2-0"), ema=False)


def test_an_older_one_that_is_half_deleted_is_set_aside(root, tmp_path, caplog):
    """As a kill in the middle of deleting what config.checkpoint.keep no longer covers leaves it."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    shutil.rmtree(copy / "checkpoints" / "1" / "state")
    with caplog.at_level(logging.WARNING):
        assert restored(copy) == 2
    assert "older checkpoint at step 1 is damaged, or its deletion was interrupted" in caplog.text
    assert "is used" not in caplog.text and (copy / "damaged" / "1-0" / "meta").exists()


def test_nothing_whole_is_left(root, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    for step in (1, 2):
        (copy / "checkpoints" / str(step) / "meta" / "metadata").write_text("{")
    for _ in range(2):  # the second start finds an empty folder, and does not train from scratch either
        with pytest.raises(UserError, match=r"all checkpoints of this workdir are damaged.*damaged"):
            checkpoints.Checkpoints(str(copy), keep=1)
    assert sorted(p.name for p in (copy / "damaged").iterdir()) == ["1-0", "2-0"]


def test_storage_out_of_reach_damages_nothing(root, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)

    def refused(*_):
        raise ValueError("UNAVAILABLE: connection reset while reading")

    monkeypatch.setattr(damage, "read_json", refused)
    with pytest.raises(UserError, match="out of reach"):
        checkpoints.Checkpoints(str(copy), keep=1)
    assert sorted(p.name for p in (copy / "checkpoints").iterdir()) == ["1", "2"]


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(), (7,), (3, 5), (2, 3, 4)]), seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "int32", "bfloat16", "float16", "uint8", "bool"]),
)  # fmt: skip
def test_checksum_is_the_same_on_host_and_device_and_sees_each_bit(shape, seed, dtype):
    rng = np.random.default_rng(seed)
    leaf = np.asarray(jnp.asarray(rng.normal(size=shape) * 100, dtype))
    if dtype == "bool":
        leaf = leaf.view(np.uint8)
    before = checksums.checksum_on_host(leaf)
    assert int(checksums.checksum(jnp.asarray(leaf))) == before
    raw = bytearray(leaf.tobytes())
    raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    assert checksums.checksum_on_host(np.frombuffer(bytes(raw), leaf.dtype).reshape(shape)) != before


def test_checksum_does_not_depend_on_the_layout(eight_devices):
    mesh = partition.make_mesh(2, 4)
    leaf = np.random.default_rng(0).normal(size=(128, 256)).astype(np.float32)
    split = jax.device_put(leaf, partition.tree_sharding(mesh, leaf))
    assert len({str(s.index) for s in split.addressable_shards}) == 4
    assert int(checksums.checksum(split)) == checksums.checksum_on_host(leaf)
    text = checksums.checksum.lower(split).compile().as_text()
    assert {c.kind for c in hlo.collectives(text)} == {"all-reduce"}


def read_bytes(root: Path, **how) -> int:
    """Bytes that tensorstore reads from files for load_weights."""

    def count():
        found = tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
        return sum(value["value"] for metric in found for value in metric["values"])

    before = count()
    checkpoints.load_weights(str(root), ema=True, **how)
    return count() - before


def test_weights_say_whether_they_are_the_averaged_ones(root):
    for ema in (False, True):
        assert checkpoints.load_weights(str(root), ema=ema, only="backbone/").ema is ema


def test_only_the_backbone_is_read(root):
    backbone = sum(leaf.nbytes for _, leaf in tree.items(made_state(1).params["backbone"]))
    head = made_state(1).params["head"]["kernel"].nbytes
    everything, part = read_bytes(root), read_bytes(root, only="backbone/")
    assert everything > 0.8 * head  # compressed a little
    assert part < 0.1 * head and part < everything - 0.7 * head
    assert backbone < part  # the index of the file is read besides


def test_what_is_stored_with_the_arrays(root):
    saved = checkpoints.Checkpoints(str(root), keep=2)
    stored = saved.meta(2)
    assert saved.best() == 1 and saved.latest() == 2 and saved.scored(2)
    assert set(stored) == {"config", "card", "versions", "revision", "checksums"}
    assert DatasetCard.from_json(stored["card"]).name == "demo_classification"
    paths = set(stored["checksums"])
    assert {"step", "params/head/kernel", "ema/params/head/kernel", "ema/stats/head/mean"} <= paths
    assert sum(path.startswith("opt/") for path in paths) == 7  # two moments of three parameters, and a count
    saved.close()


def test_revision_names_a_commit():
    assert len(checkpoints.revision().removesuffix("-dirty")) in (0, 40)


def test_a_score_that_comes_later(root, tmp_path):
    card = DemoClassification().plan().card
    saved = checkpoints.Checkpoints(str(tmp_path), keep=2)
    saved.save(made_state(1), batches=1, meta=meta(card), score=0.3)
    saved.save(made_state(2), batches=2, meta=meta(card), score=None)
    saved.wait()
    assert saved.best() == 1 and not saved.scored(2)
    saved.add_score(2, 0.4)
    assert saved.best() == 2 and saved.scored(2)
    saved.close()
    assert restored(tmp_path) == 2


def test_metrics_of_a_lost_machine_come_back(root, tmp_path, caplog):
    copy, first, second = tmp_path / "bucket", tmp_path / "first", tmp_path / "second"
    shutil.copytree(root, copy)
    saved = checkpoints.Checkpoints(str(copy), keep=2)
    for folder in (first, second):
        folder.mkdir()
    (first / "metrics.jsonl").write_text('{"step": 1}\n')
    (second / "config.json").write_text("of this machine")
    (first / "config.json").write_text("of that machine")
    saved.keep_files(first)
    saved.bring_files(second)
    assert (second / "metrics.jsonl").read_text() == '{"step": 1}\n' and not (second / "result.json").exists()
    assert (second / "config.json").read_text() == "of this machine"
    (copy / "metrics.jsonl").unlink()
    (copy / "metrics.jsonl").mkdir()  # cannot be written
    saved.keep_files(first)
    assert "metrics were not copied" in caplog.text
    saved.close()
    saved = checkpoints.Checkpoints(str(root), keep=2)  # a workdir with its checkpoints in it needs no copy
    saved.keep_files(root)
    saved.bring_files(root)
    assert not (root / "metrics.jsonl").exists()
    saved.close()


def test_a_folder_of_runs_names_them(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint in .*; give a workdir whose"):
        layout.step_directory(str(tmp_path), best=False)
    for name in "fbdacge":
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="one of the workdirs in it: a, b, c, d, e and 2 more$"):
        layout.step_directory(str(tmp_path), best=False)


def test_addresses_pass_unchanged():
    assert layout.absolute("gs://bucket/run/") == "gs://bucket/run"
    assert layout.absolute("runs/a") == str(Path("runs/a").absolute())


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_an_address_without_its_package_is_said_so():
    with pytest.raises(UserError, match=r"gs://bucket/run.*install gcsfs"):
        checkpoints.Checkpoints("gs://bucket/run", keep=1)


def test_checkpoint_without_checksums_is_read_with_a_warning(root, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    path = copy / "checkpoints" / "2" / "meta" / "metadata"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("checksums", "crc32")}
    path.write_text(json.dumps(old))
    with caplog.at_level(logging.WARNING):
        assert restored(copy) == 2
    assert "saved without checksums" in caplog.text


def test_a_wall_clock_that_jumps_does_not_fail_saves(tmp_path, monkeypatch):
    """Each look at it is a day later than the one before."""
    days = itertools.count(time.time(), 86400.0)
    saved = checkpoints.Checkpoints(str(tmp_path), keep=2)
    monkeypatch.setattr(time, "time", lambda: next(days))
    for step in (1, 2):
        saved.save(made_state(step), batches=step, meta=meta(DemoClassification().plan().card), score=None)
        saved.wait()
    monkeypatch.undo()
    saved.close()
    assert restored(tmp_path) == 2


def test_a_long_error_keeps_its_reason():
    long = OSError(f"RESOURCE_EXHAUSTED: Error writing local file {'x' * 400}: No space left on device")
    said = layout.one_line(long)
    assert len(said) <= 300 and said.startswith("RESOURCE_EXHAUSTED") and said.endswith("No space left on device")
