"""Depthwise convolution: the form that the platform runs fast."""

from __future__ import annotations

import contextlib
import contextvars

import jax
from jax import lax

from genseg.nets import depthwise_cpu
from genseg.nets.products import Padding, convolve, kernel_gradient

_grouped_only = contextvars.ContextVar("grouped_only", default=False)


@contextlib.contextmanager
def grouped_convolutions():
    """While a network is traced inside, `depthwise_conv` is a plain grouped convolution for every platform: for exports
    to formats that know no choice by platform."""
    token = _grouped_only.set(True)
    try:
        yield
    finally:
        _grouped_only.reset(token)


def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise convolution of x [b h w c] with kernel float32 [kh kw 1 c] (odd sizes), stride 1, zero padding: [b h w c].

    The kernel is rounded to x's dtype, in which the result is; the kernel's gradient is float32.

    On TPU and GPU this is one grouped `lax.conv_general_dilated`. XLA's CPU backend runs that operation many times
    slower than the forms of `genseg.nets.depthwise_cpu`, which are chosen there by the size of the plane. The choice follows the
    platform that the program is lowered for (`lax.platform_dependent`), so a TPU program compiled on a CPU host has the
    convolution. Gradients are chosen the same way by a custom rule: differentiating through the choice would save every
    form's residuals.
    """
    return grouped_conv(x, kernel) if _grouped_only.get() else _chosen_conv(x, kernel)


@jax.custom_vjp
def _chosen_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    on_cpu = depthwise_cpu.conv if _known(x) else grouped_conv
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=grouped_conv)


def _known(x: jax.Array) -> bool:
    """Whether the size of the plane is, which the CPU's forms need: in an export it may be symbolic."""
    return all(isinstance(side, int) for side in x.shape[1:3])


def _backward(residuals, gradient: jax.Array):
    x, _ = residuals
    on_cpu = depthwise_cpu.gradients if _known(x) else _grouped_gradients
    return lax.platform_dependent(*residuals, gradient, cpu=on_cpu, default=_grouped_gradients)


_chosen_conv.defvjp(lambda x, kernel: (_chosen_conv(x, kernel), (x, kernel)), _backward)


def grouped_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`depthwise_conv` as XLA's grouped convolution."""
    return convolve(x, kernel.astype(x.dtype), 1, _same(kernel), groups=x.shape[3])


def _grouped_gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `grouped_conv`'s x, in its dtype, and kernel, float32, from the gradient of its result."""
    towards_x = jax.vjp(lambda x: grouped_conv(x, kernel), x)[1](gradient)
    return *towards_x, kernel_gradient(x, gradient, kernel.shape[:2], 1, _same(kernel), groups=x.shape[3])


def _same(kernel: jax.Array) -> Padding:
    """Zeros around a plane so that a convolution with `kernel` [kh kw ...], of odd sizes, keeps its size."""
    return tuple((k // 2, k // 2) for k in kernel.shape[:2])
