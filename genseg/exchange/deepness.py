"""ONNX as QGIS's Deepness plugin runs it: https://github.com/PUTvision/qgis-plugin-deepness.

The plugin cuts square tiles, divides their values by 255 whatever their type, applies "standardization_mean" and
"standardization_std" (newer versions only; left out they stand for three bands), puts channels first, and takes the
largest of the output's channels, after setting those below "seg_thresh" to 0. So the program here takes stored units
over 255, [1 c s s], and gives probabilities [1 classes s s]; normalisation is inside.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genseg import texts
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.exchange import programs

PLUGIN_DIVISOR = 255.0


def program(run: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """`run` is `programs.program`. float32 [1 c s s], stored units / 255 -> float32 [1 classes s s], sum 1 over classes."""

    def tile(image: jax.Array) -> jax.Array:
        stored = jnp.transpose(image, (0, 2, 3, 1)) * PLUGIN_DIVISOR
        return jnp.transpose(jax.nn.softmax(run(stored), axis=-1), (0, 3, 1, 2))

    return tile


def metadata(card: DatasetCard, size: int, *, overlap: int, resolution: float | None) -> dict[str, str]:
    """The plugin's `metadata_props`, values in JSON.

    size: side of a tile in pixels; "tile_size" is what the plugin's code reads, "tiles_size" what its manual names.
    overlap: of neighbouring tiles, in percent of the side. resolution: centimetres a pixel, or None to leave the
    plugin's own.
    """
    values = {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(card.classes)},
        "tile_size": size,
        "tiles_size": size,
        "tiles_overlap": overlap,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * card.channels,
        "standardization_std": [1.0] * card.channels,
    }
    if resolution is not None:
        values["resolution"] = resolution
    return {name: texts.as_json(value) for name, value in values.items()}


def write(
    run: Callable[[jax.Array], jax.Array], card: DatasetCard, size: tuple[int, int], path: str, *,
    overlap: int = 25, resolution: float | None = None,
) -> None:  # fmt: skip
    """Writes the file that the plugin loads. Raises UserError for a size that is not square, or without jax2onnx."""
    if size[0] != size[1]:
        raise UserError(f"Deepness takes square tiles, not {size[0]} x {size[1]}: give --size SIDE SIDE")
    if not 0 <= overlap < 100:
        raise UserError(f"--overlap is {overlap}: it is a percentage of a tile's side, from 0 to 99")
    if resolution is not None and resolution <= 0:
        raise UserError(f"--resolution is {resolution}: give the centimetres that a pixel measures on the ground")
    programs.write_onnx(program(run), (1, card.channels, *size), path)
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata(card, size[0], overlap=overlap, resolution=resolution))
    onnx.save(model, path)
