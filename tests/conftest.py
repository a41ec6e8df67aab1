"""Eight CPU devices for every test, so that sharded code is really sharded; quick compilation, since tests run little."""

import logging
import os
import signal
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
import tiny
from absl import logging as absl_logging

from genseg import nets

# A shell has Control-C ignored in what it runs in the background, which every process started here would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _log_as_it_was(monkeypatch):
    """Command lines that are called inside a test change the process's logging for good, as they may."""
    log = logging.getLogger("genseg")
    kept = log.handlers, log.propagate, log.level, logging.getLogger("asyncio").level, absl_logging.get_verbosity()
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield
    log.handlers, log.propagate = kept[:2]
    log.setLevel(kept[2])
    logging.getLogger("asyncio").setLevel(kept[3])
    absl_logging.set_verbosity(kept[4])


@pytest.fixture(scope="module")
def narrow_micro():
    """Within this process the small configs' backbone has one block a stage: most of a short run is compilation.

    For a whole module: `pytestmark = pytest.mark.usefixtures("narrow_micro")`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
        yield


@pytest.fixture
def eight_devices():
    assert jax.device_count() == 8
