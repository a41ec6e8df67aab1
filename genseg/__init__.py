"""genseg: Channel Shuffling Pre-training and UperNet segmentation in JAX/Flax, for TPU and GPU."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genseg.api import draw_maps as draw_maps
    from genseg.api import finetune as finetune
    from genseg.api import load_config as load_config
    from genseg.api import prepare as prepare
    from genseg.api import pretrain as pretrain

__version__ = "0.1.0"
_FUNCTIONS = ("draw_maps", "finetune", "load_config", "prepare", "pretrain")


def __getattr__(name: str) -> Any:
    """The functions of `genseg.api`, imported when they are first asked for: `import genseg` takes no time."""
    if name in _FUNCTIONS:
        from genseg import api

        return getattr(api, name)
    raise AttributeError(f"module 'genseg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
