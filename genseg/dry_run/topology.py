"""Devices that are described to the TPU compiler and are not there."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.experimental import topologies

from genseg.dry_run.chips import slices_of
from genseg.errors import UserError


def described_devices(topology: str) -> Sequence[jax.Device]:
    """Stand-ins for the chips of a TPU slice such as "v5e:16x16", or of several ("v5e:16x16*4"): programs compile for
    them and cannot run.

    Raises: UserError if the TPU compiler (libtpu) is not installed or knows no such slice.
    """
    slices = slices_of(topology)
    several = {"num_slices": slices} if slices > 1 else {}
    try:
        return topologies.get_topology_desc(topology.partition("*")[0], platform="tpu", **several).devices
    except Exception as error:  # libtpu and its absence report in several types
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the TPU compiler has no slice '{topology}' ({reason}); install genseg[tpu], and choose a shape that the "
            "chip's documentation lists, of at least one host"
        ) from None


def hosts(devices: Sequence[jax.Device]) -> int:
    """How many machines hold the devices."""
    return len({(getattr(device, "slice_index", None), device.process_index) for device in devices})
