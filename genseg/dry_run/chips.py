"""Published figures of TPU chips, and the environment in which the TPU compiler runs without one.

Imports nothing heavy: `ENVIRONMENT` must be applied before JAX is imported.
"""

from __future__ import annotations

import dataclasses
import re

from genseg.errors import UserError

# Arrays live on the CPU; only the compiler is the TPU's. Any accelerator type serves: the topology that is asked for
# later is what is compiled for. Without these variables it works too, with alarming log lines.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip is taken: two dry runs may go on at once
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip as published.

    flops: peak bfloat16 FLOP/s; memory: bytes of HBM; bandwidth: bytes/s of HBM; link: bytes/s that it sends to its
    neighbours, all links together, one way; network: bytes/s that a chip of a full slice has to other slices, one way,
    None where not looked up; clock: Hz, None where nothing published gives it; price: US dollars an hour, on demand,
    None where no list price was found.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    network: float | None
    clock: float | None
    price: float | None


# Figures: docs.cloud.google.com/tpu/docs/{v5e,v5p-training,v6e}, read November 2026 (links: half of the published
# bidirectional figure; network: v5e's 6.4 Tbit/s a pod of 256 chips). Prices: Google Cloud's list of February 2025 as quoted in
# jax-ml.github.io/scaling-book/applied-inference. Clocks: v5e from jax-ml.github.io/scaling-book/tpus; v5p from its
# peak = 2 cores x 4 units x 128 x 128 x 2 x clock, the rule that v5e's figures obey. v6e's published two units of
# 256 x 256 would need 3.5 GHz by that rule, which cannot be right, hence None.
CHIPS = {
    "v5e": Chip(flops=197e12, memory=16e9, bandwidth=819e9, link=200e9, network=3.125e9, clock=1.5e9, price=1.20),
    "v5p": Chip(flops=459e12, memory=95 * 2**30, bandwidth=2765e9, link=600e9, network=None, clock=1.75e9, price=4.20),
    "v6e": Chip(flops=918e12, memory=32e9, bandwidth=1638e9, link=400e9, network=None, clock=None, price=None),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as "v5e:16x16", or "v5e:16x16*4" for four slices.

    Raises: UserError if the form is wrong or the chip unknown.
    """
    name, _, slices = topology.partition(":")
    if not re.fullmatch(r"\d+(x\d+)+(\*[1-9]\d*)?", slices):
        raise UserError(
            f"--topology is '{topology}'; give a chip and the shape of a slice, such as v5e:16x16, behind it *N for N slices"
        )
    if name not in CHIPS:
        raise UserError(f"--topology names the chip '{name}'; known are {', '.join(CHIPS)}")
    return CHIPS[name]


def slices_of(topology: str) -> int:
    """How many slices a topology names: 4 in "v5e:16x16*4"."""
    return int(topology.partition("*")[2] or 1)
