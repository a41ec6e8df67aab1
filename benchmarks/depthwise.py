"""Milliseconds of CPU time of the 7x7 depthwise convolution with both its gradients, in every form, turn by turn.

    taskset -c 0 python benchmarks/depthwise.py                    # one core; torch's as well where torch is installed
    taskset -c 0 python benchmarks/depthwise.py 8x56x56x96         # batch x height x width x channels

All forms are checked to give the same first. CPU time, so that other work on the machine disturbs little; float32.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from genseg.nets import depthwise, depthwise_cpu

SHAPES = ("8x56x56x96", "8x28x28x192", "8x14x14x384", "8x7x7x768", "64x16x16x48", "64x8x8x96", "64x4x4x192")


def forms(shape: tuple[int, ...]) -> dict[str, Callable[..., tuple[np.ndarray, ...]]]:
    """Each takes x, kernel [7 7 1 c] and the gradient of the result; returns the result and the gradients of both."""

    def differentiated(form):
        def function(x, kernel, gradient):
            y, pull_back = jax.vjp(form, x, kernel)
            return y, *pull_back(gradient)

        return jax.jit(function)

    def shifted(x, kernel, gradient):
        towards_x = depthwise_cpu.shifted_conv(gradient, kernel[::-1, ::-1])
        return (
            depthwise_cpu.shifted_conv(x, kernel),
            towards_x,
            depthwise_cpu.shifted_kernel_gradient(x, gradient, (7, 7)),
        )

    found = {"chosen": differentiated(depthwise.depthwise_conv), "shifts": jax.jit(shifted)}
    if shape[1] * shape[2] <= depthwise_cpu.TOEPLITZ_PIXELS:  # its matrices take too much memory beyond
        found["Toeplitz"] = differentiated(depthwise_cpu.toeplitz_conv)
    found["grouped"] = differentiated(depthwise.grouped_conv)
    if importlib.util.find_spec("torch"):
        found["torch"] = torch_form
    return found


def torch_form(x, kernel, gradient):
    """torch's convolution, channels last."""
    import torch

    def tensor(array, order):
        return torch.from_numpy(np.ascontiguousarray(array)).permute(*order).requires_grad_()

    image, taps = tensor(x, (0, 3, 1, 2)), tensor(kernel, (3, 2, 0, 1))
    y = torch.nn.functional.conv2d(image, taps, padding=3, groups=taps.shape[0])
    y.backward(tensor(gradient, (0, 3, 1, 2)).detach())
    return tuple(
        a.detach().permute(*order).numpy()
        for a, order in ((y, (0, 2, 3, 1)), (image.grad, (0, 2, 3, 1)), (taps.grad, (2, 3, 1, 0)))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="BxHxWxC")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    for text in options.shapes:
        shape = tuple(int(side) for side in text.split("x"))
        rng = np.random.default_rng(0)
        arguments = tuple(rng.normal(size=s).astype(np.float32) for s in (shape, (7, 7, 1, shape[3]), shape))
        known = forms(shape)
        results = {name: jax.block_until_ready(form(*arguments)) for name, form in known.items()}
        for name, result in results.items():
            for a, b in zip(result, results["grouped"], strict=True):
                assert np.abs(np.asarray(a) - np.asarray(b)).max() <= 1e-5 * np.abs(np.asarray(b)).max(), (text, name)
        times: dict[str, list[float]] = {name: [] for name in known}
        for _ in range(options.repeats):
            for name, form in known.items():
                began = time.process_time()
                jax.block_until_ready(form(*arguments))
                times[name].append(1e3 * (time.process_time() - began))
        cells = [f"{name} {statistics.median(t):.2f} ({min(t):.2f} .. {max(t):.2f})" for name, t in times.items()]
        print(f"{text}: {', '.join(cells)} ms", flush=True)


if __name__ == "__main__":
    main()
