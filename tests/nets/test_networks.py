"""The networks through their two functions: trees, shapes, dtypes, randomness, initialisation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from genseg import nets, tree
from genseg.errors import UserError
from genseg.nets import attention, flops
from genseg.nets.convnext import ConvNeXt
from genseg.nets.functional import bind
from genseg.nets.swin import FORMS, Block, Swin, relative_position_index, shift_mask
from genseg.nets.upernet import Segmenter

TINY = {
    "convnext": partial(ConvNeXt, depths=(1, 1, 2, 1), dims=(8, 12, 16, 24)),
    "swin": partial(Swin, embed=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4)),
}


@pytest.fixture(params=TINY)
def tiny(request, monkeypatch):
    """The name of a backbone small enough for a test."""
    monkeypatch.setitem(nets.BACKBONES, "test", TINY[request.param])
    return request.param


def segmenter(**changes):
    options = dict(channels=4, classes=5, drop_path=0.2, head_channels=8, aux_channels=6)
    return nets.segmenter("test", **(options | changes))


def test_tree_shapes_and_dtypes(tiny):
    classify = nets.classifier("test", channels=4, classes=3, drop_path=0.1)
    params, stats = jax.eval_shape(classify.init, jax.random.key(0))
    assert stats == {} and set(params) == {"backbone", "head"} and set(params["head"]) == {"norm", "linear"}
    assert set(params["backbone"]) == {"stem", "stages"} and set(params["backbone"]["stages"]) == set("0123")
    assert set(params["backbone"]["stem"]) == {"conv", "norm"}
    assert params["backbone"]["stem"]["conv"]["kernel"].shape == (4, 4, 4, 8)
    assert "downsample" not in params["backbone"]["stages"]["0"] and "downsample" in params["backbone"]["stages"]["1"]
    seg_params, seg_stats = jax.eval_shape(segmenter().init, jax.random.key(0))
    assert set(seg_params) == {"backbone", "norms", "head", "aux_head"} and set(seg_params["norms"]) == set("0123")
    assert dict(tree.items(seg_params["backbone"])) == dict(tree.items(params["backbone"]))
    leaves = {"kernel", "bias", "scale", "gamma", "relative_position_bias_table"}
    for path, leaf in [*tree.items(seg_params), *tree.items(params)]:
        assert path.split("/")[-1] in leaves and leaf.dtype == jnp.float32
    assert {path.split("/")[-1] for path, _ in tree.items(seg_stats)} == {"mean", "var"}


def test_segmenter_trains_inside_jit(tiny):
    net = segmenter()
    params, stats = jax.jit(net.init)(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (2, 64, 32, 4))

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params, stats, image, key):  # nothing closed over: XLA would spend seconds on folding constants
        out, new = net.apply(params, stats, image, train=True, key=key)
        return jnp.square(out["logits"] - 1).mean() + jnp.square(out["aux"] - 1).mean(), (out, new)

    (first, (out, new)), gradients = loss(params, stats, image, jax.random.key(2))
    assert out["logits"].shape == (2, 16, 8, 5) and out["aux"].shape == (2, 4, 2, 5)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(out))
    assert jax.tree.structure(gradients) == jax.tree.structure(params)
    dead = [path for path, leaf in tree.items(gradients) if not np.any(np.asarray(leaf))]
    assert dead == [], "every parameter takes part in the loss"
    assert all(np.any(a != b) for (_, a), (_, b) in zip(tree.items(new), tree.items(stats), strict=True))
    assert loss(params, stats, image, jax.random.key(2))[0][0] == first
    assert loss(params, stats, image, jax.random.key(3))[0][0] != first
    for path, leaf in tree.items(gradients):
        assert np.isfinite(leaf).all(), path


def test_remat_changes_nothing(tiny):
    image, results = jax.random.normal(jax.random.key(1), (1, 32, 32, 4)), []
    for remat in (False, True):
        net = nets.classifier("test", channels=4, classes=3, drop_path=0.3, remat=remat)
        params, stats = jax.jit(net.init)(jax.random.key(0))

        def loss(params, image, net=net, stats=stats):
            return jnp.sum(net.apply(params, stats, image, train=True, key=jax.random.key(5))[0] ** 2)

        results.append(jax.jit(jax.grad(loss))(params, image))
    for (path, a), (_, b) in zip(*map(tree.items, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 + 1e-5 * np.abs(b).max(), err_msg=path)


def test_evaluation_is_fixed_and_leaves_statistics(tiny):
    net = segmenter()
    params, stats = jax.jit(net.init)(jax.random.key(0))
    apply = jax.jit(partial(net.apply, train=False))
    image = jax.random.normal(jax.random.key(1), (2, 36, 40, 4))
    out, new = apply(params, stats, image)
    assert set(out) == {"logits"} and out["logits"].shape == (2, 9, 10, 5)
    swapped, _ = apply(params, stats, image.at[0].set(0.0))
    np.testing.assert_allclose(swapped["logits"][1], out["logits"][1], atol=1e-6)  # no sample sees another
    for h, w in ((32, 96), (100, 68)):
        sized = jax.eval_shape(partial(net.apply, train=False), params, stats, jnp.ones((1, h, w, 4)))[0]
        assert sized["logits"].shape == (1, h // 4, w // 4, 5)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), stats, new))


def test_training_with_random_layers_needs_a_key(tiny):
    net = segmenter()
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    with pytest.raises(ValueError, match="needs a random key"):
        jax.eval_shape(partial(net.apply, train=True), params, stats, jnp.ones((1, 32, 32, 4)))


def test_no_auxiliary_head(tiny):
    net = segmenter(aux=False, dropout=0.0, drop_path=0.0)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    out, _ = jax.eval_shape(partial(net.apply, train=True), params, stats, jnp.ones((1, 32, 32, 4)))
    assert "aux_head" not in params and set(out) == {"logits"}


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(tiny):
    image, outs = jax.random.normal(jax.random.key(1), (1, 32, 32, 4)), {}
    for dtype in ("float32", "bfloat16"):
        net = nets.classifier("test", channels=4, classes=5, drop_path=0.0, dtype=dtype)
        params, stats = jax.jit(net.init)(jax.random.key(0))
        params = jax.tree.map(lambda a: 5 * a + 0.01, params)  # layer scales that are felt
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        outs[dtype] = jax.jit(partial(net.apply, train=False))(params, stats, image)[0]
        text = str(jax.make_jaxpr(partial(net.apply, train=False))(params, stats, image))
        assert ("bf16" in text) == (dtype == "bfloat16")
    a, b = outs["float32"], outs["bfloat16"]
    assert b.dtype == jnp.float32 and not np.array_equal(a, b)
    assert float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())
    shapes = jax.eval_shape(segmenter(dtype="bfloat16").init, jax.random.key(0))
    out = jax.eval_shape(partial(segmenter(dtype="bfloat16").apply, train=False), *shapes, image)[0]
    assert out["logits"].dtype == jnp.float32 and {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def equations(net, train, image):
    trees = jax.eval_shape(net.init, jax.random.key(0))
    traced = jax.make_jaxpr(partial(net.apply, train=train, key=jax.random.key(0)))(*trees, image)
    return list(flops.equations(traced.jaxpr))


def test_gradients_of_parameters_never_are_bfloat16(tiny):
    """Or devices would add up rounded parts of them. What has the batch's rows has a size that the prime divides;
    parameters have no such size, and none of theirs is widened: parameters are float32 to begin with."""
    prime, net = 11, segmenter(dtype="bfloat16")
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    assert all(leaf.size % prime for leaf in jax.tree.leaves(params))

    def loss(params, stats, image, key):
        out, _ = net.apply(params, stats, image, train=True, key=key)
        return sum(jnp.sum(x) for x in out.values())

    image = jax.ShapeDtypeStruct((prime, 64, 64, 4), jnp.float32)
    program = jax.make_jaxpr(jax.grad(loss))(params, stats, image, jax.random.key(0))
    casts = [eqn for eqn in flops.equations(program.jaxpr) if eqn.primitive.name == "convert_element_type"]
    widened = [eqn.invars[0].aval for eqn in casts if eqn.invars[0].aval.dtype == jnp.bfloat16]
    assert len(widened) > 20 and [x for x in widened if x.size % prime] == []


def test_norms_softmax_and_logits_are_float32_and_products_bfloat16(tiny):
    image = jnp.ones((2, 32, 64, 4))
    classify = nets.classifier("test", channels=4, classes=5, drop_path=0.2, dtype="bfloat16")
    for net, heads in ((classify, 1), (segmenter(dtype="bfloat16"), 2)):
        traced = equations(net, True, image)
        statistics = [e for e in traced if e.primitive.name in ("rsqrt", "exp", "reduce_sum", "reduce_max")]
        assert len(statistics) > 10 and {e.invars[0].aval.dtype for e in statistics} == {jnp.dtype("float32")}
        assert (tiny == "swin") == any(e.primitive.name == "exp" for e in statistics)
        products = [e for e in traced if e.primitive.name in ("dot_general", "conv_general_dilated")]
        wide = [e for e in products if {v.aval.dtype for v in e.invars} == {jnp.dtype("float32")}]
        assert [e.outvars[0].aval.shape[-1] for e in wide] == [5] * heads, "the logits alone"
        for e in products:
            assert e in wide or {v.aval.dtype for v in e.invars} == {jnp.dtype("bfloat16")}, e


def test_remat_is_around_each_block(tiny):
    image = jnp.ones((1, 32, 32, 4))
    for remat in (False, True):
        traced = equations(nets.classifier("test", channels=4, classes=3, drop_path=0.0, remat=remat), True, image)
        blocks = sum(TINY[tiny].keywords["depths"])
        assert sum("remat" in e.primitive.name or "checkpoint" in e.primitive.name for e in traced) == remat * blocks


def test_drop_path_rises_linearly_over_all_blocks(tiny):
    module = nnx.eval_shape(
        lambda: TINY[tiny](channels=3, drop_path=0.4, dtype=jnp.float32, remat=False, rngs=nnx.Rngs(0))
    )
    rates = [block.drop_path for stage in module.stages for block in stage.blocks]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.3, 0.4])


def test_initialisation_as_published():
    """Moments: 0.02 (backbones), kaiming fan-out (ConvModule), 0.01 (segmentation logits), zeros, ones, 1e-6.

    Swin's patch embedding keeps torch's default (microsoft/Swin-Transformer `_init_weights` knows linear layers and
    norms alone): weights and bias uniform within 1 / sqrt(fan-in).
    """
    wide = {
        "convnext": partial(ConvNeXt, depths=(1, 1, 1, 1), dims=(32, 48, 64, 96)),
        "swin": partial(Swin, embed=32, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8)),
    }
    for name, build in wide.items():

        def whole(rngs, build=build):
            backbone = build(channels=3, drop_path=0.0, dtype=jnp.float32, remat=False, rngs=rngs)
            return Segmenter(
                backbone, 20, head_channels=64, aux_channels=32, aux=True, dropout=0.1, dtype=jnp.float32, rngs=rngs
            )

        params, stats = jax.jit(bind(whole).init)(jax.random.key(0))
        for path, leaf in tree.items(params):
            leaf, kind = np.asarray(leaf), path.split("/")[-1]
            if name == "swin" and "stem/conv" in path:
                limit = (3 * 4 * 4) ** -0.5
                assert 0.9 * limit < np.abs(leaf).max() <= limit, path
                assert leaf.std() == pytest.approx(limit / 3**0.5, rel=2 / leaf.size**0.5 + 0.01), path
            elif kind == "bias":
                assert not leaf.any(), path
            elif kind == "scale":
                assert (leaf == 1).all(), path
            elif kind == "gamma":
                np.testing.assert_array_equal(leaf, np.float32(1e-6))
            else:
                if "logits" in path:
                    std = 0.01
                elif "head" in path:
                    std = (2 / (leaf.shape[0] * leaf.shape[1] * leaf.shape[3])) ** 0.5
                else:
                    std = 0.02
                assert leaf.std() == pytest.approx(std, rel=5 / leaf.size**0.5 + 0.01), path
                assert abs(leaf.mean()) < 5 * std / leaf.size**0.5, path
        for path, leaf in tree.items(stats):
            assert (np.asarray(leaf) == (path.endswith("var"))).all()


def test_images_below_convnexts_stride_are_refused():
    net = nets.classifier("convnext_micro", channels=3, classes=2, drop_path=0.0)
    params, _ = jax.eval_shape(net.init, jax.random.key(0))
    with pytest.raises(UserError, match="an image of 31 x 64 pixels leaves nothing"):
        jax.eval_shape(lambda p: net.apply(p, {}, jnp.zeros((1, 31, 64, 3)), train=False), params)


def test_head_init_scale():
    scaled, plain = (
        nets.classifier("convnext_micro", channels=3, classes=200, drop_path=0.0, head_init_scale=scale)
        for scale in (0.001, 1.0)
    )
    a, b = (
        jax.jit(lambda k, n=n: n.init(k)[0]["head"]["linear"]["kernel"])(jax.random.key(0)) for n in (scaled, plain)
    )
    np.testing.assert_allclose(a, 0.001 * b, rtol=1e-5)


def test_relative_positions_by_loops():
    index = relative_position_index(3, 5)
    for a in range(15):
        for b in range(15):
            dy, dx = a // 5 - b // 5, a % 5 - b % 5
            assert index[a, b] == (dy + 6) * 13 + dx + 6


def test_shift_mask_lets_only_neighbours_meet():
    """After rolling by 3, two pixels of a window may attend to each other only if the roll did not wrap between them."""
    height, width = 14, 21
    mask = shift_mask((height, width), (7, 7), (3, 3))
    rows, columns = np.mgrid[:height, :width]
    wrapped = np.stack([rows + 3 >= height, columns + 3 >= width], -1)
    flat = wrapped.reshape(2, 7, 3, 7, 2).transpose(0, 2, 1, 3, 4).reshape(6, 49, 2)
    same = (flat[:, :, None] == flat[:, None]).all(-1)
    np.testing.assert_array_equal(mask == 0.0, same)


def test_swin_shift_reaches_across_windows():
    """One pixel's change must pass the window border in a shifted block and not in a plain one."""
    for shifted in (False, True):
        block = Block(8, 2, 0.0, shifted=shifted, always_partition=False, dtype=jnp.float32, rngs=nnx.Rngs(0))
        x = jax.random.normal(jax.random.key(0), (1, 14, 14, 8))
        moved = block(x.at[0, 6, 6, 0].add(3.0), None) - block(x, None)
        touched = np.abs(np.asarray(moved)).max((0, 3)) > 0
        expected = np.zeros((14, 14), bool)
        window = slice(3, 10) if shifted else slice(0, 7)
        expected[window, window] = True
        np.testing.assert_array_equal(touched, expected)


@pytest.mark.parametrize(
    ("size", "always_partition", "shifted"),
    [
        ((14, 14), False, True),
        ((9, 16), False, False),
        ((5, 16), False, True),
        ((5, 11), True, True),
        ((3, 4), False, True),
    ],
)
def test_swin_attention_by_columns_is_that_by_rows(size, always_partition, shifted):
    """Values and all gradients of a block, on weights far from their start; in float64, where the rows' scores alone are
    rounded, to float32."""
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (2, *size, 12), jnp.float64)
        toward = jax.random.normal(jax.random.key(1), x.shape, x.dtype)
        results = []
        for form in FORMS:
            options = dict(shifted=shifted, always_partition=always_partition, attention=form, dtype=jnp.float64)
            block = nnx.eval_shape(lambda options=options: Block(12, 3, 0.0, rngs=nnx.Rngs(0), **options))
            graph, params = nnx.split(block)
            leaves, structure = jax.tree.flatten(params)
            rng = np.random.default_rng(2)
            params = jax.tree.unflatten(structure, [jnp.asarray(rng.normal(size=leaf.shape) / 2) for leaf in leaves])

            @jax.jit
            def run(params, x, toward, graph=graph):
                y, pull_back = jax.vjp(lambda p, x: nnx.merge(graph, p)(x, None), params, x)
                return jax.tree.leaves((y, pull_back(toward)))

            results.append(run(params, x, toward))
    for rows, columns in zip(*results, strict=True):
        assert np.abs(rows).max() > 1e-3
        np.testing.assert_allclose(columns, rows, rtol=0, atol=2e-6 * np.abs(rows).max())


def test_attention_by_columns_of_bfloat16_is_that_of_float32():
    """To bfloat16's rounding, and where no power of a score of one size has room beside that of another."""
    q, k, v = (jax.random.normal(jax.random.key(i), (2, 3, 2, 8, 49)).astype(jnp.bfloat16) for i in range(3))
    bias = jax.random.normal(jax.random.key(3), (2, 49, 49)) + jnp.asarray([0.0, 1000.0])[:, None, None]
    mask = jnp.asarray(shift_mask((7, 21), (7, 7), (0, 3)))

    @jax.jit
    def run(*arguments):
        y, pull_back = jax.vjp(lambda *a: attention.columns(*a, mask), *arguments, bias)
        return [x.astype(jnp.float32) for x in (y, *pull_back(jnp.sin(3 * jnp.arange(49)).astype(y.dtype) + 0 * y))]

    narrow, wide = run(q, k, v), run(*(x.astype(jnp.float32) for x in (q, k, v)))
    for a, b in zip(narrow, wide, strict=True):
        assert np.isfinite(a).all() and np.linalg.norm(a - b) < 0.02 * np.linalg.norm(b)


def test_attention_is_by_columns_on_tpu_and_where_it_is_asked_for(tiny):
    image = jnp.ones((1, 32, 32, 4))

    def products(net, **changes):
        return sum(e.primitive.name == "dot_general" for e in equations(net(**changes), True, image))

    classifier = partial(nets.classifier, "test", channels=4, classes=3, drop_path=0.0)
    for net in (classifier, segmenter):  # by columns each of the five blocks has three products for q, k and v
        assert products(net, attention="columns") - products(net, attention="rows") == 10 * (tiny == "swin")
    assert [nets.attention_form("auto", platform) for platform in ("tpu", "gpu", "cpu", "")] == ["columns"] + 3 * [
        "rows"
    ]
    assert [nets.attention_form(form, "tpu") for form in FORMS] == list(FORMS)
