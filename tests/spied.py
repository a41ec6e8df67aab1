"""`python tests/spied.py OUT ARGUMENTS...`: genseg.main, with what each process saw written to OUT/PROCESS.json.

{"order": index lists of this process's rows of the training batches, "counts": counts of each evaluation pass}
"""

import json
import sys
from pathlib import Path

from genseg import evaluate, inputs, main, partition


def spy() -> dict:
    seen = {"order": [], "counts": []}
    train_batches, run = inputs.Inputs.train_batches, evaluate.run

    def seen_batches(self, *, start):
        for batch in train_batches(self, start=start):
            seen["order"].append(batch["index"].tolist())
            yield batch

    def seen_run(*arguments):
        counts = run(*arguments)
        seen["counts"].append({name: value.tolist() for name, value in counts.items()})
        return counts

    inputs.Inputs.train_batches, evaluate.run = seen_batches, seen_run
    return seen


if __name__ == "__main__":
    seen, out = spy(), Path(sys.argv[1])
    try:
        main.run([sys.argv[0], *sys.argv[2:]])
    finally:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{partition.process_index()}.json").write_text(json.dumps(seen))
