"""Eight CPU devices for every test, so that sharded code is really sharded; quick compilation, since tests run little."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
])
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def eight_devices():
    assert jax.device_count() == 8
