"""Matrix products and convolutions of narrow inputs with float32 weights."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]


# Weights are float32 and are rounded to the dtype of the computation where they are used. Left to itself JAX makes their
# gradient in that dtype and widens it afterwards: on a mesh each device's part of the sum would be rounded to bfloat16,
# the parts be added up in bfloat16, and only their sum be widened. The rules below ask for the gradient in float32, in
# which matrix units add up anyway.


@jax.custom_vjp
def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(x, kernel.astype(x.dtype))


def _matmul_backward(residuals, gradient: jax.Array):
    x, kernel = residuals
    leading = tuple(range(x.ndim - 1))
    towards_kernel = lax.dot_general(x, gradient, ((leading, leading), ((), ())), preferred_element_type=jnp.float32)
    return jnp.matmul(gradient, kernel.astype(x.dtype).T), towards_kernel


_matmul.defvjp(lambda x, kernel: (_matmul(x, kernel), (x, kernel)), _matmul_backward)


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [... inputs] times kernel float32 [inputs outputs], in x's dtype; the gradient of the kernel is float32."""
    return jnp.matmul(x, kernel) if x.dtype == kernel.dtype else _matmul(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution of x [b h w inputs] with kernel float32 [kh kw inputs outputs], in x's dtype; the gradient of the
    kernel is float32 (or x's dtype, where that is wider)."""
    return convolve(x, kernel.astype(x.dtype), stride, padding)


def _conv_forward(x, kernel, stride, padding):
    return conv(x, kernel, stride, padding), (x, kernel)


def _conv_backward(stride, padding, residuals, gradient: jax.Array):
    x, kernel = residuals
    towards_x = jax.vjp(lambda x: convolve(x, kernel.astype(x.dtype), stride, padding), x)[1](gradient)
    return *towards_x, kernel_gradient(x, gradient, kernel.shape[:2], stride, padding)


conv.defvjp(_conv_forward, _conv_backward)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


LARGE = 1024
"""Pixels of a plane from which on XLA's CPU backend takes longer for a kernel's gradient than a product a tap does
(benchmarks/kernel_gradient.py)."""


def kernel_gradient(
    x: jax.Array, gradient: jax.Array, size: tuple[int, int], stride: int, padding: Padding, groups: int = 1
) -> jax.Array:
    """float32 (or x's dtype, where that is wider) [kh kw inputs/groups outputs], (kh, kw) = `size`: the gradient of
    `convolve`'s kernel, from x [b h w inputs] and the gradient of the result [b oh ow outputs].

    It is the convolution of x with that gradient, batch and channels having changed places: tap (u, v) sums over all
    (b, i, j) what x, padded, holds at (i stride + u, j stride + v), times gradient (i, j). On a CPU, for `LARGE` planes, it
    is made as such sums, a matrix product each.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    oh, ow = gradient.shape[1:3]

    def as_convolution(x: jax.Array, gradient: jax.Array) -> jax.Array:
        high = [
            (out - 1) * stride + taps - length - low
            for out, taps, length, (low, _) in zip((oh, ow), size, x.shape[1:3], padding, strict=True)
        ]
        return lax.conv_general_dilated(
            x,
            gradient,
            window_strides=(1, 1),
            padding=[(low, end) for (low, _), end in zip(padding, high, strict=True)],
            rhs_dilation=(stride, stride),
            dimension_numbers=("CHWN", "IHWO", "HWNC"),
            batch_group_count=groups,
            preferred_element_type=wide,
        )

    def by_taps(x: jax.Array, gradient: jax.Array) -> jax.Array:
        padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
        outputs = lax.optimization_barrier(gradient.reshape(-1, gradient.shape[-1]).T)  # once, not for each product

        def tap(u: int, v: int) -> jax.Array:
            pixels = padded[:, u : u + oh, v : v + ow].reshape(-1, x.shape[-1])
            return jnp.matmul(outputs, pixels, preferred_element_type=wide).T

        return jnp.stack([jnp.stack([tap(u, v) for v in range(size[1])]) for u in range(size[0])])

    if stride == groups == 1 and oh * ow >= LARGE:
        return lax.platform_dependent(x, gradient, cpu=by_taps, default=as_convolution)
    return as_convolution(x, gradient)


def over(parameter: jax.Array, x: jax.Array) -> jax.Array:
    """parameter float32 [c] repeated to the shape of x [... c], in x's dtype; its gradient is summed in float32."""
    return jnp.broadcast_to(parameter, x.shape).astype(x.dtype)  # rounding first would have the sum in x's dtype
