"""Checkpoints through Orbax: training state, data position, config and card; latest and best kept.

Layout: WORKDIR/checkpoints/STEP/{state, data, meta}. `state` is the TrainState as plain nested dicts of arrays, `data`
{"batches": global batches consumed}, `meta` {"config", "card", "versions", "revision", "checksums"}. Nothing in them
depends on the number of processes or devices. Checksums are those of the arrays themselves, so that they hold from the
device that saved to the device that restores, through every file format and file system between. A checkpoint that does
not fit its checksums is set aside in WORKDIR/damaged/.
"""

from genseg.checkpoints.damage import set_damaged_aside as set_damaged_aside
from genseg.checkpoints.layout import FOLDER as FOLDER
from genseg.checkpoints.lock import sole_use as sole_use
from genseg.checkpoints.saver import Checkpoints as Checkpoints
from genseg.checkpoints.saver import Restored as Restored
from genseg.checkpoints.versions import revision as revision
from genseg.checkpoints.versions import versions as versions
from genseg.checkpoints.weights import Weights as Weights
from genseg.checkpoints.weights import load_card as load_card
from genseg.checkpoints.weights import load_weights as load_weights
