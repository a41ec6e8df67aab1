"""Layers against independent formulas, in NumPy where that is short."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from genseg.nets import drop, gelu, initializers, layers, norms, products, resizing
from genseg.nets.convnext import DepthwiseConv
from genseg.nets.functional import bind


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 2, 3, 6]))
def test_adaptive_average_pool_by_definition(h, w, size):
    x = np.random.default_rng(h * 20 + w).normal(size=(1, h, w, 2)).astype("f4")
    expected = np.zeros((1, size, size, 2), "f4")
    for i, j in itertools.product(range(size), repeat=2):
        rows = slice(i * h // size, -(-(i + 1) * h // size))
        columns = slice(j * w // size, -(-(j + 1) * w // size))
        expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(resizing.adaptive_average_pool(jnp.asarray(x), size), expected, atol=1e-5)


def bilinear(x, height, width):
    """torch's upsample_bilinear2d without align_corners, pixel by pixel (ATen/native/UpSample.h)."""

    def source(i, out, size):
        position = max((i + 0.5) * size / out - 0.5, 0.0)
        low = min(int(position), size - 1)
        return low, min(low + 1, size - 1), position - low

    out = np.zeros((x.shape[0], height, width, x.shape[3]), "f8")
    for i, j in itertools.product(range(height), range(width)):
        (a, b, t), (c, d, u) = source(i, height, x.shape[1]), source(j, width, x.shape[2])
        top, bottom = x[:, a, c] * (1 - u) + x[:, a, d] * u, x[:, b, c] * (1 - u) + x[:, b, d] * u
        out[:, i, j] = top * (1 - t) + bottom * t
    return out


@settings(max_examples=12, deadline=None)
@given(*[st.integers(1, 9)] * 4)
def test_resize_is_torchs(h, w, height, width):
    x = np.random.default_rng(h + 10 * w).normal(size=(1, h, w, 2)).astype("f4")
    np.testing.assert_allclose(resizing.resize(jnp.asarray(x), height, width), bilinear(x, height, width), atol=1e-5)


def test_batch_norm_statistics():
    norm = norms.BatchNorm(3, dtype=jnp.float32)
    x = np.random.default_rng(0).normal(5.0, 2.0, (2, 3, 4, 3)).astype("f4")
    y = norm(jnp.asarray(x), train=True)
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    evaluated = norm(jnp.asarray(x), train=False)
    np.testing.assert_allclose(
        evaluated, (x - 0.1 * flat.mean(0)) / np.sqrt(0.9 + 0.1 * flat.var(0, ddof=1) + 1e-5), rtol=1e-4
    )


def test_batch_norm_of_one_value_a_channel():
    norm = norms.BatchNorm(2, dtype=jnp.float32)
    y = norm(jnp.full((1, 1, 1, 2), 7.0), train=True)
    assert np.all(np.asarray(y) == 0.0) and np.all(np.isfinite(norm.var[...]))


def test_batch_norm_is_synchronised_over_devices(eight_devices):
    class Wrapped(nnx.Module):
        def __init__(self):
            self.norm = norms.BatchNorm(2, dtype=jnp.float32)

        def __call__(self, image, *, train, key):
            return self.norm(image, train=train)

    net = bind(lambda rngs: Wrapped())
    params, stats = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (16, 2, 2, 2)) + jnp.arange(16.0)[:, None, None, None]
    apply = jax.jit(lambda p, s, x: net.apply(p, s, x, train=True))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    for a, b in zip(
        jax.tree.leaves(apply(params, stats, x)), jax.tree.leaves(apply(params, stats, spread)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3))
    y = np.asarray(drop.drop_path(x, 0.25, jax.random.key(0)))
    assert np.all(y == y[:, :1, :1]) and set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1.0) < 0.03
    assert drop.drop_path(x, 0.25, None) is x and drop.drop_path(x, 0.0, jax.random.key(0)) is x


def test_channel_dropout_drops_whole_channels():
    y = np.asarray(drop.channel_dropout(jnp.ones((50, 2, 3, 80)), 0.1, jax.random.key(0)))
    assert np.all(y == y[:, :1, :1]) and abs((y == 0).mean() - 0.1) < 0.02
    assert len({tuple(row) for row in y[:, 0, 0] == 0}) > 40  # drawn for each sample


def test_layer_norm_keeps_the_digits_of_large_means():
    norm = norms.layer_norm(64, 1e-6, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(3000.0, 1.0, (4, 64)).astype("f4")
    wide = x.astype("f8")
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, atol=5e-3)


@pytest.mark.parametrize("shape", [(7,), (5, 8), (2, 3, 4, 16), (3, 1)])
def test_layer_norm_has_the_gradients_of_its_formula(shape):
    def formula(x, scale, bias):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-6) * scale + bias

    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, scale, bias = (jnp.asarray(rng.normal(10.0, 2.0, s)) for s in (shape, shape[-1:], shape[-1:]))
        towards = jnp.asarray(rng.normal(size=shape))
        found, pull_back = jax.vjp(lambda *a: norms.normalized(*a, 1e-6, jnp.dtype("f8")), x, scale, bias)
        expected, pull_back_formula = jax.vjp(formula, x, scale, bias)
        np.testing.assert_allclose(found, expected, rtol=1e-11)
        for one, other in zip(pull_back(towards), pull_back_formula(towards), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_layer_norm_adds_up_its_gradients_in_float32():
    x = jax.random.normal(jax.random.key(0), (3000, 4), jnp.bfloat16)
    scale, bias = jnp.ones(4), jnp.zeros(4)
    y, pull_back = jax.vjp(lambda *a: norms.normalized(*a, 1e-6, jnp.dtype("bfloat16")), x, scale, bias)
    found = pull_back(jnp.ones_like(y))
    assert [a.dtype for a in (y, *found)] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    np.testing.assert_array_equal(found[2], 3000)  # bfloat16 has 2992 and 3008


class Scaled(nnx.Module):
    """x times a vector, as LayerScale."""

    def __init__(self, *, dtype):
        self.gamma = nnx.Param(jnp.ones(3))

    def __call__(self, x):
        return x * products.over(self.gamma[...], x)


WEIGHTED = {
    "linear": lambda dtype: layers.linear(3, 5, dtype=dtype, rngs=nnx.Rngs(0)),
    "patches, a row and a column left over": lambda dtype: layers.patch_conv(3, 5, 2, dtype=dtype, rngs=nnx.Rngs(0)),
    "3x3": lambda dtype: layers.ConvNormRelu(3, 5, 3, dtype=dtype, rngs=nnx.Rngs(0)).conv,
    "1x1": lambda dtype: layers.ConvNormRelu(3, 5, 1, dtype=dtype, rngs=nnx.Rngs(0)).conv,
    "depthwise": lambda dtype: DepthwiseConv(3, init=initializers.weight_init, dtype=dtype, rngs=nnx.Rngs(0)),
    "scale": lambda dtype: Scaled(dtype=dtype),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_gradients_of_weights_are_exact_sums_in_bfloat16_too(name, eight_devices):
    """Integers, whose products and sums float32 holds and bfloat16 does not: nothing may be rounded before devices are
    added up, or after."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 4, (64, 9, 7, 3)), jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    layer = {dtype: WEIGHTED[name](jnp.dtype(dtype)) for dtype in ("float32", "bfloat16")}
    graph, params = nnx.split(layer["float32"], nnx.Param)
    params = jax.tree.map(lambda w: jnp.asarray(rng.integers(0, 3, w.shape), jnp.float32), params)
    towards = jnp.asarray(rng.integers(0, 4, jax.eval_shape(layer["float32"], x).shape), jnp.float32)

    @jax.jit
    def exact(params, x):
        return jax.grad(lambda p, x: jnp.sum(towards * nnx.merge(graph, p)(x)), (0, 1))(params, x)

    @jax.jit
    def mixed(params, x):
        graph = nnx.split(layer["bfloat16"], nnx.Param)[0]
        return jax.grad(lambda p, x: jnp.sum(towards * nnx.merge(graph, p)(x.astype(jnp.bfloat16))), (0, 1))(params, x)

    with jax.default_matmul_precision("highest"):
        expected, found = exact(params, x), mixed(params, spread)
    for a, b in zip(*(jax.tree.leaves(tree) for tree in (expected[0], found[0])), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert not np.array_equal(np.asarray(a), np.asarray(a.astype(jnp.bfloat16).astype(jnp.float32)))
        np.testing.assert_array_equal(b, a)
    np.testing.assert_allclose(found[1], expected[1], rtol=2**-8)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (6, 4), (6, 2)])
@pytest.mark.parametrize("shape", [(2, 3, 5), (40,)])
def test_gradients_of_products(shape, inputs, outputs):
    """Against NumPy's, with few rows and with many: the kernel's is float32 where the computation is bfloat16."""
    rng = np.random.default_rng(0)
    x, towards = (rng.normal(size=(*shape, features)) for features in (inputs, outputs))
    kernel = rng.normal(size=(inputs, outputs))
    expected = towards @ kernel.T, x.reshape(-1, inputs).T @ towards.reshape(-1, outputs)
    for dtype, kernels, tolerance in (
        ("float64", "float64", 1e-13),
        ("float32", "float32", 1e-5),
        ("bfloat16", "float32", 5e-2),
    ):
        with jax.enable_x64(dtype == "float64"):
            of = [jnp.asarray(x, dtype), jnp.asarray(kernel, kernels)]
            found = jax.jit(lambda x, kernel, towards: jax.vjp(products.matmul, x, kernel)[1](towards))(
                *of, jnp.asarray(towards, dtype)
            )
            assert [str(y.dtype) for y in found] == [dtype, kernels]
        for y, z in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(y, float), z, rtol=0, atol=tolerance * np.abs(z).max())


@pytest.mark.parametrize(("size", "height", "width"), [(2, 6, 8), (2, 7, 9), (4, 11, 4), (1, 3, 2)])
def test_gradients_of_convolutions_of_patches(size, height, width):
    """Rows and columns beyond the last patch have none."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (2, height, width, 3)), jax.random.normal(keys[1], (size, size, 3, 5))
    padding = ((0, 0), (0, 0))
    y, expected = jax.vjp(lambda x, kernel: products.convolve(x, kernel, size, padding), x, kernel)
    towards = jax.random.normal(keys[2], y.shape)
    found = jax.vjp(lambda x, kernel: products.conv(x, kernel, size, padding), x, kernel)[1](towards)
    for ours, theirs in zip(found, expected(towards), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_gelus_backward_pass_makes_its_erf_anew():
    """XLA would keep the forward pass's, an array as large as the hidden layer."""
    mlp, x = layers.Mlp(8, dtype=jnp.float32, rngs=nnx.Rngs(0)), jnp.ones((2, 56, 56, 8))
    graph, state = nnx.split(mlp)

    def loss(state, x):
        return jnp.square(nnx.merge(graph, state)(x)).sum()

    step = jax.jit(jax.grad(loss, (0, 1))).lower(state, x).compile()
    assert step.as_text().count(" erf(") == 2
    assert step.memory_analysis().temp_size_in_bytes < 4 * 4 * x.nbytes


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "groups"), [(1, 1), (3, 1), (4, 1), (7, 6)])
def test_kernel_gradient_is_that_of_the_convolution(stride, size, groups):
    keys = jax.random.split(jax.random.key(0), 3)
    padding = ((size // 2, size // 2), (0, 1))
    x = jax.random.normal(keys[0], (2, 11, 10, 6))
    kernel = jax.random.normal(keys[1], (size, size, 6 // groups, 6))
    y, pull_back = jax.vjp(lambda kernel: products.convolve(x, kernel, stride, padding, groups), kernel)
    gradient = jax.random.normal(keys[2], y.shape)
    found = products.kernel_gradient(x, gradient, (size, size), stride, padding, groups)
    np.testing.assert_allclose(found, pull_back(gradient)[0], atol=1e-4)


@pytest.mark.parametrize(("size", "padding"), [((3, 3), ((1, 1), (1, 1))), ((5, 2), ((0, 3), (1, 0)))])
def test_kernel_gradient_of_large_planes(size, padding):
    """By taps on this CPU: in float64 that of the convolution, and of bfloat16 in float32."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, 35, 37, 3), "float64").astype("bfloat16").astype("float64")
        kernel = jax.random.normal(keys[1], (*size, 3, 4), "float64")
        y, pull_back = jax.vjp(lambda kernel: products.convolve(x, kernel, 1, padding), kernel)
        assert y.shape[1] * y.shape[2] >= products.LARGE
        towards = jax.random.normal(keys[2], y.shape).astype("bfloat16").astype("float64")
        expected = pull_back(towards)[0]
        for dtype, bound in (("float64", 1e-13), ("float32", 2e-6), ("bfloat16", 2e-6)):
            found = products.kernel_gradient(x.astype(dtype), towards.astype(dtype), size, 1, padding)
            assert found.dtype == ("float64" if dtype == "float64" else "float32")
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-7), ("bfloat16", 2**-8)])
def test_gelu_is_the_exact_one_with_its_derivative(dtype, bound):
    """x Phi(x) and Phi(x) + x phi(x) by SciPy in float64; bounds relative to the largest of |x|, 1 and the value."""
    x = jnp.asarray(np.linspace(-9, 9, 4001), dtype)
    wide = np.asarray(x, "f8")
    value, pull_back = jax.vjp(gelu.gelu, x)
    (slope,) = pull_back(jnp.ones_like(x))
    assert value.dtype == slope.dtype == x.dtype
    expected = wide * norm.cdf(wide), norm.cdf(wide) + wide * norm.pdf(wide)
    for found, right in zip((value, slope), expected, strict=True):
        assert np.abs(np.asarray(found, "f8") - right).max() < bound * 9
    kept = jax.tree.leaves(jax.eval_shape(lambda x: jax.vjp(gelu.gelu, x)[1], x))
    assert [leaf.dtype for leaf in kept if leaf.shape == x.shape] == [x.dtype]
