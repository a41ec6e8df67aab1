"""Parameters and multiply-adds against the published networks."""

from pathlib import Path

import jax
import pytest
import tiny

from genseg import nets, tree
from genseg.config import load_file
from genseg.errors import UserError
from genseg.nets import cost

# Backbone: classifier (3 bands, 1000 classes), backbone + 4 output norms, + UperHead (150 classes) + FCN head. Rounded
# to 0.01 M they are timm's results-imagenet.csv, and the published 60/82/122 M and 60/81/121 M of UperNet.
PARAMETERS = {
    "convnext_tiny": (28_589_128, 27_821_472, 60_242_636),
    "convnext_small": (50_223_688, 49_456_032, 81_877_196),
    "convnext_base": (88_591_464, 87_568_256, 122_102_956),
    "convnext_large": (197_767_336, 196_233_024, 234_994_796),
    "swin_tiny": (28_288_354, 27_520_698, 59_941_862),
    "swin_small": (49_606_258, 48_838_602, 81_259_766),
    "swin_base": (87_768_224, 86_745_016, 121_279_716),
    "swin_large": (196_532_476, 194_998_164, 233_759_936),
}
# timm results-imagenet.csv, M parameters.
SMALL = {
    "convnext_atto": 3.70,
    "convnext_femto": 5.22,
    "convnext_pico": 9.05,
    "convnext_nano": 15.59,
    "convnext_xlarge": 350.20,
}
# Bands, classes -> classifier (1000 classes), UperNet with and without the auxiliary head.
TARGETS = {
    ("convnext_tiny", 3, 16): (28_589_128, 60_139_456, 59_250_096),
    ("convnext_tiny", 4, 9): (28_590_664, 60_135_602, 59_248_041),
    ("convnext_tiny", 4, 5): (28_590_664, 60_132_522, 59_245_989),
    ("convnext_tiny", 5, 6): (28_592_200, 60_134_828, 59_248_038),
    ("swin_tiny", 3, 16): (28_288_354, 59_838_682, 58_949_322),
    ("swin_tiny", 4, 9): (28_289_890, 59_834_828, 58_947_267),
    ("swin_tiny", 4, 5): (28_289_890, 59_831_748, 58_945_215),
    ("swin_tiny", 5, 6): (28_291_426, 59_834_054, 58_947_264),
}


def parameters(net):
    return jax.eval_shape(net.init, jax.random.key(0))[0]


def marked(names, slow):
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize(
    "name", marked(PARAMETERS, ("convnext_small", "convnext_large", "swin_small", "swin_base", "swin_large"))
)
def test_parameters_are_the_published(name):
    classifier = parameters(nets.classifier(name, channels=3, classes=1000, drop_path=0.1))
    segmenter = parameters(nets.segmenter(name, channels=3, classes=150, drop_path=0.1))
    backbone = tree.count({k: segmenter[k] for k in ("backbone", "norms")})
    assert (tree.count(classifier), backbone, tree.count(segmenter)) == PARAMETERS[name]
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), [classifier["backbone"], segmenter["backbone"]])
    assert shapes[0] == shapes[1]


def test_parameters_of_the_heads():
    """The parts of 31,497,366 of UperHead and 923,798 of the FCN head (widths of T and S, 150 classes)."""
    found = parameters(nets.segmenter("convnext_tiny", channels=3, classes=150, drop_path=0.0))
    counts = {name: tree.count(part) for name, part in found["head"].items()}
    assert counts == {
        "pools": 1_576_960,
        "bottleneck": 12_977_152,
        "laterals": 347_136,
        "fpn_convs": 7_080_960,
        "fpn_bottleneck": 9_438_208,
        "logits": 76_950,
    }
    assert tree.count(found["aux_head"]) == 923_798


@pytest.mark.parametrize("name", marked(SMALL, ("convnext_femto", "convnext_xlarge")))
def test_parameters_of_small_and_huge(name):
    count = tree.count(parameters(nets.classifier(name, channels=3, classes=1000, drop_path=0.0)))
    assert round(count / 1e6, 2) == SMALL[name]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_parameters_of_targets(target):
    name, channels, classes = target
    classifier = nets.classifier(name, channels=channels, classes=1000, drop_path=0.0)
    segmenter = parameters(nets.segmenter(name, channels=channels, classes=classes, drop_path=0.0))
    without = tree.count(segmenter) - tree.count(segmenter["aux_head"])
    assert (tree.count(parameters(classifier)), tree.count(segmenter), without) == TARGETS[target]


# G multiply-adds of the classifier at 224 x 224 (timm's and the papers', Swin's with attention products), of UperNet at
# 512 x 512, and the "FLOPs" published for UperNet at 512 x 2048, which leave the auxiliary head out.
GIGA = {
    "convnext_tiny": (4.456, 234.6, 939),
    "convnext_small": (8.684, 256.7, 1027),
    "convnext_base": (15.355, 292.4, 1170),
    "convnext_large": (34.361, None, None),
    "swin_tiny": (4.491, 236.9, 945),
    "swin_small": (8.741, 260.6, 1038),
    "swin_base": (15.431, 299.0, 1188),
    "swin_large": (34.476, None, None),
}
FAST = ("convnext_tiny", "swin_tiny")


@pytest.mark.parametrize("name", marked(GIGA, set(GIGA) - set(FAST)))
def test_multiply_adds(name):
    classifier = nets.classifier(name, channels=3, classes=1000, drop_path=0.0)
    assert cost.multiply_adds(classifier, (1, 224, 224, 3)) / 1e9 == pytest.approx(GIGA[name][0], abs=5e-4)
    segmenter = nets.segmenter(name, channels=3, classes=150, drop_path=0.0, fusion="resized")
    for width, giga, rounding in ((512, GIGA[name][1], 0.05), (2048, GIGA[name][2], 0.9)):
        if giga is not None and (width == 2048 or name not in FAST):
            assert cost.multiply_adds(segmenter, (1, 512, width, 3)) / 1e9 == pytest.approx(giga, abs=rounding)


@pytest.mark.parametrize(
    ("name", "bands", "classes"), [("mfnet", 4, 9), ("pst900", 4, 5), ("potsdam", 5, 5), ("isaid", 3, 16)]
)
def test_costs_that_configs_name_are_those_of_the_network_that_they_train(name, bands, classes):
    """And beside it those of the published form of the same network."""
    page = (tiny.ROOT / "configs" / f"segment_{name}.py").read_text()
    config = load_file(f"segment_{name}")
    for fusion, before, after in ((config.model.fusion, "", " GMAC an image"), ("resized", "(", " with config.model")):
        net = nets.segmenter(
            config.model.backbone, channels=bands, classes=classes, drop_path=0.0, fusion=fusion,
            head_channels=config.model.head_channels, aux_channels=config.model.aux_channels,
        )  # fmt: skip
        giga = cost.multiply_adds(net, (1, *config.augment.size, bands)) / 1e9
        assert f" {before}{giga:.0f}{after}" in page, giga


@pytest.mark.slow
def test_table_of_the_docs():
    assert cost.table() in (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_unknown_backbone_lists_the_names():
    with pytest.raises(UserError, match=r"'resnet50' is not known; choose one of .*convnext_tiny.*swin_tiny"):
        nets.classifier("resnet50", channels=3, classes=2, drop_path=0.0)
