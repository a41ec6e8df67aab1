"""A whole segmenter as one file that runs without genseg: StableHLO and ONNX."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genseg import tree
from genseg.errors import UserError
from genseg.nets import depthwise, resizing
from genseg.nets.functional import Net

PLATFORMS = ("cpu", "cuda", "tpu")


def program(
    net: Net, params: tree.Tree, stats: tree.Tree, mean: Sequence[float], std: Sequence[float]
) -> Callable[[jax.Array], jax.Array]:
    """Image float32 [b h w c] in stored units -> logits float32 [b h w classes]; weights, mean and std are inside."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def run(image: jax.Array) -> jax.Array:
        logits = net.apply(params, stats, (image - mean) / std, train=False)[0]["logits"]
        return resizing.resize(logits, image.shape[1], image.shape[2])

    return run


def to_stablehlo(run: Callable, channels: int, size: tuple[int, int] | None) -> bytes:
    """The program for CPU, GPU and TPU as `jax.export` writes it; `jax.export.deserialize(bytes).call(image)` runs it.

    The batch is free. size: (h, w); None leaves both free, as multiples of 32, which ConvNeXt allows and Swin, whose
    windows are counted while tracing, does not.
    """
    height, width = size or ("32*h", "32*w")
    shape = jax.export.symbolic_shape(f"b, {height}, {width}, {channels}")
    return jax.export.export(jax.jit(run), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.float32)).serialize()


def to_onnx(run: Callable, channels: int, size: tuple[int, int], path: str) -> None:
    """Writes the program as ONNX for one image of `size` (h, w), [1 h w c] -> [1 h w classes]. Needs jax2onnx, else UserError.

    Both are fixed: jax2onnx cannot resize for a free batch or size.
    """
    write_onnx(run, (1, *size, channels), path)


def write_onnx(run: Callable, shape: tuple[int, ...], path: str) -> None:
    """Writes a function of one float32 array of `shape` as one ONNX file, weights inside (so less than 2 GB: protobuf's limit),
    from `image` to `logits`. Needs jax2onnx, else UserError."""
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError(
            f"an ONNX file needs jax2onnx ({error}); run `pip install -e .[export]` and `pip install --no-deps jax2onnx`"
        ) from None

    import onnx

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # a line for every shape whose type it does not know
    with depthwise.grouped_convolutions(), tempfile.TemporaryDirectory() as folder:
        # It writes larger weights to files beside, under the name that it is given: they are taken in here.
        file = str(Path(folder) / "net.onnx")
        jax2onnx.to_onnx(run, [jax.ShapeDtypeStruct(shape, jnp.float32)], return_mode="file", output_path=file)
        model = onnx.load(file)
    _rename(model.graph, {model.graph.input[0].name: "image", model.graph.output[0].name: "logits"})
    onnx.save(model, path)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Tensors of an ONNX graph, in place."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
