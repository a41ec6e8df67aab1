"""Maps of rasters with a trained network. `main` is the command line (`python -m genseg.predict --help`).

Its parts, for programs:

    scenes, products = predict.scenes_of(["scene.tif"]), predict.Products(polygons=True)
    drawing = predict.drawing_of("runs/naip", scenes, Path("maps"), products, predict.View(flip=True))
    drawing.maps()

`genseg.draw_maps` is that in one call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genseg.predict.__main__ import main
    from genseg.predict.drawing import Drawing, View, drawing_of, weights_of
    from genseg.predict.network import Measured, Predictor
    from genseg.predict.products import Products
    from genseg.predict.run import Outcome, Request, predict
    from genseg.predict.scenes import Scene, scenes_of

__all__ = [
    "Drawing", "Measured", "Outcome", "Predictor", "Products", "Request", "Scene", "View", "drawing_of", "main", "predict",
    "scenes_of", "weights_of",
]  # fmt: skip

_MODULES = {
    "__main__": ("main",), "drawing": ("Drawing", "View", "drawing_of", "weights_of"),
    "network": ("Measured", "Predictor"), "products": ("Products",), "run": ("Outcome", "Request", "predict"), "scenes": ("Scene", "scenes_of"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the command's options must not wait for JAX."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
