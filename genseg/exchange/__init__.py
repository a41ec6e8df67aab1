"""Weights in from timm, Hugging Face transformers, the original repositories and mmsegmentation, and out to them.

`python -m genseg.exchange import|export` is the command line; programs (StableHLO, ONNX) are in `programs`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genseg.exchange.conversion import Sizes, adopt, config, export, sizes

__all__ = ["Sizes", "adopt", "config", "export", "sizes"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the command's options must not wait for JAX."""
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.conversion"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
