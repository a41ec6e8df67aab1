"""`python tests/spied.py OUT ARGUMENTS...`: genseg.main with a narrow network under the name of the demo's, which
compiles in seconds; OUT "-", or a folder for what each process saw, OUT/PROCESS.json:

{"order": index lists of this process's rows of the training batches, "counts": counts of each evaluation pass}
"""

import json
import sys
from pathlib import Path

import tiny

from genseg import evaluate, inputs, main, nets, partition


def spy() -> dict:
    seen = {"order": [], "counts": []}
    train_batches, call = inputs.Inputs.train_batches, evaluate.Evaluation.__call__

    def seen_batches(self, *, start):
        for batch in train_batches(self, start=start):
            seen["order"].append(batch["index"].tolist())
            yield batch

    def seen_call(*arguments):
        counts = call(*arguments)
        seen["counts"].append({name: value.tolist() for name, value in counts.items()})
        return counts

    inputs.Inputs.train_batches, evaluate.Evaluation.__call__ = seen_batches, seen_call
    return seen


if __name__ == "__main__":
    seen, out = spy(), Path(sys.argv[1])
    nets.BACKBONES["convnext_micro"] = tiny.narrow
    try:
        main.run([sys.argv[0], *sys.argv[2:]])
    finally:
        if sys.argv[1] != "-":
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{partition.process_index()}.json").write_text(json.dumps(seen))
