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
def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [... inputs] times kernel float32 [inputs outputs], in x's dtype; the gradient of the kernel is float32 (or x's
    dtype, where that is wider)."""
    return jnp.matmul(x, kernel.astype(x.dtype))


def _matmul_backward(residuals, gradient: jax.Array):
    x, kernel = residuals
    towards_kernel = lax.platform_dependent(x, gradient, cpu=outer_in_rows, default=outer)
    return jnp.matmul(gradient, kernel.astype(x.dtype).T), towards_kernel


matmul.defvjp(lambda x, kernel: (matmul(x, kernel), (x, kernel)), _matmul_backward)


def outer(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sum of x [... i] times y [... j] over all but the last axis: float32 (or x's dtype, where that is wider) [i j]."""
    leading = tuple(range(x.ndim - 1))
    return lax.dot_general(x, y, ((leading, leading), ((), ())), preferred_element_type=_wide(x))


def outer_in_rows(x: jax.Array, y: jax.Array) -> jax.Array:
    """`outer` as XLA's CPU backend makes it fastest: as a product of matrices, where for more axes it would lay one of them out
    anew, transposed; of many rows with the narrower matrix first, where the result is small enough to be transposed."""
    x, y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
    rows, width = x.shape
    if width > y.shape[1] and rows >= width:
        return lax.optimization_barrier(outer(y, x)).T
    return outer(x, y)


def _wide(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution of x [b h w inputs] with kernel float32 [kh kw inputs outputs], in x's dtype; the gradient of the
    kernel is float32 (or x's dtype, where that is wider)."""
    return convolve(x, kernel.astype(x.dtype), stride, padding)


def _conv_forward(x, kernel, stride, padding):
    return conv(x, kernel, stride, padding), (x, kernel)


def _conv_backward(stride, padding, residuals, gradient: jax.Array):
    def as_convolutions(x: jax.Array, kernel: jax.Array, gradient: jax.Array):
        towards_x = jax.vjp(lambda x: convolve(x, kernel.astype(x.dtype), stride, padding), x)[1](gradient)
        return *towards_x, kernel_gradient(x, gradient, kernel.shape[:2], stride, padding)

    size = residuals[1].shape[:2]
    if size == (stride, stride) and padding == ((0, 0), (0, 0)):
        return lax.platform_dependent(*residuals, gradient, cpu=_patch_gradients, default=as_convolutions)
    return as_convolutions(*residuals, gradient)


conv.defvjp(_conv_forward, _conv_backward)


def _patch_gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of x and `kernel` of a convolution whose kernel lies on patches side by side, as products of matrices, which
    XLA's CPU backend is faster at."""
    size, (b, h, w, inputs), (oh, ow) = kernel.shape[0], x.shape, gradient.shape[1:3]

    def patches(x: jax.Array) -> jax.Array:  # [b oh size ow size c] to [b oh ow size size c], which is its own inverse
        return x.transpose(0, 1, 3, 2, 4, 5)

    split = patches(x[:, : oh * size, : ow * size].reshape(b, oh, size, ow, size, inputs))
    towards_kernel = outer_in_rows(split.reshape(b, oh, ow, -1), gradient).reshape(kernel.shape)
    towards_split = jnp.matmul(gradient, kernel.astype(x.dtype).reshape(-1, kernel.shape[3]).T)
    towards_x = patches(towards_split.reshape(b, oh, ow, size, size, inputs)).reshape(b, oh * size, ow * size, inputs)
    return jnp.pad(towards_x, ((0, 0), (0, h - oh * size), (0, w - ow * size), (0, 0))), towards_kernel


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
            preferred_element_type=_wide(x),
        )

    def by_taps(x: jax.Array, gradient: jax.Array) -> jax.Array:
        padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))

        def tap(u: int, v: int) -> jax.Array:
            return outer_in_rows(padded[:, u : u + oh, v : v + ow], gradient)

        return jnp.stack([jnp.stack([tap(u, v) for v in range(size[1])]) for u in range(size[0])])

    if stride == groups == 1 and oh * ow >= LARGE:
        return lax.platform_dependent(x, gradient, cpu=by_taps, default=as_convolution)
    return as_convolution(x, gradient)


def over(parameter: jax.Array, x: jax.Array) -> jax.Array:
    """parameter float32 [c] repeated to the shape of x [... c], in x's dtype; its gradient is summed in float32."""
    return jnp.broadcast_to(parameter, x.shape).astype(x.dtype)  # rounding first would have the sum in x's dtype
