"""Where a block's time goes on a CPU: milliseconds of CPU time of its parts with their gradients, and of the matrix products
in them done alone, 8 images of 224 pixels, float32.

    taskset -c 0 python benchmarks/blocks.py                  # one core; two minutes
    taskset -c 0 python benchmarks/blocks.py swin_tiny

"share" is the products' share of the block: 1 would be a block at the speed of the machine's matrix products.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from genseg import memory, nets
from genseg.nets import convnext, products, swin

BATCH = 8
SIDES = (56, 28, 14, 7)
CALLS = 6


def milliseconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    """Of the function and the gradients of all its arguments; the least of some calls."""

    def differentiated(*arguments):
        y, pull_back = jax.vjp(function, *arguments)
        return y, pull_back(y)

    call, found = jax.jit(differentiated), []
    for _ in range(CALLS + 2):  # the first compiles, the second takes memory
        began = time.process_time()
        jax.block_until_ready(call(*arguments))
        found.append(time.process_time() - began)
    return 1e3 * min(found[2:])


def linear_products(rows: int, widths: tuple[tuple[int, int], ...]) -> float:
    """Of [rows inputs] x [inputs outputs], for all (inputs, outputs)."""
    drawn = [(jnp.ones((rows, inputs)), jnp.ones((inputs, outputs))) for inputs, outputs in widths]
    return sum(milliseconds(products.matmul, x, w) for x, w in drawn)


def attention_products(windows: int, heads: int, pixels: int, features: int) -> float:
    """Of queries and keys, and of weights and values, head by head."""
    q, weights = jnp.ones((windows * heads, pixels, features)), jnp.ones((windows * heads, pixels, pixels))
    return milliseconds(lambda q, k: q @ jnp.swapaxes(k, 1, 2), q, q + 1) + milliseconds(jnp.matmul, weights, q)


def parts_of(backbone: str, features: int, side: int, heads: int) -> dict[str, Callable[..., jax.Array]]:
    """name -> function of the block's parameters and a map [b h w c]; the first is the whole block."""
    common = dict(dtype=jnp.float32, rngs=nnx.Rngs(0))
    if backbone.startswith("swin"):
        block = swin.Block(features, heads, 0.0, shifted=side > swin.WINDOW, always_partition=False, **common)
        names = {"attention, windows": lambda b, x: b.attend(x), "MLP": lambda b, x: b.mlp(x)}
    else:
        block = convnext.Block(features, 0.0, init=nnx.initializers.normal(0.02), layer_scale=1.0, **common)
        names = {"depthwise": lambda b, x: b.conv_dw(x), "norm": lambda b, x: b.norm(x), "MLP": lambda b, x: b.mlp(x)}
    graph, state = nnx.split(block)

    def of(part):
        return lambda state, x: part(nnx.merge(graph, state), x)

    return {name: (of(part), state) for name, part in {"block": lambda b, x: b(x, None), **names}.items()}


def main() -> None:
    memory.keep_freed()
    print("| backbone | stage | blocks | part | ms | its matrix products, ms | share |\n|---|--:|--:|---|--:|--:|--:|")
    for backbone in sys.argv[1:] or ("convnext_tiny", "swin_tiny"):
        net = nets.BACKBONES[backbone](channels=3, drop_path=0.0, dtype=jnp.float32, remat=False, rngs=nnx.Rngs(0))
        for stage, (features, side) in enumerate(zip(net.dims, SIDES, strict=True)):
            rows, heads = BATCH * side * side, features // 32
            x = jax.random.normal(jax.random.key(0), (BATCH, side, side, features))
            mlp = linear_products(rows, ((features, 4 * features), (4 * features, features)))
            own = {"MLP": mlp}
            if backbone.startswith("swin"):
                windows = BATCH * (side // swin.WINDOW) ** 2
                linear = linear_products(rows, ((features, 3 * features), (features, features)))
                own["attention, windows"] = linear + attention_products(windows, heads, swin.WINDOW**2, 32)
            own["block"] = sum(own.values())
            for name, (part, state) in parts_of(backbone, features, side, heads).items():
                spent = milliseconds(part, state, x)
                matrix = f"{own[name]:.0f} | {own[name] / spent:.2f}" if name in own else "|"
                print(
                    f"| {backbone} | {stage + 1} | {len(net.stages[stage].blocks)} | {name} | {spent:.0f} | {matrix} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
