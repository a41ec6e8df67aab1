"""Maps of rasters with a trained network. `main` is the command line (`python -m genseg.predict --help`).

In a notebook:

    weights = predict.weights_of("runs/naip", ema=None, best=False)
    predictor = predict.Predictor(weights, windows.Inference(...), batch=0)
    predict.predict([...], predictor, weights, predict.Request(Path("maps"), predict.Products(polygons=True)))
"""

from genseg.predict.command import inference_of, main, weights_of
from genseg.predict.network import Measured, Predictor
from genseg.predict.products import Products
from genseg.predict.run import Outcome, Request, predict
from genseg.predict.scenes import Scene, scenes_of

__all__ = [
    "Measured", "Outcome", "Predictor", "Products", "Request", "Scene", "inference_of", "main", "predict", "scenes_of",
    "weights_of",
]  # fmt: skip
