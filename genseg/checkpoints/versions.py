"""Which source and which packages trained a checkpoint."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that training depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def revision() -> str:
    """The git commit of the running source, with "-dirty" after local changes; "" where it is in no repository."""
    here = Path(__file__)

    def git(*arguments):
        return subprocess.run(["git", "-C", here.parent, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", here.name)  # a repository around an installed copy is not ours
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
