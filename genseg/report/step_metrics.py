"""Metrics of the training steps, on clu's classes.

(Annotations are evaluated here, because clu reads those of a metrics collection.)
"""

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from genseg import partition

NEVER = np.iinfo(np.int32).max


@flax.struct.dataclass
class FirstNonFinite(clu_metrics.Metric):
    """The first step whose loss or gradient was not finite; NEVER if there was none."""

    step: jax.Array

    @classmethod
    def empty(cls) -> "FirstNonFinite":
        return cls(step=jnp.int32(NEVER))

    @classmethod
    def from_model_output(cls, finite: jax.Array, step: jax.Array, **_) -> "FirstNonFinite":
        return cls(step=jnp.where(finite, NEVER, step).astype(jnp.int32))

    def merge(self, other: "FirstNonFinite") -> "FirstNonFinite":
        return type(self)(step=jnp.minimum(self.step, other.step))

    def compute(self) -> jax.Array:
        return self.step


@flax.struct.dataclass
class StepMetrics(clu_metrics.Collection):
    """Training metrics, accumulated on the device between two log lines: reading them is the loop's only sync."""

    loss: clu_metrics.Average.from_output("loss")
    grad_norm: clu_metrics.Average.from_output("grad_norm")
    learning_rate: clu_metrics.LastValue.from_output("learning_rate")
    first_non_finite: FirstNonFinite


def fresh_metrics(mesh: Mesh) -> StepMetrics:
    """Empty metrics, whole on every device."""
    return jax.device_put(StepMetrics.empty(), partition.replicated(mesh))
