"""Weights in and out, without torch: made files in the true formats."""

import json
import pickle
import shutil
import sys
import zipfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genseg import checkpoints, exchange, nets, tree
from genseg.errors import UserError
from genseg.exchange import __main__ as command
from genseg.exchange import files, names, programs
from genseg.nets.convnext import ConvNeXt
from genseg.nets.swin import Swin

TINY = {
    "convnext": partial(ConvNeXt, depths=(1, 1, 2, 1), dims=(8, 16, 32, 64)),
    "swin": partial(Swin, embed=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4)),
}
KINDS = [(family, kind, form) for family in TINY for kind in ("classifier", "segmenter") for form in names.FORMATS]
KINDS = [case for case in KINDS if case[1:] != ("segmenter", "timm")]


@pytest.fixture(autouse=True)
def tiny_backbones(monkeypatch):
    for family, build in TINY.items():
        monkeypatch.setitem(nets.BACKBONES, family, build)


def net_of(family, kind, channels=4, classes=5, **changes):
    options = dict(head_channels=8, aux_channels=6) if kind == "segmenter" else {}
    return getattr(nets, kind)(family, channels=channels, classes=classes, drop_path=0.0, **options, **changes)


def trees(family, kind, fill=None, **options):
    """Parameters and statistics filled with distinct numbers, or with `fill`."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net_of(family, kind, **options).init, jax.random.key(0))
    draw = (
        (lambda leaf: rng.normal(size=leaf.shape).astype("f4"))
        if fill is None
        else lambda leaf: np.full(leaf.shape, fill, "f4")
    )
    return tuple(jax.tree.map(draw, part) for part in shapes)


def same(a, b):
    return all(np.array_equal(x, y) for (_, x), (_, y) in zip(tree.items(a), tree.items(b), strict=True))


@pytest.mark.parametrize(("family", "kind", "form"), KINDS)
def test_round_trip_is_bit_equal(tmp_path, family, kind, form):
    params, stats = trees(family, kind)
    tensors = exchange.export(params, stats, family, form)
    paths = [path for path, _ in tree.items({"params": params, "stats": stats})]
    assert sorted(e.path for e in names.table(form, names.shape_of(params))) == sorted(paths)
    save_file(tensors, tmp_path / "model.safetensors")
    back_params, back_stats, report = exchange.adopt(*trees(family, kind, fill=0.0), str(tmp_path))
    assert same(back_params, params) and same(back_stats, stats)
    assert report.missing == report.unused == report.inflated == ()
    again = exchange.export(back_params, back_stats, family, form)
    assert again.keys() == tensors.keys() and all(np.array_equal(again[k], tensors[k]) for k in again)


def test_merging_orders_of_mmseg():
    """mmsegmentation tools/model_converters/swin2mmseg.py `correct_unfold_{reduction,norm}_order`, as written there."""
    params, stats = trees("swin", "classifier")
    original, mmseg = (exchange.export(params, stats, "swin", form) for form in ("original", "mmseg"))
    weight = original["layers.0.downsample.reduction.weight"]
    out, inputs = weight.shape
    converted = weight.reshape(out, 4, inputs // 4)[:, [0, 2, 1, 3], :].transpose(0, 2, 1).reshape(out, inputs)
    np.testing.assert_array_equal(mmseg["backbone.stages.0.downsample.reduction.weight"], converted)
    norm = original["layers.0.downsample.norm.weight"]
    converted = norm.reshape(4, inputs // 4)[[0, 2, 1, 3], :].T.reshape(inputs)
    np.testing.assert_array_equal(mmseg["backbone.stages.0.downsample.norm.weight"], converted)


def test_small_convnexts_have_pointwise_convolutions_in_timm():
    params, stats = trees("convnext", "classifier")
    key = "stages.0.blocks.0.mlp.fc1.weight"
    assert exchange.export(params, stats, "convnext_atto", "timm")[key].shape == (32, 8, 1, 1)
    assert exchange.export(params, stats, "convnext_tiny", "timm")[key].shape == (32, 8)


@pytest.mark.parametrize("family", TINY)
def test_classifier_fills_the_backbone_of_a_segmenter(tmp_path, family):
    params, stats = trees(family, "classifier", channels=3, classes=9)
    path = str(tmp_path / "m.safetensors")
    save_file(exchange.export(params, stats, family, "timm"), path)
    target = trees(family, "segmenter", fill=7.0)
    got, got_stats, report = exchange.adopt(*target, path, parts=("backbone",), stem="repeat")
    np.testing.assert_allclose(
        got["backbone"]["stem"]["conv"]["kernel"][:, :, 3], params["backbone"]["stem"]["conv"]["kernel"][:, :, 0] * 0.75
    )
    assert same(got["backbone"]["stages"], params["backbone"]["stages"]) and same(got["head"], target[0]["head"])
    assert same(got_stats, target[1])
    assert report.inflated == ("backbone/stem/conv/kernel",) and "head.fc.weight" in report.unused
    leaves = [path for path, _ in tree.items(target[0])] + [f"stats/{path}" for path, _ in tree.items(target[1])]
    assert sorted([*report.matched, *report.inflated, *report.missing]) == sorted(leaves)
    with pytest.raises(UserError, match="does not fit: .* parameters are missing"):
        exchange.adopt(*target, path, stem="repeat")
    with pytest.raises(UserError, match="3 input channels and 4 are wanted"):
        exchange.adopt(*target, path, parts=("backbone",))
    with pytest.raises(UserError, match="no part 'neck'"):
        exchange.adopt(*target, path, parts=("neck",))


@pytest.mark.parametrize("family", TINY)
def test_the_rule_mean_averages_as_many_bands_too(tmp_path, family):
    params, stats = trees(family, "classifier")
    path = str(tmp_path / "m.safetensors")
    save_file(exchange.export(params, stats, family, "timm"), path)
    got, _, report = exchange.adopt(*trees(family, "classifier", fill=0.0), path, stem="mean")
    ours, theirs = (tree_["backbone"]["stem"]["conv"]["kernel"] for tree_ in (got, params))
    np.testing.assert_allclose(ours, theirs.mean(2, keepdims=True).repeat(4, 2), rtol=1e-5, atol=1e-7)
    assert report.inflated == ("backbone/stem/conv/kernel",) and report.missing == report.unused == ()


def test_wrong_checkpoints_are_refused_in_a_sentence(tmp_path, monkeypatch):
    params, stats = trees("convnext", "classifier")
    tensors = exchange.export(params, stats, "convnext", "timm")
    target = trees("convnext", "classifier", fill=0.0)

    def refused(tensors, match):
        save_file(tensors, tmp_path / "m.safetensors")
        with pytest.raises(UserError, match=match) as caught:
            exchange.adopt(*target, str(tmp_path / "m.safetensors"))
        assert "\n" not in str(caught.value)

    refused({k: v for k, v in tensors.items() if k != "stages.2.blocks.1.gamma"}, r"1 of \d+ parameters are missing")
    refused(
        {**tensors, "stages.2.blocks.9.gamma": np.ones(3, "f4")}, r"1 tensors are unknown, first 'stages.2.blocks.9"
    )
    refused(
        {**tensors, "head.fc.weight": np.ones((9, 64), "f4")}, r"'head.fc.weight' gives 'params/head/linear/kernel'"
    )
    refused({"conv1.weight": np.ones((2, 2), "f4")}, "has no tensor named as in timm")
    monkeypatch.setitem(nets.BACKBONES, "deeper", partial(ConvNeXt, depths=(1, 1, 3, 1), dims=(8, 16, 32, 64)))
    save_file(tensors, tmp_path / "m.safetensors")
    deeper = nets.classifier("deeper", channels=4, classes=5, drop_path=0.0).init(jax.random.key(0))
    with pytest.raises(UserError, match="parameters are missing"):
        exchange.adopt(*deeper, str(tmp_path / "m.safetensors"))


def test_files_that_are_not_whole(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": np.ones(1000, "f4")}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        files.read(str(path))
    torn = tmp_path / "m.pth"
    torch_file(torn, {"a": np.ones(1000, "f4")})
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole torch zip file"):
        files.read(str(torn))
    with pytest.raises(UserError, match="no checkpoint file at"):
        files.read(str(tmp_path / "absent.pth"))
    with pytest.raises(UserError, match=r"no model.safetensors or pytorch_model.bin"):
        files.read(str(tmp_path))


def torch_file(path, arrays, wrap=None, transposed=(), extra=None, cut=0, size=None, stride=None):
    """A file as torch.save writes it (zip of data.pkl and raw storages), made opcode by opcode."""
    storages = {}

    def text(value):
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    def number(value):
        return b"\x8a\x08" + int(value).to_bytes(8, "little", signed=True)

    def reference(module, name):
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"

    def several(values):
        return b"(" + b"".join(number(v) for v in values) + b"t"

    def tensor(key, array):
        kind = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage"}[array.dtype.str[1:]]
        stored = array.T if key in transposed else array
        storages[str(len(storages))] = np.ascontiguousarray(stored).tobytes()[: array.nbytes - cut]
        strides = [s // array.itemsize for s in np.ascontiguousarray(stored).strides]
        strides = strides[::-1] if key in transposed else strides
        storage = b"(" + text("storage") + reference("torch", kind) + text(str(len(storages) - 1)) + text("cpu")
        storage += number(array.size) + b"tQ"
        body = b"(" + storage + number(0) + several(size or array.shape) + several(stride or strides) + b"\x89"
        body += reference("collections", "OrderedDict") + b")Rt"
        return reference("torch._utils", "_rebuild_tensor_v2") + body + b"R"

    content = b"}(" + b"".join(text(k) + tensor(k, v) for k, v in arrays.items()) + b"u"
    if wrap:
        more = b"" if extra is None else text("extra") + extra
        content = b"}(" + text(wrap) + content + more + b"u"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)


def test_torch_files(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "module.a": rng.normal(size=(3, 4)).astype("f4"),
        "module.half": rng.normal(size=5).astype("f2"),
        "module.count": np.array([7], "i8"),
    }
    path = tmp_path / "model.pth"
    for wrap in (None, "model", "state_dict"):
        torch_file(path, arrays, wrap=wrap, transposed=("module.a",))
        found = files.read(str(path))
        assert set(found) == {"a", "half", "count"}
        assert found["half"].dtype == np.float32 and found["count"].dtype == np.int64
        for key, value in found.items():
            np.testing.assert_array_equal(value, arrays[f"module.{key}"])


def test_damaged_torch_files_are_refused_in_a_sentence(tmp_path):
    """Cut anywhere, or with bytes changed in the zip or in the pickle: arrays or a UserError, and nothing else."""
    path, rng = tmp_path / "m.pth", np.random.default_rng(0)
    torch_file(path, {"a": np.arange(12, dtype="f4").reshape(3, 4), "b": np.ones(5, "f2")}, wrap="model")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def changed(data):
        data = bytearray(data)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] = rng.integers(256)
        return bytes(data)

    def rewritten(content):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (members | {"archive/data.pkl": content}).items():
                archive.writestr(name, data)
        return path.read_bytes()

    damaged = [whole[:n] for n in range(0, len(whole), 40)] + [changed(whole) for _ in range(300)]
    damaged += [rewritten(changed(members["archive/data.pkl"])) for _ in range(200)]
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            files.read(str(path))
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 400


def test_torch_tensors_stay_inside_their_storage(tmp_path):
    path = tmp_path / "m.pth"
    torch_file(path, {"a": np.ones((2, 3), "f4")}, size=(10**9, 10**9), stride=(0, 0))
    with pytest.raises(UserError, match="reaches outside its storage"):
        files.read(str(path))


def test_torch_files_run_no_code(tmp_path):
    """A pickle that asks for os.system is read, its weights are given, and nothing is run."""
    marker = tmp_path / "ran"

    class Bad:
        def __reduce__(self):
            import os

            return os.system, (f"touch {marker}",)

    call = pickle.dumps(Bad(), 2)
    assert pickle.loads(call) == 0 and marker.exists()  # the pickle is a working one
    marker.unlink()
    path = tmp_path / "bad.pth"
    torch_file(path, {"a": np.ones(3, "f4")}, wrap="model", extra=call[2:-1])
    np.testing.assert_array_equal(files.read(str(path))["a"], np.ones(3, "f4"))
    assert not marker.exists()
    torch_file(path, {"a": np.ones(3, "f4")}, cut=4)
    with pytest.raises(UserError, match="cut short"):
        files.read(str(path))


@pytest.mark.parametrize("family", TINY)
def test_command_line_round_trip(tmp_path, capsys, family):
    params, stats = trees(family, "segmenter", channels=3)
    save_file(exchange.export(params, stats, family, "huggingface"), tmp_path / "in.safetensors")
    arguments = ["--backbone", family, "--task", "segmenter", "--classes", "5"]
    arguments += ["--head-channels", "8", "--aux-channels", "6"]
    workdir, out = str(tmp_path / "work"), tmp_path / "out"
    assert command.main(["import", "--input", str(tmp_path / "in.safetensors"), "--output", workdir, *arguments]) == 0
    assert same(checkpoints.load_weights(workdir, ema=False).params, params)
    assert command.main(["export", "--checkpoint", workdir, "--output", str(out), "--format", "huggingface"]) == 0
    before, after = load_file(tmp_path / "in.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys() and all(np.array_equal(before[k], after[k]) for k in before)
    config = json.loads((out / "config.json").read_text())
    assert config["backbone_config"]["num_channels"] == 3 and len(config["id2label"]) == 5
    capsys.readouterr()
    assert command.main(["import", "--input", str(tmp_path / "in.safetensors"), "--output", workdir, *arguments]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert command.main(["export", "--checkpoint", workdir, "--output", str(out), "--format", "timm"]) == 2
    assert "timm has no UperNet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "size"), [("convnext", None), pytest.param("swin", (32, 64), marks=pytest.mark.slow)]
)
def test_stablehlo_of_any_batch_and_size(family, size):
    net = net_of(family, "segmenter", fusion="resized")
    params, stats = jax.jit(net.init)(jax.random.key(0))
    run = programs.program(net, params, stats, [1.0, 2.0, 3.0, 4.0], [2.0] * 4)
    data = programs.to_stablehlo(run, 4, size)
    loaded = jax.export.deserialize(data)
    for shape in [(1, 32, 64, 4)] if size else [(2, 64, 32, 4)]:
        image = np.random.default_rng(0).normal(size=shape).astype("f4")
        apply = jax.jit(partial(net.apply, train=False))
        expected = apply(params, stats, (image - np.arange(1, 5)) / 2.0)[0]["logits"]
        found = loaded.call(image)
        assert found.shape == (*shape[:3], 5)
        expected = jax.image.resize(expected, found.shape, "bilinear", antialias=False)
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))


def test_an_onnx_file_is_whole_wherever_it_is_copied(tmp_path):
    """With weights of more than a MiB, which jax2onnx writes beside the file."""
    import onnxruntime

    weights = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)
    (tmp_path / "made").mkdir()
    programs.write_onnx(lambda image: jnp.tanh(image @ weights), (1, 4, 5, 600), str(tmp_path / "made" / "net.onnx"))
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["net.onnx"]
    copied = shutil.copy(tmp_path / "made" / "net.onnx", tmp_path / "elsewhere.onnx")
    shutil.rmtree(tmp_path / "made")
    session = onnxruntime.InferenceSession(copied)
    image = np.random.default_rng(1).normal(size=(1, 4, 5, 600)).astype(np.float32)
    (found,) = session.run(["logits"], {"image": image})
    np.testing.assert_allclose(found, np.tanh(image @ weights), atol=1e-4)


def test_onnx_without_jax2onnx_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(
        UserError, match=r"needs jax2onnx .*; run `pip install -e .\[export\]` and `pip install --no-deps"
    ):
        programs.to_onnx(lambda image: image, 3, (32, 32), str(tmp_path / "net.onnx"))


def test_an_export_into_a_workdir_is_refused(tmp_path, capsys):
    """Its config.json would be that of another library, and the run could not go on."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text('{"made": "by genseg"}')
    assert command.main(["export", "--checkpoint", str(tmp_path), "--output", str(tmp_path), "--format", "timm"]) == 2
    assert "is the workdir of a run, whose config.json would be lost" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == '{"made": "by genseg"}'
