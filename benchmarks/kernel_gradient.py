"""The gradient of a 3 x 3 kernel on this CPU, as a convolution and as a product a tap: where `genseg.nets.products.LARGE` belongs.

    python benchmarks/kernel_gradient.py                # a minute; Markdown

Milliseconds of wall time, float32, the least of five calls.
"""

import time

import jax

from genseg.nets import products

SHAPES = (  # images, side, channels
    (8, 16, 64), (8, 24, 64), (8, 32, 64), (8, 64, 64), (16, 16, 256), (2, 24, 256), (2, 64, 256), (4, 16, 512), (2, 32, 512), (1, 64, 512),
)  # fmt: skip


def milliseconds(images: int, side: int, channels: int, large: int) -> float:
    """With planes of `large` pixels and more taken tap by tap."""
    products.LARGE = large
    x, gradient = (jax.random.normal(jax.random.key(i), (images, side, side, channels)) for i in range(2))
    call = jax.jit(lambda x, gradient: products.kernel_gradient(x, gradient, (3, 3), 1, ((1, 1), (1, 1))))
    jax.block_until_ready(call(x, gradient))
    found = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(call(x, gradient))
        found.append(time.perf_counter() - began)
    return 1e3 * min(found)


def main() -> None:
    print("| images x side x side x channels | as a convolution, ms | a product a tap, ms |\n|---|--:|--:|")
    for images, side, channels in SHAPES:
        whole, taps = (milliseconds(images, side, channels, large) for large in (side * side + 1, 0))
        print(f"| {images} x {side} x {side} x {channels} | {whole:.1f} | {taps:.1f} |", flush=True)


if __name__ == "__main__":
    main()
