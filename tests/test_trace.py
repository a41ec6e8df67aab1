"""What a trace holds, as any reader of its file sees it."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest
import tiny

from genseg import recipes
from genseg.errors import UserError
from genseg.report import trace


def traced_steps(asked, folder, steps) -> set[int]:
    """Runs one program a step, each of a name of its own; the steps whose name stands in the trace."""
    recorder = trace.Trace(asked, folder)
    for step in steps:

        def program(x):
            return x + 1

        program.__name__ = f"program_{step}"
        recorder.before(step)
        recorder.after(step, jax.jit(program)(jnp.ones(3)))
    recorder.close()
    found = [json.loads(gzip.decompress(path.read_bytes())) for path in folder.rglob("*.trace.json.gz")]
    names = {event.get("name", "") for file in found for event in file["traceEvents"]}
    return {step for step in steps if any(f"program_{step}" in name for name in names)}


@pytest.mark.parametrize(
    ("asked", "steps", "expected"),
    [
        ("3:4", range(1, 7), {3, 4}),
        ("3:9", range(1, 6), {3, 4, 5}),  # the run ends within
        ("2:4", range(3, 7), {3, 4}),  # it was resumed within
        ("2:4", range(5, 7), set()),
        ("", range(1, 4), set()),
    ],
)
def test_a_trace_holds_the_steps_asked_for(tmp_path, asked, steps, expected):
    assert traced_steps(asked, tmp_path, steps) == expected


@pytest.mark.parametrize("asked", ["10", "20:10", "0:3", "a:b", "1:2:3"])
def test_a_span_that_is_none_is_refused(tmp_path, asked):
    config = tiny.pretrain(tmp_path)
    config.profile.steps = asked
    with pytest.raises(UserError, match="config.profile.steps"):
        recipes.complete(config)
