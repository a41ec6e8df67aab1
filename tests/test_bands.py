"""What may be done to bands: each switch against its definition, off to the bit, and without collectives."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from genseg import bands, csp, draws, inputs, mixing, partition, seen, tasks
from genseg.data.card import Band, DatasetCard
from genseg.dry_run import hlo
from genseg.errors import UserError
from genseg.nets.functional import Net
from genseg.recipes import pretrain
from genseg.recipes.shared import Bands
from genseg.windows import Inference

MEAN, STD = np.array([0.48, 0.45, 0.41], np.float32), np.array([0.23, 0.22, 0.25], np.float32)


def pixels(shape=(6, 9, 8, 3), seed=0) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), shape)


def see(image, seed=1, weights=None, chosen=None, **switches):
    channels = image.shape[-1]
    return np.asarray(
        bands.see(image, jax.random.key(seed), Bands(**switches), mean=MEAN[:channels], std=STD[:channels],
                  weights=weights, chosen=chosen)
    )  # fmt: skip


def test_with_everything_off_one_hot_weights_give_the_channels_own_normalisation():
    image = pixels()
    order = csp.draw_orders(jax.random.key(2), 6, 3, 4, fill="random", per="image")
    weights = jax.nn.one_hot(order, 3, axis=1)
    expected = csp.apply_order((image - MEAN) / STD, order)
    np.testing.assert_allclose(see(image, weights=weights), expected, atol=1e-5)
    np.testing.assert_allclose(see(image), (image - MEAN) / STD, atol=1e-5)


@settings(max_examples=5, deadline=None)
@given(spread=st.floats(0.05, 3), seed=st.integers(0, 99), n=st.sampled_from([1, 4]))
def test_rows_of_mix_are_shares_and_unused_places_are_nothing(spread, seed, n):
    order = np.array(csp.draw_orders(jax.random.key(seed), 5, 3, n, fill="random", per="image"))
    order[0, n // 2 :] = -1
    weights = np.asarray(bands.draw_weights(jax.random.key(seed), jnp.array(order), 3, spread))
    assert weights.shape == (5, 3, n) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), order >= 0, atol=1e-5)


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_mix_has_the_published_distribution_in_every_place(spread):
    order = jnp.zeros((4000, 2), jnp.int32)
    ours = np.asarray(bands.draw_weights(jax.random.key(0), order, 3, spread))
    drawn = np.random.default_rng(0).beta(spread, spread, (8000, 3))
    theirs = drawn / drawn.sum(1, keepdims=True)
    for channel in range(3):
        for place in range(2):
            assert stats.ks_2samp(ours[:, channel, place], theirs[:, channel]).pvalue > 1e-3
    assert abs(np.corrcoef(ours[:, 0, 0], ours[:, 0, 1])[0, 1]) < 0.06  # a row a band


@settings(max_examples=5, deadline=None)
@given(curve=st.floats(0.1, 2), invert=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 99))
def test_curves_keep_or_reverse_the_order_of_values_in_each_band(curve, invert, seed):
    image = pixels(seed=seed)
    out = see(image, seed, curve=curve, invert=invert)
    for i in range(6):
        for c in range(3):
            rank = np.argsort(np.asarray(image)[i, ..., c].ravel())
            rise = np.diff(out[i, ..., c].ravel()[rank])
            up, down = (rise >= -1e-5).all(), (rise <= 1e-5).all()
            assert up or (down and invert > 0)
            assert not (up and invert == 1)


def test_curves_exponents_and_negatives_are_drawn_as_said():
    keys = bands.per_image(jax.random.key(0), 3000)
    gamma, negative = jax.vmap(lambda k: bands.draw_curves(k, Bands(curve=1.0, invert=0.25), 4))(keys)
    assert stats.kstest((np.log2(np.asarray(gamma)).ravel() + 1) / 2, "uniform").pvalue > 1e-3
    assert stats.binomtest(int(negative.sum()), negative.size, 0.25).pvalue > 1e-3
    assert len(np.unique(np.asarray(negative), axis=0)) == 16  # each band for itself


def test_a_negative_is_the_normalised_band_with_its_sign_reversed():
    image = pixels()
    np.testing.assert_allclose(see(image, invert=1.0), -(np.asarray(image) - MEAN) / STD, atol=1e-5)


def test_rectangles_are_dimmed_as_published():
    image = np.asarray(pixels((400, 24, 32, 3)))
    keys = bands.per_image(jax.random.key(3), 400)
    chosen = jnp.ones(3, bool)
    out = np.asarray(jax.vmap(lambda x, k: bands.dim_rectangles(x, k, 0.5, chosen))(image, keys))
    changed = (out != image).any((1, 2, 3))
    assert stats.binomtest(int(changed.sum()), 400, 0.5).pvalue > 1e-3
    assert out.min() >= 0 and out.max() <= 1
    darkest = [(a[b > 0] / b[b > 0]).min() for a, b in zip(out[changed], image[changed], strict=True)]
    assert np.mean(np.array(darkest) < bands.LOCAL_DARK) > 0.9  # unless a band's rectangles lie apart
    touched = (out != image).any(3)[changed].mean((1, 2))
    assert touched.min() >= 0.015 and 0.15 < np.median(touched) < 0.5
    # Bands have gains of their own: their ratios change in nearly every image.
    ratio = out[changed] / np.maximum(image[changed], 1e-6)
    assert np.mean(ratio.std(-1).max((1, 2)) > 0.05) > 0.9


def test_a_single_rectangle_reaches_white_and_leaves_the_rest(monkeypatch):
    monkeypatch.setattr(bands, "LOCAL_ROUNDS", 1)
    image = np.full((300, 20, 20, 2), 0.5, np.float32)
    keys = bands.per_image(jax.random.key(3), 300)
    out = np.asarray(jax.vmap(lambda x, k: bands.dim_rectangles(x, k, 1.0, jnp.array([True, False])))(image, keys))
    assert (out[..., 1] == 0.5).all()
    for one in out[..., 0]:
        rows, cols = np.nonzero(one != 0.5)
        if len(rows):  # one rectangle, of one value
            box = one[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
            assert (box == box[0, 0]).all()
            assert 0.01 <= box.size / 400 <= 0.45
    values = np.array([one[one != 0.5][0] for one in out[..., 0] if (one != 0.5).any()])
    assert stats.kstest(values, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3  # a_max = 2 here


@settings(max_examples=5, deadline=None)
@given(n=st.sampled_from([1, 4]), padding=st.sampled_from([0, 2]), seed=st.integers(0, 99))
def test_dropped_bands_are_zero_and_the_others_make_up_for_them(n, padding, seed):
    image = jnp.ones((40, 2, 2, n + padding))
    used = jnp.broadcast_to(jnp.arange(n + padding) < n, (40, n + padding))
    out = np.asarray(bands.drop(image, jax.random.key(seed), used))
    assert (out == out[:, :1, :1]).all() and (out[..., n:] == 0).all()
    kept = (out[:, 0, 0] > 0).sum(1)
    assert kept.min() >= 1
    np.testing.assert_allclose(out[:, 0, 0].sum(1), n, rtol=1e-6)


def test_each_number_of_bands_is_kept_equally_often_and_named_ones_alone_go():
    image, used = jnp.ones((4000, 1, 1, 4)), jnp.ones((4000, 4), bool)
    kept = np.asarray(bands.drop(image, jax.random.key(0), used))[:, 0, 0] > 0
    assert stats.chisquare(np.bincount(kept.sum(1), minlength=5)[1:]).pvalue > 1e-3
    assert stats.chisquare(kept.sum(0)).pvalue > 1e-3
    named = np.asarray(bands.drop(image, jax.random.key(0), used, np.array([False, False, False, True])))[:, 0, 0]
    assert (named[:, :3] > 0).all() and 0.45 < (named[:, 3] == 0).mean() < 0.55
    np.testing.assert_allclose(named[named[:, 3] == 0][:, 0], 4 / 3, rtol=1e-6)


def everything(image, key):
    order = csp.draw_orders(key, image.shape[0], 3, 5, fill="random", per="image")
    weights = bands.draw_weights(key, order, 3, 0.3)
    switches = Bands(local=0.8, curve=1.0, invert=0.5)
    return bands.drop(bands.see(image, key, switches, mean=MEAN, std=STD, weights=weights), key, order >= 0)


def test_sharded_needs_no_collective_and_equals_the_unsharded(eight_devices):
    mesh, image = partition.make_mesh(), pixels((16, 8, 8, 3))
    sharded = jax.device_put(image, partition.batch_sharding(mesh))
    function = jax.jit(everything, out_shardings=partition.batch_sharding(mesh))
    compiled = function.lower(sharded, jax.random.key(5)).compile()
    assert not hlo.collectives(compiled.as_text()), re.findall("all-.*", compiled.as_text())[:3]
    np.testing.assert_allclose(
        function(sharded, jax.random.key(5)), jax.jit(everything)(image, jax.random.key(5)), atol=1e-5
    )


# In the tasks

RGB = DatasetCard(
    "photos", "classification", tuple(Band(n, 255 * m, 255 * s) for n, m, s in zip("rgb", MEAN, STD, strict=True)),
    ("a", "b"), (), None, (0, 1), {"val": 3}, "none", True,
)  # fmt: skip
SEEN: list[jax.Array] = []


def spy(params, stats, image, *, train, key=None):
    SEEN.append(image)
    shape = image.shape[:1] if params == "classes" else image.shape[:3]
    logits = jnp.zeros((*shape, 2)) + image.mean() * 0
    return (logits if params == "classes" else {"logits": logits}), stats


NET = Net(init=None, apply=spy)


def input_of(card=RGB, counts=(4,), objective="csp", key=8, **changes) -> np.ndarray:
    mix = changes.pop("mix", 0.0)
    task = tasks.Pretrain(
        NET, card, counts, objective, "random", "image", pretrain.Mixing(prob=0.0), pretrain.Erasing(prob=0.0), 0.1,
        ("fixed",), mix=mix, bands=Bands(**changes),
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    batch = {"image": jnp.array(image), "label": jnp.zeros(6, int), "valid": jnp.ones(6, bool)}
    task.loss_sum("classes", None, batch, jax.random.key(key))
    return np.asarray(SEEN.pop())


def test_off_the_network_sees_what_csp_gave_it_to_the_bit():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    csp_key = jax.random.split(jax.random.key(8), 4)[0]
    normal = tasks.normalise(jnp.array(image), RGB)
    np.testing.assert_array_equal(input_of(), csp.shuffle(normal, csp_key, 4))
    np.testing.assert_array_equal(input_of(counts=(3,), objective="rgb"), normal)


@pytest.mark.parametrize("switch", [{"mix": 0.3}, {"local": 1.0}, {"curve": 1.0}, {"invert": 1.0}, {"drop": True}])
def test_each_switch_changes_what_the_network_sees_and_repeats_with_the_key(switch):
    counts = (3, 5)
    given = input_of(counts=counts, **switch)
    assert given.shape == (6, 8, 8, max(counts)) and np.isfinite(given).all()
    assert not np.array_equal(given, input_of(counts=counts))
    np.testing.assert_array_equal(given, input_of(counts=counts, **switch))
    empty = (input_of(counts=counts) == 0).all((1, 2))  # places that an image does not use stay so
    assert empty.any() and (given[np.where(empty)[0], :, :, np.where(empty)[1]] == 0).all()


def segmentation(**options) -> tasks.Segment:
    card = DatasetCard(
        "tiles", "segmentation", tuple(Band(n, 100.0, 50.0) for n in ("red", "nir")), ("a", "b"),
        ((0, 0, 0), (9, 9, 9)), 255, (0, 1), {"val": 3}, "none", True, **options.pop("card", {}),
    )  # fmt: skip
    inference = Inference("whole", (8, 8), (8, 8), "uniform", False, (1.0,), 32)
    return tasks.Segment(NET, card, inference, **options)


DRAWS = (
    (csp, "draw_mixed_orders"),
    (bands, "draw_weights"),
    (bands, "see"),
    (bands, "drop"),
    (mixing, "erase"),
    (mixing, "mix"),
)
EVERYTHING = Bands(local=0.5, curve=1.0, invert=0.5, drop=True)


@pytest.mark.parametrize("task", ["pretrain", "segment"])
def test_no_two_draws_of_a_step_share_a_key(monkeypatch, task):
    """Nor keys made of theirs: split and fold_in of one number give the same key."""
    used = {}

    def watched(name, function):
        def call(*arguments, **named):
            used[name] = next(
                x for x in (*arguments, *named.values())
                if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            )  # fmt: skip
            return function(*arguments, **named)

        return call

    for module, name in DRAWS:
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    net = Net(init=None, apply=watched("network", spy))
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    batch = {"image": jnp.array(image), "label": jnp.zeros(6, int), "valid": jnp.ones(6, bool)}
    if task == "pretrain":
        whole = tasks.Pretrain(
            net, RGB, (3, 5), "csp", "random", "image", pretrain.Mixing(), pretrain.Erasing(), 0.1, ("fixed",), mix=0.3,
            bands=EVERYTHING,
        )  # fmt: skip
        whole.loss_sum("classes", None, batch, jax.random.key(8))
    else:
        whole = dataclasses.replace(segmentation(bands=EVERYTHING), net=net)
        batch |= {"image": batch["image"][..., :2], "label": jnp.zeros((6, 8, 8), int)}
        whole.loss_sum({}, None, batch, jax.random.key(8))
    assert set(used) == ({"network", *(n for _, n in DRAWS)} if task == "pretrain" else {"network", "see", "drop"})
    SEEN.clear()

    def made_of(key) -> set[bytes]:
        found, last = [key], [key]
        for _ in range(2):
            last = [jax.random.fold_in(k, i) for k in last for i in range(8)]
            found += last
        return {np.asarray(jax.random.key_data(k)).tobytes() for k in found}

    made = {name: made_of(key) for name, key in used.items()}
    for a, b in itertools.combinations(made, 2):
        assert not made[a] & made[b], (a, b)


def test_in_fine_tuning_the_named_bands_alone_change():
    image = jnp.array(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 2)), jnp.uint8)
    normal = np.asarray((image.astype("float32") - 100) / 50)
    np.testing.assert_array_equal(segmentation().network_input(image, jax.random.key(0)), normal)
    task = segmentation(bands=Bands(curve=1.0, invert=0.5, local=1.0), named=("nir",))
    given = np.asarray(task.network_input(image, jax.random.key(0)))
    np.testing.assert_allclose(given[..., 0], normal[..., 0], atol=1e-5)
    assert (np.abs(given[..., 1] - normal[..., 1]).max((1, 2)) > 0.01).all()
    gone = np.asarray(segmentation(bands=Bands(drop=True), named=("nir",)).network_input(image, jax.random.key(1)))
    assert (gone[..., 0] != 0).any((1, 2)).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'rgb' keeps the data's channels"):
        input_of(counts=(3,), objective="rgb", mix=0.3)
    with pytest.raises(UserError, match="config.csp.names has 'thermal'"):
        segmentation(named=("thermal",))
    with pytest.raises(UserError, match="float32"):
        segmentation(bands=Bands(curve=1.0), card={"dtype": "float32"})


@pytest.mark.parametrize("arguments", ["channels=4", "channels=(3,5)"])
def test_a_picture_of_what_the_network_is_given(tmp_path, arguments):
    config = tiny.pretrain(tmp_path / "data", arguments)
    config.csp.mix, config.csp.drop = 0.3, True
    path = seen.run(config.lock(), str(tmp_path / "run"))
    with Image.open(path) as sheet:
        side, n = config.augment.size, 4 if arguments == "channels=4" else 5
        assert sheet.size == ((n + 1) * (side + seen.GAP) - seen.GAP, seen.ROWS * (side + seen.GAP) - seen.GAP)
        assert np.asarray(sheet.convert("L")).std() > 20


def test_the_picture_shows_what_the_first_step_of_training_hands_to_the_network(tmp_path, monkeypatch):
    config = tiny.pretrain(tmp_path / "data", "channels=4")
    config.csp.mix, config.csp.drop, config.mixing.prob = 0.3, True, 0.0
    shown = []
    monkeypatch.setattr(
        seen, "picture", lambda image, given, card: shown.append(given) or np.zeros((4, 4, 3), np.uint8)
    )
    seen.run(config.lock(), str(tmp_path / "seen"))
    data = inputs.open_inputs(config)
    handed = []

    def keep(params, stats, image, *, train, key=None):
        handed.append(image)
        return jnp.zeros((len(image), len(data.card.classes))), stats

    task = dataclasses.replace(tasks.build(config, data.card), net=Net(init=None, apply=keep))
    batch = data.first_batch(partition.make_mesh(-1, 1))
    task.loss_sum(None, None, jax.tree.map(jnp.asarray, batch), draws.key_of_step(config.seed, 0))
    np.testing.assert_allclose(shown[0], handed[0][: seen.ROWS], atol=1e-5)


def test_the_picture_of_plain_bands_is_grey_at_their_mean():
    image = np.broadcast_to(np.rint(255 * MEAN).astype(np.uint8), (2, 8, 8, 3))
    sheet = seen.picture(image, np.zeros((2, 8, 8, 4), np.float32), RGB)
    assert sheet.shape == (2 * 8 + seen.GAP, 5 * 8 + 4 * seen.GAP, 3)
    assert np.abs(sheet[:8, 12:20].astype(int) - 127).max() == 0 and np.abs(sheet[:8, :8].astype(int) - 127).max() <= 2
