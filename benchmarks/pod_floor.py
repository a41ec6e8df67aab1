"""What needs no compiler and no chip: parameters, FLOPs, bytes that every chip keeps and sends, and the least chip-hours.

    python benchmarks/pod_floor.py                       # the networks of docs/pods.md, on v5e
    python benchmarks/pod_floor.py --chip v5p --backbones convnext_tiny

The recipe is configs/pretrain.py's, with 4 channels. FLOPs are those of matrix products and convolutions, forward and
backward, of the traced step. "Floor" is these FLOPs at the chip's published bfloat16 peak: no run is faster, and every
real one is several times slower (docs/pods.md).
"""

import argparse

import jax

from genseg import nets, tree
from genseg.dry_run.chips import CHIPS
from genseg.nets import flops

BACKBONES = ("convnext_tiny", "convnext_base", "convnext_large", "swin_tiny", "swin_base", "swin_large")
IMAGES = 300 * 1_281_167  # 300 epochs of ImageNet-1K
BATCH = 2


def flops_an_image(backbone: str, channels: int) -> tuple[float, int]:
    """(FLOPs of forward and backward for one image, parameters)."""
    net = nets.classifier(backbone, channels=channels, classes=1000, drop_path=0.1, dtype="bfloat16")
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((BATCH, 224, 224, channels), "float32")

    def gradient(params, stats, image, key):
        return jax.grad(lambda p: net.apply(p, stats, image, train=True, key=key)[0].sum())(params)

    traced = jax.make_jaxpr(gradient)(params, stats, image, jax.random.key(0))
    return flops.of(traced.jaxpr) / BATCH, tree.count(params)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chip", choices=sorted(CHIPS), default="v5e")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--channels", type=int, default=4)
    arguments = parser.parse_args()
    chip = CHIPS[arguments.chip]
    print(
        f"{'network':<16} {'parameters':>12} {'GFLOP/image':>12} {'state GB/chip':>14} {'gradient MB':>12} {'floor chip-h':>13}"
    )
    for backbone in arguments.backbones:
        each, count = flops_an_image(backbone, arguments.channels)
        copies = 3 if backbone.startswith("swin") else 4  # parameters, two moments; ConvNeXt's recipe has averages too
        hours = IMAGES * each / chip.flops / 3600
        print(
            f"{backbone:<16} {count:>12,} {each / 1e9:>12.2f} {copies * 4 * count / 1e9:>14.2f} {4 * count / 1e6:>12.1f} {hours:>13.1f}"
        )


if __name__ == "__main__":
    main()
