"""config.loss: every field reaches its term; class weights from training pixels; the sum over devices and microbatches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from genseg import checkpoints, design, losses, nets
from genseg.data.batches.class_pixels import class_pixels
from genseg.errors import UserError
from genseg.losses import class_weights, terms
from genseg.recipes import segment
from genseg.train import train

FIELDS = {  # every field of every term, at a value that is not its default
    "focal.gamma": 1.0, "hard_pixels.threshold": 0.1, "hard_pixels.kept": 1.0, "border_cross_entropy.distance": 1,
    "border_cross_entropy.factor": 2.0, "dice.smooth": 9.0, "dice.exponent": 1.0, "boundary_f1.width": 5,
    "boundary_f1.tolerance": 3, "active_boundary.share": 0.5, "active_boundary.smoothing": 0.0,
    "active_boundary.reach": 2.0,
}  # fmt: skip


def section(**changes):
    config = segment.config(
        data={"name": "demo_segmentation"}, model={"backbone": "convnext_micro"}, augment={"size": (32, 32)},
        train={"batch_size": 1}, optim={"learning_rate": 1e-3}, eval={"batch_size": 1, "crop": (8, 8), "stride": (8, 8)},
    )  # fmt: skip
    for name, value in changes.items():
        part, _, last = name.rpartition(".")
        (config.loss[part] if part else config.loss)[last] = value
    return config.loss


@functools.cache
def image():
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 3, (2, 4, 4)), np.ones((3, 3), int))
    return jnp.float32(rng.normal(size=(2, 12, 12, 3))), label, rng.random((2, 12, 12)) < 0.95


def value(loss, name) -> float:
    return float(terms.terms(loss.to_dict(), 3)[name](*image()))


def test_every_field_of_every_term_is_listed():
    default = section().to_dict()
    listed = {f"{name}.{field}" for name in terms.FUNCTIONS for field in default[name] if field != "weight"}
    assert listed == set(FIELDS)
    assert set(default["aux"]) == set(terms.FUNCTIONS)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_its_term(field):
    name = field.split(".")[0]
    assert value(section(), name) != pytest.approx(value(section(**{field: FIELDS[field]}), name), rel=1e-4)


def test_smoothing_and_class_weights_reach_cross_entropy_and_focal():
    weights = (1.0, 0.0, 3.0)
    for name in ("cross_entropy", "focal"):
        assert value(section(class_weights=weights), name) != pytest.approx(value(section(), name), rel=1e-4)
    expected = losses.pixel_cross_entropy_sum(*image(), smoothing=0.2, weights=weights)
    assert value(section(class_weights=weights, smoothing=0.2), "cross_entropy") == pytest.approx(float(expected))
    with pytest.raises(UserError, match="2 numbers for 3 classes"):
        terms.terms(section(class_weights=(1.0, 2.0)).to_dict(), 3)


def test_the_default_is_cross_entropy_bit_for_bit_and_terms_add_up():
    parts = terms.terms(section().to_dict(), 3)
    total = terms.weighted(parts, terms.main_weights(section()), "config.loss")
    ours = jax.jit(jax.value_and_grad(total))(*image())
    plain = jax.jit(jax.value_and_grad(losses.pixel_cross_entropy_sum))(*image())
    jax.tree.map(np.testing.assert_array_equal, ours, plain)
    both = terms.weighted(parts, {"dice": 2.0, "lovasz": 0.5}, "config.loss.aux")
    assert float(both(*image())) == pytest.approx(2 * value(section(), "dice") + 0.5 * value(section(), "lovasz"))
    with pytest.raises(UserError, match="every weight of config.loss is 0"):
        terms.weighted(parts, dict.fromkeys(parts, 0.0), "config.loss")


def test_class_weights_by_hand():
    pixels = np.array([[90, 10, 0, 0], [0, 30, 70, 0]])  # 90, 40, 70, 0 of 200; f: 0.9, 0.2, 0.7
    share = pixels.sum(0) / 200
    expected = {
        "inverse": np.array([1 / 90, 1 / 40, 1 / 70, 0]),
        "sqrt_inverse": np.array([90**-0.5, 40**-0.5, 70**-0.5, 0]),
        "median_frequency": np.array([0.7 / 0.9, 0.7 / 0.2, 1.0, 0]),
        "effective_number": np.array([0.1 / (1 - 0.9**90), 0.1 / (1 - 0.9**40), 0.1 / (1 - 0.9**70), 0]),
    }
    expected["enet"] = np.where(share > 0, 1 / np.log(1.02 + share), 0)
    assert set(expected) == set(class_weights.RULES) - {"none"}
    for rule, raw in expected.items():
        ours = class_weights.class_weights(rule, pixels, beta=0.9)
        np.testing.assert_allclose(ours, raw / (raw * share).sum(), rtol=1e-9)
        assert np.dot(ours, share) == pytest.approx(1.0)


def test_a_run_with_many_terms_stores_the_weights_that_its_rule_means(tmp_path, monkeypatch):
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", tiny.narrow)
    config = tiny.segment(tmp_path / "data")
    config.loss.class_rule = "median_frequency"
    for name in ("dice", "boundary_f1", "hard_pixels"):
        config.loss[name].weight = 0.5
    config.loss.aux.dice, config.report.panels = 1.0, 0
    result = train(config, str(tmp_path / "run"))
    assert "boundary_f1_3px" in result["scores"]
    stored = checkpoints.load_weights(str(tmp_path / "run"), ema=False).config
    run = design.setup(config, str(tmp_path / "run"))
    pixels = class_pixels(run.data.train_split)
    labels = [run.data.train_split.decode(i)["label"] for i in range(len(run.data.train_split))]
    np.testing.assert_array_equal(pixels, [np.bincount(x.ravel(), minlength=256)[: pixels.shape[1]] for x in labels])
    expected = class_weights.class_weights("median_frequency", pixels, beta=0.9999)
    np.testing.assert_allclose(stored["loss"]["class_weights"], expected, rtol=1e-5)
    config.loss.class_weights = (1.0,) * len(expected)
    with pytest.raises(UserError, match="give one of the two"):
        design.setup(config, str(tmp_path / "run"))
