"""Layers with weights that the networks share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from genseg.nets.gelu import gelu
from genseg.nets.initializers import weight_init
from genseg.nets.norms import BatchNorm
from genseg.nets.products import conv, matmul, over


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


def layer_scale(features: int, value: float = 1e-6) -> nnx.Param:
    """LayerScale's gamma, [features], initially `value` (ConvNeXt: 1e-6)."""
    return nnx.Param(jnp.full((features,), value, jnp.float32))


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
