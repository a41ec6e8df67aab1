"""FLOPs of a traced program, whatever platform it is for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend import core


def of(jaxpr: core.Jaxpr) -> float:
    """FLOPs of all matrix products and convolutions of a program: two for each multiply-add that a plain algorithm does.

    Loops of known length are counted as often as they run, loops of unknown length once; of a choice by platform or
    value the last branch is counted, which is an accelerator's (see `genseg.nets.depthwise.depthwise_conv`).
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[d] for d in contracted)
        elif name == "conv_general_dilated":
            total += 2.0 * _conv_products(eqn)
        elif name == "cond":
            total += of(params["branches"][-1].jaxpr)
        else:
            times = params["length"] if name == "scan" else 1
            total += times * sum(of(inner) for inner in _inner(params))
    return total


def equations(jaxpr: core.Jaxpr, without: str = "") -> Iterator[core.JaxprEqn]:
    """The equations of a program and of the programs inside it, less those of jitted functions named `without`; of a choice
    by platform or value those of the last branch, as in `of`."""
    for eqn in jaxpr.eqns:
        if without and eqn.params.get("name") == without:
            continue
        yield eqn
        inner = [eqn.params["branches"][-1].jaxpr] if eqn.primitive.name == "cond" else _inner(eqn.params)
        for one in inner:
            yield from equations(one, without)


def _conv_products(eqn: core.JaxprEqn) -> float:
    """Multiply-adds of a convolution; positions that meet padding or dilation's zeros count in `taps` only where real."""
    params = eqn.params
    numbers = params["dimension_numbers"]
    left, right, out = (v.aval.shape for v in (*eqn.invars[:2], eqn.outvars[0]))
    taps = 1.0
    for i, (low, _) in enumerate(params["padding"]):
        size, kernel = left[numbers.lhs_spec[2 + i]], right[numbers.rhs_spec[2 + i]]
        outputs = out[numbers.out_spec[2 + i]]
        stride, grow, spread = (params[k][i] for k in ("window_strides", "lhs_dilation", "rhs_dilation"))
        places = (o * stride - low + k * spread for o in range(outputs) for k in range(kernel))
        taps *= sum(0 <= p <= (size - 1) * grow and p % grow == 0 for p in places)
    return taps * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * right[numbers.rhs_spec[1]]


def _inner(params: dict[str, Any]) -> Iterable[core.Jaxpr]:
    """Programs inside an equation's parameters."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns"):
                yield one
            elif hasattr(one, "jaxpr"):
                yield one.jaxpr
