"""Parameters and multiply-adds of the networks: `python -m genseg.nets.cost` prints the table of docs/models.md."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from genseg import nets, tree
from genseg.nets import flops
from genseg.nets.functional import Net


def multiply_adds(net: Net, shape: tuple[int, int, int, int]) -> int:
    """Multiply-adds of one evaluation of `net` on an image of `shape` [b h w c], nothing being computed.

    Counted are convolutions and matrix products, attention's too, as papers do under the name "FLOPs"; norms,
    activations, sums and resizing (which is a matrix product here: 2 % more in UperNet) are not. Zeros that a convolution
    pads with count as pixels; `genseg.nets.flops` leaves them out and takes everything that a program does.
    """
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    traced = jax.make_jaxpr(lambda p, s, x: net.apply(p, s, x, train=False)[0])(params, stats, image)
    total = 0
    for equation in flops.equations(traced.jaxpr, without="_resize"):
        name, outputs = equation.primitive.name, math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            total += outputs * math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return total


def table() -> str:
    """Markdown: a row for each backbone."""
    lines = [
        "| backbone | classifier, 1000 classes: parameters | GMAC at 224 | UperNet, 150 classes, with auxiliary head: "
        "parameters | GMAC at 512 |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name in nets.BACKBONES:
        classify = nets.classifier(name, channels=3, classes=1000, drop_path=0.0)
        segment = nets.segmenter(name, channels=3, classes=150, drop_path=0.0, fusion="resized")
        counts = [tree.count(jax.eval_shape(net.init, jax.random.key(0))[0]) for net in (classify, segment)]
        macs = [multiply_adds(classify, (1, 224, 224, 3)) / 1e9, multiply_adds(segment, (1, 512, 512, 3)) / 1e9]
        lines.append(f"| {name} | {counts[0]:,} | {macs[0]:.3f} | {counts[1]:,} | {macs[1]:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
