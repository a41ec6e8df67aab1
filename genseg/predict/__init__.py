"""Maps of rasters with a trained network. `main` is the command line (`python -m genseg.predict --help`).

In a notebook:

    weights = predict.weights_of("runs/naip", ema=None, best=False)
    predictor = predict.Predictor(weights, windows.Inference(...), batch=0)
    predict.predict([...], predictor, weights, predict.Request(Path("maps"), predict.Products(polygons=True)))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genseg.predict.__main__ import main
    from genseg.predict.command import inference_of, weights_of
    from genseg.predict.network import Measured, Predictor
    from genseg.predict.products import Products
    from genseg.predict.run import Outcome, Request, predict
    from genseg.predict.scenes import Scene, scenes_of

__all__ = [
    "Measured", "Outcome", "Predictor", "Products", "Request", "Scene", "inference_of", "main", "predict", "scenes_of",
    "weights_of",
]  # fmt: skip

_MODULES = {
    "__main__": ("main",), "command": ("inference_of", "weights_of"), "network": ("Measured", "Predictor"),
    "products": ("Products",), "run": ("Outcome", "Request", "predict"), "scenes": ("Scene", "scenes_of"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the command's options must not wait for JAX."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
