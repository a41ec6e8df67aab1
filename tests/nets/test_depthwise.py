"""Depthwise convolution: every form against the grouped convolution and against loops, values and gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genseg.nets import depthwise, depthwise_cpu

FORMS = {
    "toeplitz": depthwise_cpu.toeplitz_conv,
    "chosen": depthwise.depthwise_conv,  # shifts, for batches as small as here
}


def drawn(shape, kernel, dtype="float32"):
    """x, kernel and a weight for each result."""
    rng = np.random.default_rng(0)
    make = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    return make(*shape), make(*kernel, 1, shape[3]), make(*shape)


def value_and_gradients(form, x, kernel, weight):
    y, pull_back = jax.vjp(form, x, kernel)
    return y, *pull_back(weight.astype(y.dtype))


def assert_close(found, expected, relative):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        bound = relative * float(jnp.abs(b).max()) + 1e-30
        np.testing.assert_allclose(np.asarray(a, "f8"), np.asarray(b, "f8"), atol=bound, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (1, 3, 2, 2), (3, 1, 1, 4), (2, 11, 12, 4)], ids=str)
def test_forms_equal_the_convolution(form, shape):
    drawing = drawn(shape, (7, 7))
    assert_close(
        value_and_gradients(FORMS[form], *drawing), value_and_gradients(depthwise.grouped_conv, *drawing), 1e-5
    )


@settings(max_examples=10, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 3)),
    st.tuples(st.sampled_from([1, 3, 7]), st.sampled_from([1, 5, 7])),
)
def test_kernel_gradient_of_shifts(shape, size):
    x, kernel, weight = drawn(shape, size)
    expected = value_and_gradients(depthwise.grouped_conv, x, kernel, weight)[2]
    assert_close([depthwise_cpu.shifted_kernel_gradient(x, weight, size)], [expected], 1e-5)


@pytest.mark.parametrize("width", [63, 64, 65, 130])
def test_kernel_gradient_of_wide_planes_that_are_split(width):
    x, kernel, weight = drawn((1, 3, width, 2), (7, 7))
    expected = value_and_gradients(depthwise.grouped_conv, x, kernel, weight)[2]
    assert_close([depthwise_cpu.shifted_kernel_gradient(x, weight, (7, 7))], [expected], 1e-5)


@pytest.mark.parametrize("shape", [(1, 4, 5, 2), (20, 4, 5, 2)], ids=["shifts", "toeplitz"])
@pytest.mark.parametrize(("dtype", "relative"), [("float64", 1e-13), ("float32", 1e-6), ("bfloat16", 2**-8)])
def test_chosen_form_against_loops_in_every_dtype(shape, dtype, relative):
    with jax.enable_x64(dtype == "float64"):
        x, kernel, weight = drawn(shape, (7, 7), dtype)
        kernel = kernel.astype("float64" if dtype == "float64" else "float32")
        found = value_and_gradients(depthwise.depthwise_conv, x, kernel, weight)
        assert [a.dtype for a in found] == [x.dtype, x.dtype, kernel.dtype]
        wide = [np.asarray(a, "f8") for a in (x, kernel, weight)]
        expected = [np.zeros(a.shape) for a in found]
        for i, j, u, v in itertools.product(range(4), range(5), range(7), range(7)):
            y, z = i + u - 3, j + v - 3
            if 0 <= y < 4 and 0 <= z < 5:
                expected[0][:, i, j] += wide[0][:, y, z] * wide[1][u, v, 0]
                expected[1][:, y, z] += wide[2][:, i, j] * wide[1][u, v, 0]
                expected[2][u, v, 0] += (wide[0][:, y, z] * wide[2][:, i, j]).sum(0)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(a, "f8"), b, atol=relative * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("side", [2, 24])
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
def test_form_follows_the_platform_lowered_for(side, gradient):
    """A program for a TPU or a GPU has the convolution and nothing else, on whatever host it is compiled."""

    def value(x, kernel):
        return jnp.sum(jnp.sin(depthwise.depthwise_conv(x, kernel)))

    function = jax.grad(value, (0, 1)) if gradient else value
    arguments = jnp.ones((2, side, side, 3)), jnp.ones((7, 7, 1, 3))
    text = {
        platform: jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    for platform in ("tpu", "cuda"):
        assert "stablehlo.convolution" in text[platform]
        assert "stablehlo.bitcast_convert" not in text[platform] and "stablehlo.dot_general" not in text[platform]
    assert ("stablehlo.dot_general" if side == 2 and gradient else "stablehlo.bitcast_convert") in text["cpu"]
    assert " convolution(" not in jax.jit(function).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("shape", [(8, 9, 7, 3), (64, 3, 3, 3)], ids=["shifts", "toeplitz"])
def test_devices_share_the_batch(shape, eight_devices):
    """No device sees another's images: what they add up is the kernel's gradient alone."""
    drawing = drawn(shape, (7, 7))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread, whole = jax.NamedSharding(mesh, jax.P("data")), jax.NamedSharding(mesh, jax.P())
    function = jax.jit(
        lambda *a: value_and_gradients(depthwise.depthwise_conv, *a),
        in_shardings=(spread, whole, spread),
        out_shardings=(spread, spread, whole),
    )
    compiled = function.lower(*drawing).compile()
    assert_close(compiled(*drawing), value_and_gradients(depthwise.grouped_conv, *drawing), 1e-5)
    assert "all-gather" not in compiled.as_text() and "all-to-all" not in compiled.as_text()
