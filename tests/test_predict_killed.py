"""A real `genseg.predict` killed by SIGKILL at any moment: whole maps or none, and the same command makes the rest."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import tiny

from genseg import nets, train
from tests.data import made

PROGRAM = """
import sys
import tiny
from genseg import nets, predict
nets.BACKBONES["convnext_micro"] = tiny.narrow
sys.exit(predict.main(sys.argv[1:]))
"""


def started(arguments: list[str]) -> subprocess.Popen:
    path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests")])
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_what_has_its_name_is_whole_after_a_kill_and_the_rest_follows(tmp_path, monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(tmp_path / "data")
    config.train.steps, config.train.warmup_steps, config.report.panels = 1, 0, 0
    config.model.head_channels, config.model.aux_channels, config.augment.size = 16, 8, (32, 32)
    train.train(config.lock(), str(tmp_path / "run"))
    scenes = []
    for number in range(8):
        scenes.append(tmp_path / "in" / f"scene_{number}.tif")
        made.georeferenced(scenes[-1], made.scene(number, 4, "uint8", (150, 160), 5)[0], 7e5, 4e6 + 200 * number, 0.6)

    def arguments(out) -> list[str]:
        return [f"--checkpoint={tmp_path / 'run'}", f"--out={out}", "--polygons", "--probabilities", *map(str, scenes)]

    whole = started(arguments(tmp_path / "whole"))
    assert whole.wait() == 0, whole.stderr.read().decode()
    out, in_the_middle = tmp_path / "out", 0
    for turn in range(4):
        # A map without its record was left half made: it is made anew.
        whole_ones = [record.with_name(f"{record.stem}_classes.tif") for record in out.glob("scene_*.json")]
        before = {path: path.stat().st_mtime_ns for path in whole_ones}
        process = started(arguments(out))
        while process.poll() is None and len(list(out.glob("scene_*.json"))) <= min(len(before), 7):
            time.sleep(0.01)
        time.sleep(0.05 * turn)  # at another moment of a scene each time
        process.kill()
        killed = process.wait() == -signal.SIGKILL
        assert killed or process.returncode == 0  # it was faster, and all is there
        in_the_middle += killed and 0 < len(list(out.glob("scene_*.json"))) < len(scenes)
        for record in out.glob("scene_*.json"):  # the record is written last: what it names is all there
            name = record.stem
            json.loads(record.read_text())
            with (
                rasterio.open(out / f"{name}_classes.tif") as ours,
                rasterio.open(tmp_path / "whole" / f"{name}_classes.tif") as right,
            ):
                np.testing.assert_array_equal(ours.read(), right.read())
        assert all(path.stat().st_mtime_ns == made_at for path, made_at in before.items())
        if not killed:
            break
    assert in_the_middle, "no process was killed between its first scene and its last"
    last = started(arguments(out))
    said = last.communicate()[0].decode()
    assert last.returncode == 0 and "is there already" in said
    ours, right = ({p.name for p in folder.iterdir()} for folder in (out, tmp_path / "whole"))
    assert ours == right  # and so nothing half-made is left
    for name in sorted(n for n in ours if n.endswith(".tif")):
        with rasterio.open(out / name) as one, rasterio.open(tmp_path / "whole" / name) as other:
            np.testing.assert_array_equal(one.read(), other.read())
