"""Border scores of the truth itself, seen through logits at stride 4: how much blur a segmenter has whose every block is right.

    python benchmarks/stride_ceiling.py PREPARED --split test

PREPARED: a prepared data set (the folder that holds card.json). The truth itself is averaged over each 4 x 4 block, as
one-hot shares, resized bilinearly to the image as logits are, and the largest share taken: what a head that knows every
block's exact shares would say. No bound: logits that overshoot at borders can say more. Border scores are printed for each
distance.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np

from genseg import border_scores
from genseg.data.batches import pipeline
from genseg.nets.resizing import resize
from genseg.report import tables


@functools.partial(jax.jit, static_argnums=(2, 3))
def counted(label: jax.Array, valid: jax.Array, classes: int, stride: int) -> jax.Array:
    """int [1, h, w], bool [1, h, w] -> the border counts of the truth seen through `stride`."""
    _, h, w = label.shape
    shares = jax.nn.one_hot(jnp.where(valid, label, -1), classes)
    blocks = shares.reshape(1, h // stride, stride, w // stride, stride, classes).mean((2, 4))
    said = jnp.argmax(resize(blocks, h, w), axis=-1)
    return border_scores.border_counts(said, label, valid, classes)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared")
    parser.add_argument("--split", default="test")
    parser.add_argument("--stride", type=int, default=4)
    args = parser.parse_args()
    split, total = pipeline.open_split(args.prepared, args.split), 0
    card = split.card
    for index in range(len(split)):
        label = split.decode(index)["label"]
        h, w = (side // args.stride * args.stride for side in label.shape)
        label = label[:h, :w]
        valid = np.ones(label.shape, bool) if card.ignore_label is None else label != card.ignore_label
        counts = counted(jnp.int32(label)[None], valid[None], len(card.classes), args.stride)
        total = total + np.asarray(counts, np.int64)
    scores = border_scores.border_scores(total, card.scored, card.absent)
    print(f"{card.name} {args.split}, {len(split)} records, stride {args.stride}")
    print(tables.text_table(tables.border_rows(card, scores)))


if __name__ == "__main__":
    main()
