"""What XLA's compiler is told beside a program: that it knows it, that nothing else changes, and that the user has the last word."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genseg import compiling, evaluate, nets, partition, windows


@pytest.fixture
def mesh():
    return partition.make_mesh()


def test_this_version_of_xla_knows_every_option(mesh, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiling.forward_options(mesh) == compiling._FORWARD_ON_CPU


def test_an_option_that_xla_does_not_know_is_left_out(mesh, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    known = {"xla_cpu_prefer_vector_width": "512"}
    monkeypatch.setattr(compiling, "_FORWARD_ON_CPU", known | {"xla_cpu_of_a_version_to_come": "1"})
    assert compiling.forward_options(mesh) == known


def test_what_xla_flags_sets_is_left_alone(mesh, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert set(compiling.forward_options(mesh)) == {"xla_cpu_experimental_ynn_fusion_type"}


def test_a_program_for_an_accelerator_is_told_nothing():
    tpu = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="tpu")]))
    assert compiling.forward_options(tpu) == {}


def test_maps_and_evaluation_are_told(mesh, monkeypatch):
    monkeypatch.setattr(compiling, "forward_options", lambda mesh: {"xla_cpu_of_a_version_to_come": "1"})
    pixels = np.zeros((mesh.size, 4, 4, 3), np.float32)
    task = types.SimpleNamespace(
        eval_step=lambda params, stats, batch: {"sum": batch["image"].sum()},
        record_counts=lambda params, stats, batch: {"sum": batch["image"].sum()},
    )
    batch = {"image": jnp.zeros(mesh.size), "index": jnp.zeros(mesh.size)}
    with pytest.raises(jax.errors.JaxRuntimeError, match="version_to_come"):
        windows.make_scorer(lambda params, stats, image: image, mesh)({}, {}, pixels)
    for make in (evaluate.make_step, evaluate._make_record_step):
        with pytest.raises(jax.errors.JaxRuntimeError, match="version_to_come"), partition.use_mesh(mesh):
            make(task, mesh)({}, {}, batch)


def test_another_failure_of_the_compiler_is_not_taken_for_an_unknown_option(mesh, monkeypatch):
    def fails(*args, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(compiling, "_FORWARD_ON_CPU", {"xla_cpu_asked_for_once": "1"})
    monkeypatch.setattr(jax, "jit", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        compiling.forward_options(mesh)


@pytest.mark.parametrize("backbone", ["convnext_micro", "swin_tiny"])
def test_logits_are_the_same_to_rounding(backbone, mesh, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    net = nets.classifier(backbone, channels=3, classes=5, drop_path=0.0, dtype="float32")
    params, stats = net.init(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (2, 64, 64, 3))

    def forward(params, stats, image):
        return net.apply(params, stats, image, train=False)[0]

    told = jax.jit(forward, compiler_options=compiling.forward_options(mesh))(params, stats, image)
    alone = jax.jit(forward)(params, stats, image)
    np.testing.assert_allclose(told, alone, atol=1e-6 * np.abs(alone).max())
