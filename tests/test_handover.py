"""What other people's tools open: Deepness's ONNX, the STAC item, the Hugging Face folder, names with wrappers' prefixes."""

import dataclasses
import datetime
import json
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
import yaml
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from genseg import checkpoints, exchange, nets, predict, state, tasks, windows
from genseg.config import to_json
from genseg.data.card import Band, DatasetCard
from genseg.exchange import __main__ as command
from genseg.exchange import channels, model_card, programs, stac
from genseg.nets.convnext import ConvNeXt
from tests.data import made

CARD = DatasetCard(
    name="Fields: 2026", task="segmentation", ignore_label=255, scored=(0, 1, 2), splits={"train": 3}, synthetic=True,
    bands=tuple(Band(name, 60.0 + 5 * i, 25.0 + i, 0, 200) for i, name in enumerate(("red", "green", "blue", "nir"))),
    classes=("bare ground", "crop", "water"), palette=((170, 120, 60), (0, 150, 40), (0, 80, 220)), protocol="all tiles",
)  # fmt: skip


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A checkpoint of random weights with the demo's config, and the result that its run would leave."""
    patch = pytest.MonkeyPatch()
    patch.setitem(nets.BACKBONES, "convnext_micro", partial(ConvNeXt, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)))
    root = tmp_path_factory.mktemp("handover")
    config = ConfigDict(tiny.segment(root / "data"))
    config.model.head_channels, config.model.aux_channels, config.augment.size = 16, 8, (32, 32)
    net = nets.segmenter(
        "convnext_micro", channels=4, classes=3, drop_path=0.0, head_channels=16, aux_channels=8, aux=True
    )
    params, stats = jax.jit(net.init)(jax.random.key(3))
    meta = {"config": to_json(config), "card": CARD.to_json(), "versions": checkpoints.versions()}
    saver = checkpoints.Checkpoints(str(root / "run"), keep=1)
    saver.save(state.TrainState(np.int32(7), params, stats, {}, {}), batches=0, meta=meta, score=None)
    saver.close()
    result = {"step": 7, "split": "val", "protocol": "all tiles", "inference": "whole images"}
    (root / "run" / "result.json").write_text(json.dumps(result | {"scores": {"miou": 0.4321, "loss": 1.0}}))
    yield root / "run"
    patch.undo()


class Plugin:
    """What Deepness does with a model file: how it reads the metadata, prepares a tile, and puts tiles together."""

    def __init__(self, path):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path))
        (given,), (out,) = self.session.get_inputs(), self.session.get_outputs()
        assert len(out.shape) == 4 and out.shape[2] == out.shape[3] and given.shape[-2] == given.shape[-1]
        self.name, self.channels, self.classes = given.name, given.shape[-3], out.shape[-3]
        meta = self.session.get_modelmeta().custom_metadata_map
        self.meta = {key: json.loads(value) for key, value in meta.items()}

    def names(self):
        ordered = sorted(self.meta["class_names"].items(), key=lambda pair: int(pair[0]))
        assert [int(key) for key, _ in ordered] == list(range(self.classes))
        return [name for _, name in ordered]

    def tile(self, pixels):
        scaled = np.float32(pixels[None, :, :, : self.channels] * 1.0 / 255.0)
        scaled = (scaled - np.float32(self.meta["standardization_mean"])) / np.float32(self.meta["standardization_std"])
        (result,) = self.session.run(None, {self.name: np.transpose(scaled, (0, 3, 1, 2)).astype(np.float32)})
        probabilities = result[0].copy()
        result[result < self.meta["seg_thresh"]] = 0
        return np.argmax(result, axis=1)[0], probabilities

    def map(self, image):
        side, out = self.meta["tile_size"], np.zeros(image.shape[:2], int)
        for row in range(0, image.shape[0], side):
            for column in range(0, image.shape[1], side):
                out[row : row + side, column : column + side] = self.tile(
                    image[row : row + side, column : column + side]
                )[0]
        return out


@pytest.mark.parametrize("dtype", ["uint8", pytest.param("uint16", marks=pytest.mark.slow)])
def test_deepness_draws_what_predict_draws(workdir, tmp_path, dtype):
    pytest.importorskip("jax2onnx")
    path = tmp_path / "fields.onnx"
    arguments = ["export", "--checkpoint", str(workdir), "--for", "deepness", "--output", str(path)]
    assert command.main([*arguments, "--size", "32", "32", "--resolution", "60", "--overlap", "0"]) == 0
    plugin = Plugin(path)
    assert plugin.meta["model_type"] == "Segmentor" and plugin.names() == list(CARD.classes)
    assert plugin.meta["tile_size"] == plugin.meta["tiles_size"] == 32 and plugin.meta["resolution"] == 60
    assert plugin.meta["tiles_overlap"] == 0
    image = made.scene(4, 4, dtype, (64, 96), 7)[0]
    weights = checkpoints.load_weights(str(workdir), ema=False)
    if dtype != "uint8":
        weights = dataclasses.replace(weights, card=dataclasses.replace(CARD, dtype=dtype))
    inference = windows.Inference("slide", (32, 32), (32, 32), "uniform", False, (1.0,), 32)
    predictor = predict.Predictor(weights, inference, 8)
    made.georeferenced(tmp_path / "scene.tif", image, 7e5, 4e6, 0.6)
    from genseg.data.files.rasters import Raster

    expected = np.concatenate(list(predictor.rows(Raster([tmp_path / "scene.tif"]))))
    found = plugin.map(image)
    _, probabilities = plugin.tile(image[:32, :32])
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1


def test_the_stac_item_is_one_of_the_mlm_extension(workdir, tmp_path):
    pystac, stac_model = pytest.importorskip("pystac"), pytest.importorskip("stac_model.schema")
    arguments = ["export", "--checkpoint", str(workdir), "--format", "huggingface", "--output", str(tmp_path / "hub")]
    assert command.main(arguments) == 0
    content = json.loads((tmp_path / "hub" / "stac_item.json").read_text())
    assert "https://stac-extensions.github.io/mlm/v1.5.0/schema.json" in content["stac_extensions"]
    item = pystac.Item.from_dict(content)
    properties = stac_model.MLModelProperties.model_validate(item.properties)
    assert properties.input[0].input.shape == [-1, 4, -1, -1]
    assert [band["name"] for band in item.properties["bands"]] == ["red", "green", "blue", "nir"]
    scaling = item.properties["mlm:input"][0]["value_scaling"]
    assert [(s["mean"], s["stddev"]) for s in scaling] == [(b.mean, b.std) for b in CARD.bands]
    classes = item.properties["mlm:output"][0]["classification:classes"]
    assert tuple(classes[0][k] for k in ("value", "name", "description")) == (0, "bare-ground", "bare ground")
    assert classes[2]["color_hint"] == "0050DC"
    asset = item.assets["model"]
    assert "mlm:model" in asset.roles and (tmp_path / "hub" / asset.href).is_file()
    assert datetime.datetime.now(datetime.UTC) - item.datetime < datetime.timedelta(minutes=5)


@pytest.mark.parametrize(
    ("options", "architecture"),
    [
        ({"project": 3, "head_channels": 8}, "UperNet, tiny"),
        ({"head": "linear"}, "linear head, tiny"),
        ({"project": 3, "head": "linear"}, "linear head, tiny"),
    ],
)
def test_the_stac_item_knows_a_projection_and_a_linear_head(monkeypatch, options, architecture):
    monkeypatch.setitem(nets.BACKBONES, "tiny", tiny.narrow)
    net = nets.segmenter("tiny", channels=4, classes=3, drop_path=0.0, aux=False, **options)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    config = {"model": {"backbone": "tiny"}, "init": {"checkpoint": ""}}
    weights = checkpoints.Weights(params, stats, config, CARD, "run/checkpoints/7", ema=False)
    artifact = stac.Artifact("net.onnx", "onnx", "ONNX", "onnx.save", "height", (32, 64), 1, None, "logits")
    properties = stac.item(weights, artifact, datetime.datetime.now(datetime.UTC))["properties"]
    assert properties["mlm:architecture"] == architecture
    assert [band["name"] for band in properties["bands"]] == ["red", "green", "blue", "nir"]
    assert properties["mlm:input"][0]["input"]["shape"] == [1, 32, 64, 4]


@pytest.mark.parametrize(
    ("count", "names"), [(5, ["red", "green", "blue", "red (2)", "green (2)"]), (2, ["red", "green"])]
)
def test_a_csp_classifier_is_described_by_the_channels_that_it_takes(tmp_path, monkeypatch, count, names):
    """Card, preprocessor and STAC item: who follows them gets the logits of genseg's own evaluation."""
    monkeypatch.setitem(nets.BACKBONES, "convnext_micro", partial(ConvNeXt, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)))
    data = dataclasses.replace(CARD, task="classification", bands=CARD.bands[:3], palette=(), ignore_label=None)
    config = ConfigDict(tiny.pretrain(tmp_path / "data", f"objective=csp,channels={count}"))
    task = tasks.build(config, data)
    params, stats = jax.jit(task.net.init)(jax.random.key(3))
    meta = {"config": to_json(config), "card": data.to_json(), "versions": checkpoints.versions()}
    saver = checkpoints.Checkpoints(str(tmp_path / "run"), keep=1)
    saver.save(state.TrainState(np.int32(7), params, stats, {}, {}), batches=0, meta=meta, score=None)
    saver.close()
    arguments = ["export", "--checkpoint", str(tmp_path / "run"), "--output", str(tmp_path / "hub"), "--format"]
    assert command.main([*arguments, "huggingface"]) == 0
    scale = json.loads((tmp_path / "hub" / "preprocessor_config.json").read_text())
    properties = json.loads((tmp_path / "hub" / "stac_item.json").read_text())["properties"]
    said = properties["mlm:input"][0]
    assert said["bands"] == names == [band["name"] for band in properties["bands"]]
    assert [s["mean"] for s in said["value_scaling"]] == scale["image_mean"] and len(scale["image_std"]) == count
    image = np.random.default_rng(0).uniform(0, 200, (2, 32, 32, 3)).astype("f4")
    given = image[..., [("red", "green", "blue").index(name.split()[0]) for name in said["bands"]]]
    fed = (given - np.float32(scale["image_mean"])) / np.float32(scale["image_std"])
    order = task.eval_orders(np.arange(2))[f"fixed/{count}"][0]
    np.testing.assert_allclose(fed, task.in_order((image - data.mean) / data.std, order), rtol=1e-5, atol=1e-6)
    for form in ("huggingface", "timm", "original"):
        assert command.main([*arguments, form]) == 0
        body = (tmp_path / "hub" / "README.md").read_text()
        table = [
            line.split("|")[2].strip() for line in body.splitlines() if line.startswith("| ") and "---" not in line
        ]
        assert table == ["band", *names] and f"The network takes {count} channels" in body
        use = body.split("```python\n")[1].split("```")[0]
        assert "mean, std =" in use or f"mean = torch.tensor({scale['image_mean']})" in use


def test_a_classifier_of_several_counts_says_how_fewer_channels_are_fed():
    params = {"backbone": {"stem": {"conv": {"kernel": np.zeros((4, 4, 5, 8))}}}}
    config = {"model": {"backbone": "convnext_micro"}, "csp": {"channels": [3, 5]}}
    weights = checkpoints.Weights(
        params, {}, config, dataclasses.replace(CARD, bands=CARD.bands[:3]), "run/7", ema=False
    )
    assert "multiplied by sqrt(5 / n)" in channels.explained(weights)[1]


def imported(folder, tmp_path, capsys, *more):
    """The card of a segmenter's weights after `import`, and the last line of what that printed."""
    out = str(tmp_path / f"back {len(list(tmp_path.iterdir()))}")
    arguments = [
        "import",
        "--input",
        str(folder),
        "--output",
        out,
        "--backbone",
        "convnext_micro",
        "--task",
        "segmenter",
    ]
    capsys.readouterr()
    status = command.main([*arguments, *more])
    said = capsys.readouterr()
    if status:
        return None, said.err
    return checkpoints.load_weights(out, ema=False).card, said.out.splitlines()[-1]


def test_bands_and_classes_come_back_with_exported_weights(workdir, tmp_path, capsys):
    """All of them from genseg's own files; from transformers' what it keeps; else a line says what is not known."""
    hub = tmp_path / "hub"
    assert command.main(["export", "--checkpoint", str(workdir), "--format", "huggingface", "--output", str(hub)]) == 0
    card, said = imported(hub, tmp_path, capsys)
    for name in ("bands", "classes", "palette", "ignore_label", "scored", "dtype", "synthetic"):
        assert getattr(card, name) == getattr(CARD, name), name
    assert said.endswith("bands and classes as genseg exported them") and card.name == "imported from hub"
    copy = shutil.copy(hub / "model.safetensors", tmp_path / "alone.safetensors")
    assert imported(copy, tmp_path, capsys)[0].bands == CARD.bands
    # As transformers saves it.
    save_file(load_file(hub / "model.safetensors"), hub / "model.safetensors", metadata={"format": "pt"})
    card, said = imported(hub, tmp_path, capsys)
    assert [(b.mean, b.std) for b in card.bands] == [
        (b.mean, b.std) for b in CARD.bands
    ] and card.classes == CARD.classes
    assert "not known: names of bands, type of pixels; uint8 is taken. To name them, give the prepared data set" in said
    scale = json.loads((hub / "preprocessor_config.json").read_text())
    large = scale | {"image_mean": [300.0, 2137.5, 9.0, 1.0]}
    (hub / "preprocessor_config.json").write_text(json.dumps(large))
    card, _ = imported(hub, tmp_path, capsys)
    assert card.mean.tolist() == large["image_mean"] and card.dtype == "uint16"
    unit = {"image_mean": [0.5, 0.25, 0.25, 1.0], "image_std": [0.5] * 4, "do_rescale": True, "rescale_factor": 1 / 256}
    (hub / "preprocessor_config.json").write_text(json.dumps(unit))
    card, _ = imported(hub, tmp_path, capsys)
    assert card.mean.tolist() == [128.0, 64.0, 64.0, 256.0] and card.std.tolist() == [128.0] * 4
    (hub / "preprocessor_config.json").write_text("{")
    assert "preprocessor_config.json is damaged" in imported(hub, tmp_path, capsys)[1]
    plain = shutil.move(hub / "model.safetensors", tmp_path / "plain.safetensors")
    card, said = imported(plain, tmp_path, capsys)
    assert card.classes == ("class 0", "class 1", "class 2")
    assert "not known: names of bands, type of pixels, normalisation, names of classes;" in said
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "card.json").write_text(dataclasses.replace(CARD, dtype="int16").to_json())
    card, said = imported(plain, tmp_path, capsys, "--card", str(tmp_path / "data"))
    assert (card.bands, card.classes, card.dtype) == (CARD.bands, CARD.classes, "int16")
    assert said.endswith(f"bands and classes are those of {tmp_path / 'data'}")
    (tmp_path / "data" / "card.json").write_text(dataclasses.replace(CARD, bands=CARD.bands[:3]).to_json())
    said = imported(plain, tmp_path, capsys, "--card", str(tmp_path / "data"))[1]
    assert "differ: 3 bands and 3 classes (segmentation) and 4 bands and 3 classes (segmentation); give" in said


def test_two_programs_of_one_name_have_an_item_each(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "to_onnx", lambda run, channels, size, path: Path(path).write_bytes(b"genseg"))
    for name in ("net.stablehlo", "net.onnx"):
        arguments = ["export", "--checkpoint", str(workdir), "--output", str(tmp_path / name), "--size", "32", "32"]
        assert command.main([*arguments, "--format", name.split(".")[1]]) == 0
    for name in ("net.stablehlo", "net.onnx"):
        item = json.loads((tmp_path / f"{name}.stac.json").read_text())
        assert item["assets"]["model"]["href"] == name


def test_the_hugging_face_folder_says_what_it_is(workdir, tmp_path):
    arguments = ["export", "--checkpoint", str(workdir), "--format", "huggingface", "--output", str(tmp_path)]
    assert command.main([*arguments, "--license", "cc-by-4.0"]) == 0
    _, head, body = (tmp_path / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["license"] == "cc-by-4.0" and head["pipeline_tag"] == "image-segmentation"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "miou", "name": "mIoU", "value": 43.21}]
    assert "mIoU 43.21 % on the split `val` at step 7" in body and "Protocol: all tiles; seen in whole images" in body
    assert "| 3 | nir | 75 | 28 | 0 .. 200 |" in body and "1 crop" in body and "synthetic" in body
    scale = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (
        scale["image_mean"] == [60, 65, 70, 75] and scale["image_std"] == [25, 26, 27, 28] and not scale["do_rescale"]
    )
    # The scores of another step are not given as this one's.
    result = json.loads((workdir / "result.json").read_text())
    (workdir / "result.json").write_text(json.dumps(result | {"step": 9}))
    assert command.main(arguments) == 0
    (workdir / "result.json").write_text(json.dumps(result))
    text = (tmp_path / "README.md").read_text()
    assert "model-index" not in text and "no result of these very weights" in text


@pytest.mark.parametrize(
    ("read", "scored", "found", "told"),
    [
        (False, False, {"miou": 0.4, "ema_miou": 0.5}, {"miou": 0.4}),
        (True, False, {"miou": 0.4, "ema_miou": 0.5}, {"miou": 0.5}),
        (False, True, {"miou": 0.5, "raw_miou": 0.4}, {"miou": 0.4}),
        (True, True, {"miou": 0.5, "raw_miou": 0.4}, {"miou": 0.5}),
        # eval.ema may differ in a later evaluation: what stands beside the plain names says whose they are.
        (True, False, {"miou": 0.5, "raw_miou": 0.4}, {"miou": 0.5}),
        (True, False, {"miou": 0.4}, None),
        (False, True, {"miou": 0.5}, None),
    ],
)
def test_a_model_card_has_the_scores_of_the_weights_that_were_exported(tmp_path, read, scored, found, told):
    config = {"model": {"backbone": "convnext_micro"}, "eval": {"ema": scored}, "ema": {"decay": 0.99}}
    weights = checkpoints.Weights({"norms": {}}, {}, config, CARD, str(tmp_path / "checkpoints" / "7"), ema=read)
    result = {"step": 7, "split": "val", "protocol": "all tiles", "inference": "whole images", "scores": found}
    (tmp_path / "result.json").write_text(json.dumps(result))
    head = yaml.safe_load(model_card.readme(weights, "mmseg", "unknown").split("---\n")[1])
    metrics = head["model-index"][0]["results"][0]["metrics"] if "model-index" in head else []
    assert {m["type"]: m["value"] / 100 for m in metrics} == (told or {})


def test_another_format_in_the_same_folder_leaves_nothing_of_the_former_one(workdir, tmp_path, capsys):
    arguments = ["export", "--checkpoint", str(workdir), "--output", str(tmp_path), "--format"]
    kept = ["README.md", "model.safetensors", "stac_item.json"]
    assert command.main([*arguments, "huggingface"]) == 0
    (tmp_path / "notes.txt").write_text("mine")
    assert command.main([*arguments, "mmseg"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "notes.txt"])
    assert "removed, of the export before: config.json, preprocessor_config.json" in capsys.readouterr().out
    # One that no export writes stays, such as a run's; beside no weights of genseg's nothing is written.
    (tmp_path / "config.json").write_text('{"data": {"data_dir": "genseg"}}')
    assert command.main([*arguments, "mmseg"]) == 0
    assert (tmp_path / "config.json").exists() and "removed" not in capsys.readouterr().out
    for name in kept:
        (tmp_path / name).unlink()
    (tmp_path / "config.json").write_text('{"mine": 1}')
    assert command.main([*arguments, "mmseg"]) == 2
    assert (tmp_path / "config.json").read_text() == '{"mine": 1}'


def test_statistics_of_bands_with_small_units_keep_their_digits():
    bands = (Band("aerosol", 3.14159265e-7, 2.71828183e-8, 0, 1e-6), Band("radiance", 12345.6789, 1e-6, 0, 65535))
    card = dataclasses.replace(CARD, bands=bands, dtype="float32")
    scale = model_card.preprocessor(card, True)
    assert np.float32(scale["image_mean"]).tolist() == card.mean.tolist()
    assert np.float32(scale["image_std"]).tolist() == card.std.tolist()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "backbone.", "module.", "net.", "model._orig_mod.module."])
@pytest.mark.parametrize("form", ["timm", "mmseg", "original"])
def test_names_with_the_prefixes_of_wrappers(tmp_path, prefix, form):
    build = partial(ConvNeXt, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nets.BACKBONES, "tiny", build)
        net = nets.classifier("tiny", channels=3, classes=5, drop_path=0.0)
        shapes = jax.eval_shape(net.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params, stats = (jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), part) for part in shapes)
    tensors = exchange.export(params, stats, "tiny", form)
    save_file({prefix + name: value for name, value in tensors.items()}, tmp_path / "m.safetensors")
    empty = jax.tree.map(np.zeros_like, (params, stats))
    got, _, report = exchange.adopt(*empty, str(tmp_path / "m.safetensors"))
    assert not report.missing and not report.unused
    jax.tree.map(np.testing.assert_array_equal, got, params)


def test_mistakes_in_a_sentence(workdir, tmp_path, capsys):
    common = ["export", "--checkpoint", str(workdir), "--output", str(tmp_path / "x.onnx"), "--for", "deepness"]
    for extra, message in (
        ([], "Deepness needs a fixed image size; add --size HEIGHT WIDTH"),
        (["--size", "32", "64"], "Deepness takes square tiles, not 32 x 64"),
        (["--size", "32", "32", "--overlap", "100"], "--overlap is 100"),
        (["--size", "32", "32", "--resolution", "0"], "--resolution is 0"),
    ):
        assert command.main([*common, *extra]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0], error
    assert not list(tmp_path.iterdir())
