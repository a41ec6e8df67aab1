"""A picture of what the network is given: `python -m genseg.main --mode=seen --config=CONFIG --workdir=DIR`.

WORKDIR/pictures/seen.png: the first training images, a row each; on the left as stored, then every channel as the network
gets it in the first training step, after `config.csp` and random erasing (mixup and CutMix come later and are not shown).
"""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genseg import draws, inputs, outputs, partition, tasks
from genseg.data.card import DatasetCard
from genseg.report import drawing

logger = logging.getLogger(__name__)

ROWS = 6
GAP = 4
SPREAD = 2.2  # standard deviations from black or white to the mean's grey


def picture(image: np.ndarray, seen: np.ndarray, card: DatasetCard) -> np.ndarray:
    """uint8 [h, w, 3] of images [b, h, w, m] as stored and channels [b, h, w, n]: a row an image; mid-grey is the mean."""
    visible = tuple(card.colours.values())
    shown = list(visible if len(visible) == 3 else (0, 0, 0))  # grey where there is no colour
    normal = (image.astype(np.float32) - card.mean)[..., shown] / card.std[shown]
    columns = [normal, *(np.repeat(seen[..., [c]], 3, -1) for c in range(seen.shape[-1]))]
    b, h, w, _ = normal.shape
    sheet = np.full((b * (h + GAP) - GAP, len(columns) * (w + GAP) - GAP, 3), 255, np.uint8)
    for column, values in enumerate(columns):
        grey = np.clip((values / SPREAD + 1) * 127.5, 0, 255).astype(np.uint8)
        for row in range(b):
            top, left = row * (h + GAP), column * (w + GAP)
            sheet[top : top + h, left : left + w] = grey[row]
    return sheet


def run(config: ConfigDict, workdir: str) -> Path:
    """Writes the picture and returns its path."""
    mesh = partition.make_mesh(config.mesh.data, config.mesh.fsdp)
    data = inputs.open_inputs(config)
    task = tasks.build(config, data.card)
    image = np.asarray(data.first_batch(mesh)["image"])[:ROWS]
    given = jax.jit(task.network_input)(jnp.asarray(image), draws.key_of_step(config.seed, 0))
    path = outputs.given(workdir, "--workdir") / "pictures" / "seen.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.save_picture(path, picture(image, np.asarray(given), data.card))
    logger.info("%s: images of %s as stored, then each channel as the network sees it", path, data.card.name)
    return path
