"""The parts that the networks share."""

from __future__ import annotations

import contextlib
import contextvars
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

# The published code draws from a normal distribution cut at +-2, that is at 100 standard deviations: timm's and
# facebookresearch/ConvNeXt's `trunc_normal_(std=.02)`. `jax.nn.initializers.truncated_normal` would cut at 2
# standard deviations and so shrink the spread to 0.0176.
weight_init = nnx.initializers.normal(0.02)

# Variance 1 / fan-in: for networks of our own that must learn in few steps. Published networks keep `weight_init`.
fan_in_init = nnx.initializers.lecun_normal()


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


Padding = tuple[tuple[int, int], tuple[int, int]]


def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution of x [b h w inputs] with kernel float32 [kh kw inputs outputs], in x's dtype; the gradient of the
    kernel is float32."""
    if x.dtype == kernel.dtype:
        return _convolve(x, kernel, stride, padding)
    return _rounded_conv(x, kernel, stride, padding)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _rounded_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    return _convolve(x, kernel.astype(x.dtype), stride, padding)


def _rounded_conv_forward(x, kernel, stride, padding):
    return _rounded_conv(x, kernel, stride, padding), (x, kernel)


def _rounded_conv_backward(stride, padding, residuals, gradient: jax.Array):
    x, kernel = residuals
    towards_x = jax.vjp(lambda x: _convolve(x, kernel.astype(x.dtype), stride, padding), x)[1](gradient)
    return *towards_x, _kernel_gradient(x, gradient, kernel.shape[:2], stride, padding)


_rounded_conv.defvjp(_rounded_conv_forward, _rounded_conv_backward)


def _kernel_gradient(
    x: jax.Array, gradient: jax.Array, size: tuple[int, int], stride: int, padding: Padding, groups: int = 1
) -> jax.Array:
    """float32 [kh kw inputs/groups outputs], (kh, kw) = `size`: the gradient of `_convolve`'s kernel, from x [b h w inputs]
    and the gradient of the result [b oh ow outputs].

    It is the convolution of x with that gradient, batch and channels having changed places: tap (u, v) sums over all
    (b, i, j) what x, padded, holds at (i stride + u, j stride + v), times gradient (i, j).
    """
    high = [
        (out - 1) * stride + taps - length - low
        for out, taps, length, (low, _) in zip(gradient.shape[1:3], size, x.shape[1:3], padding, strict=True)
    ]
    return lax.conv_general_dilated(
        x,
        gradient,
        window_strides=(1, 1),
        padding=[(low, end) for (low, _), end in zip(padding, high, strict=True)],
        rhs_dilation=(stride, stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
        preferred_element_type=jnp.float32,
    )


def over(parameter: jax.Array, x: jax.Array) -> jax.Array:
    """parameter float32 [c] repeated to the shape of x [... c], in x's dtype; its gradient is summed in float32."""
    return jnp.broadcast_to(parameter, x.shape).astype(x.dtype)  # rounding first would have the sum in x's dtype


class Linear(nnx.Linear):
    """Linear layer with float32 parameters, computing in `dtype`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        y = matmul(x.astype(self.dtype), self.kernel[...])
        return y if self.bias is None else y + over(self.bias[...], y)


class Conv(nnx.Conv):
    """Convolution of [b h w c] with float32 parameters, computing in `dtype`; `strides` an int, `padding` pairs."""

    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv(x.astype(self.dtype), self.kernel[...], self.strides, self.padding)
        return y if self.bias is None else y + over(self.bias[...], y)


def linear(
    inputs: int, outputs: int, *, bias: bool = True, init=weight_init, dtype: jnp.dtype, rngs: nnx.Rngs
) -> Linear:
    """Linear layer with float32 parameters, weights drawn by `init` and zero bias, computing in `dtype`."""
    return Linear(inputs, outputs, use_bias=bias, kernel_init=init, dtype=dtype, rngs=rngs)


class Mlp(nnx.Module):
    """Linear to 4 times the width, exact GELU, linear back: the last axis of [... features]."""

    def __init__(self, features: int, *, init=weight_init, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = linear(features, 4 * features, init=init, dtype=dtype, rngs=rngs)
        self.fc2 = linear(4 * features, features, init=init, dtype=dtype, rngs=rngs)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(gelu(self.fc1(x)))


def uniform_init(fan_in: int):
    """torch's own initializer of a convolution's weights and bias: uniform within +-1 / sqrt(fan-in)."""
    limit = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def patch_conv(
    inputs: int,
    outputs: int,
    size: int,
    *,
    init=weight_init,
    bias_init=jax.nn.initializers.zeros,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> Conv:
    """Convolution of `size` x `size` patches with stride `size`, no padding; rows and columns left over are dropped."""
    return Conv(
        inputs, outputs, (size, size), strides=size, padding=((0, 0),) * 2, kernel_init=init, bias_init=bias_init,
        dtype=dtype, rngs=rngs,
    )  # fmt: skip


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(x * np.asarray(0.5**0.5, x.dtype)))


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU x Phi(x), in float32 or wider inside whatever comes in, as torch's.

    `jax.nn.gelu` goes through erfc, which costs more than erf: in time on a CPU, in the TPU compiler's cycles. Of the
    forward pass only x is kept, in its own dtype.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    density = jnp.exp(-0.5 * jnp.square(wide)) * np.asarray((2 * np.pi) ** -0.5, wide.dtype)
    return ((gradient * (_normal_cdf(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


def layer_norm(features: int, epsilon: float, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis, in float32 whatever comes in, scale and bias too; the result is of `dtype`.

    Two passes (not E[x^2] - E[x]^2): features whose mean is far above their spread would lose their digits.
    """
    return nnx.LayerNorm(
        features,
        epsilon=epsilon,
        dtype=dtype,
        promote_dtype=lambda arrays, dtype: arrays,  # flax would round scale and bias to `dtype`, and their gradients
        use_fast_variance=False,
        rngs=rngs,
    )


def layer_scale(features: int, value: float = 1e-6) -> nnx.Param:
    """LayerScale's gamma, [features], initially `value` (ConvNeXt: 1e-6)."""
    return nnx.Param(jnp.full((features,), value, jnp.float32))


def drop_path(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Stochastic depth: zeroes each sample's branch x [b ...] with probability `rate` and scales the kept ones by 1/(1 - rate).

    With `key=None` (evaluation) or rate 0 it returns x.
    """
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def channel_dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """torch's Dropout2d: zeroes whole channels of x [b h w c], drawn for each sample. With `key=None` it returns x."""
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0], 1, 1, x.shape[3]))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def require_key(train: bool, key: jax.Array | None, *rates: float) -> jax.Array | None:
    """The key that random layers see: None unless training.

    Raises ValueError when training with random layers and no key.
    """
    if train and key is None and any(rates):
        raise ValueError("train=True with drop path or dropout needs a random key; pass key=jax.random.key(...)")
    return key if train else None


class BatchNorm(nnx.Module):
    """Batch normalisation of [b h w c] over b, h and w, as torch's BatchNorm2d.

    Running statistics: new = 0.9 old + 0.1 batch (flax's momentum 0.9 is torch's 0.1), with torch's unbiased variance.
    Under `jit` the batch is one global array, so the statistics are those of the whole batch over all devices: what
    other frameworks call synchronised BatchNorm. `nnx.BatchNorm` keeps the biased variance, hence this class.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones((features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros((features,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((features,), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x.astype(jnp.float32)
        if train:
            # Two passes: the pooled maps of pyramid pooling vary little over the batch, where one pass cancels.
            mean = x.mean((0, 1, 2))
            var = jnp.square(x - mean).mean((0, 1, 2))
            n = x.shape[0] * x.shape[1] * x.shape[2]
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * lax.stop_gradient(mean)
            self.var[...] = 0.9 * self.var[...] + 0.1 * lax.stop_gradient(var) * (n / max(n - 1, 1))
        else:
            mean, var = self.mean[...], self.var[...]
        y = (x - mean) * (lax.rsqrt(var + 1e-5) * self.scale[...]) + self.bias[...]
        return y.astype(self.dtype)


class ConvNormRelu(nnx.Module):
    """Convolution without bias (zero padding, same size), BatchNorm, ReLU: mmcv's ConvModule with its initialisation.

    Kernels are normal with variance 2 / (outputs * size^2) (mmcv `kaiming_init`: mode fan_out, normal).
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = Conv(
            inputs,
            outputs,
            (size, size),
            padding=((size // 2, size // 2),) * 2,
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(outputs, dtype=dtype)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jax.nn.relu(self.norm(self.conv(x), train=train))


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """torch's AdaptiveAvgPool2d(size) of x [b h w c], exactly, for any h and w: [b size size c].

    Cell i averages rows floor(i h / size) to ceil((i + 1) h / size) - 1, likewise columns; cells overlap where size
    does not divide h. Written as two small matrix products, which accelerators and the partitioner handle well.
    """
    rows = _averaging_matrix(x.shape[1], size).astype(x.dtype)
    columns = _averaging_matrix(x.shape[2], size).astype(x.dtype)
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=lax.Precision.HIGHEST)


def _averaging_matrix(length: int, size: int) -> jax.Array:
    """[size, length] float32, each row the mean over one cell. In jnp, since `length` may be symbolic in an export."""
    cell, position = jnp.arange(size)[:, None], jnp.arange(length)[None, :]
    inside = (position >= cell * length // size) & (position < -(-(cell + 1) * length // size))
    return inside / inside.sum(1, keepdims=True, dtype=jnp.float32)


def resize(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resize of x [b h w c], equal to torch's `interpolate(mode="bilinear", align_corners=False)`: pixel centres
    at half positions, borders repeated, and no antialiasing when it shrinks."""
    return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "bilinear", antialias=False)


# Planes of at most this many pixels use the Toeplitz form on the CPU, larger ones the FFT form.
TOEPLITZ_PIXELS = 10 * 10


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
    slower than two other exact forms, so on the CPU small planes are multiplied by the
    convolution's Toeplitz matrix and larger ones go through the FFT. The choice follows the platform that the program is lowered for
    (`lax.platform_dependent`), so a TPU program compiled on a CPU host has the convolution. Gradients are
    chosen the same way by a custom rule: differentiating through the choice would save every form's residuals.
    """
    return grouped_conv(x, kernel) if _grouped_only.get() else _chosen_conv(x, kernel)


@jax.custom_vjp
def _chosen_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.platform_dependent(x, kernel, cpu=_on_cpu(x), default=grouped_conv)


def _on_cpu(x: jax.Array):
    height, width = x.shape[1], x.shape[2]
    if not (isinstance(height, int) and isinstance(width, int)):
        return grouped_conv  # the other forms need the size of the plane, which is symbolic in an export
    return toeplitz_conv if height * width <= TOEPLITZ_PIXELS else fft_conv


def _backward(residuals, gradient: jax.Array):
    def on_accelerators(x, kernel, gradient):
        towards_x = jax.vjp(lambda x: grouped_conv(x, kernel), x)[1](gradient)
        sizes = kernel.shape[:2]
        return *towards_x, _kernel_gradient(x, gradient, sizes, 1, _same(kernel), groups=x.shape[3])

    def on_cpu(x, kernel, gradient):
        kernel = kernel.astype(x.dtype).astype(jnp.float32)
        pull_back = jax.vjp(_on_cpu(x), x.astype(jnp.float32), kernel)[1]
        towards_x, towards_kernel = pull_back(gradient.astype(jnp.float32))
        return towards_x.astype(x.dtype), towards_kernel

    return lax.platform_dependent(*residuals, gradient, cpu=on_cpu, default=on_accelerators)


_chosen_conv.defvjp(lambda x, kernel: (_chosen_conv(x, kernel), (x, kernel)), _backward)


def grouped_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`depthwise_conv` as XLA's grouped convolution."""
    return _convolve(x, kernel.astype(x.dtype), 1, _same(kernel), groups=x.shape[3])


def _same(kernel: jax.Array) -> Padding:
    """Zeros around a plane so that a convolution with `kernel` [kh kw ...], of odd sizes, keeps its size."""
    return tuple((k // 2, k // 2) for k in kernel.shape[:2])


def toeplitz_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`depthwise_conv` as one dense matrix a channel, over the whole plane: (h w)^2 c values are built."""
    rows = _band(x.shape[1], kernel.shape[0]).astype(x.dtype)
    columns = _band(x.shape[2], kernel.shape[1]).astype(x.dtype)
    matrix = jnp.einsum("uik,vjl,uvc->cijkl", rows, columns, kernel[:, :, 0].astype(x.dtype))
    return jnp.einsum("bijc,cijkl->bklc", x, matrix)


def _band(length: int, size: int) -> np.ndarray:
    """[size, length in, length out]: 1 where input i lies under tap u of the kernel that stands on output k."""
    tap, i, k = np.ogrid[:size, :length, :length]
    return (i - k + size // 2 == tap).astype(np.float32)


def fft_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`depthwise_conv` as a product of spectra, in float32, on planes padded by the kernel's size less one.

    XLA gathers the batch of a sharded transform on every device: a cost of meshes of CPU devices alone, which serve tests.
    """
    (h, w), (kh, kw) = x.shape[1:3], kernel.shape[:2]
    padded = _fast_length(h + kh - 1), _fast_length(w + kw - 1)
    spectrum = jnp.fft.rfft2(x.astype(jnp.float32), padded, (1, 2))
    # Networks correlate; the product of spectra convolves, hence the flip.
    taps = jnp.fft.rfft2(kernel[::-1, ::-1, 0].astype(x.dtype).astype(jnp.float32), padded, (0, 1))
    y = jnp.fft.irfft2(spectrum * taps, padded, (1, 2))
    return y[:, kh // 2 : kh // 2 + h, kw // 2 : kw // 2 + w].astype(x.dtype)


def _fast_length(n: int) -> int:
    """The least even number >= n without prime factors above 5."""
    while n % 2 or not _is_smooth(n):
        n += 1
    return n


def _is_smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1
