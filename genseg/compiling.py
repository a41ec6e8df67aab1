"""What XLA's compiler is told about a program, beside the program."""

from __future__ import annotations

import functools
import os

import jax
from jax.sharding import Mesh

# For programs without gradients. Left to itself XLA's CPU backend puts a whole MLP, GELU included, into one operation of its
# library YNNPACK and hands it scalars as arrays of the hidden layer's size. Without that library products are Eigen's with
# oneDNN's kernels, which are faster, and the rest is in XLA's own loops, in vectors as wide as the CPU has. In a training
# step that would cost more than it saves: the sums over rows, of which gradients of biases are made, are far slower in
# those loops; and with the library for sums alone the products of attention are slower on two cores and more.
_FORWARD_ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": "512"}


def forward_options(mesh: Mesh) -> dict[str, str]:
    """`compiler_options` for `jax.jit` of a program without gradients that runs on `mesh`.

    Empty beside an accelerator. Options that this version of XLA does not know, for they are experimental, and those that
    XLA_FLAGS in the environment sets are left out.
    """
    if mesh.devices.flat[0].platform != "cpu":
        return {}
    said = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in _FORWARD_ON_CPU.items() if name not in said and _known(name, value)}


@functools.cache
def _known(name: str, value: str) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(0).compile()
    except jax.errors.JaxRuntimeError as error:
        # "No such compile option: '...'" or "While setting option ..., '...' is not a valid enum value."
        if "option" not in str(error):
            raise
        return False
    return True
