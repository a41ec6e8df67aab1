"""What each loss and the border counts cost, beside a training step and an evaluation step of the same images.

    python benchmarks/losses.py --backbone=convnext_tiny --size=512 --classes=16 --batch=1

CPU seconds of this process, best of --repeats: on a busy machine they are steadier than the clock's. On an accelerator use
a profiler's trace instead.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from genseg import border_scores, metrics, nets
from genseg.losses import terms
from genseg.nets.resizing import resize
from genseg.recipes import segment


def seconds(function, *arguments, repeats: int) -> float:
    jax.block_until_ready(function(*arguments))  # compiles
    found = []
    for _ in range(repeats):
        began = time.process_time()
        jax.block_until_ready(function(*arguments))
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="convnext_tiny")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    shape, repeats = (args.batch, args.size, args.size), args.repeats
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, args.classes, (args.batch, args.size // 16, args.size // 16))
    label = jnp.asarray(np.kron(blocks, np.ones((1, 16, 16), int)), jnp.int32)
    valid = jnp.asarray(rng.random(shape) < 0.98)
    logits = jnp.float32(rng.normal(size=(*shape, args.classes)))
    prediction = jnp.asarray(np.roll(label, 3, axis=2))

    net = nets.segmenter(args.backbone, channels=4, classes=args.classes, drop_path=0.0, aux=False)
    params, stats = jax.jit(net.init)(jax.random.key(0))
    image = jnp.float32(rng.normal(size=(*shape, 4)))
    config = segment.config(
        data={"name": "demo_segmentation"}, model={"backbone": args.backbone}, augment={"size": shape[1:]},
        train={"batch_size": args.batch}, optim={"learning_rate": 1e-3},
        eval={"batch_size": args.batch, "crop": shape[1:], "stride": shape[1:]},
    )  # fmt: skip
    functions = terms.terms(config.loss.to_dict(), args.classes)

    @jax.jit
    @jax.grad
    def step(params):
        out, _ = net.apply(params, stats, image, train=True, key=jax.random.key(0))
        return functions["cross_entropy"](resize(out["logits"], *shape[1:]), label, valid)

    @jax.jit
    def evaluated(params):
        out, _ = net.apply(params, stats, image, train=False)
        said = jnp.argmax(resize(out["logits"], *shape[1:]), -1)
        return metrics.confusion(said, label, valid, args.classes)

    trained, scored = seconds(step, params, repeats=1), seconds(evaluated, params, repeats=1)
    print(f"training step with cross-entropy {trained:.2f} s, evaluation step {scored:.2f} s")
    for name, function in functions.items():
        gradient = jax.jit(jax.value_and_grad(function))
        spent = seconds(gradient, logits, label, valid, repeats=repeats)
        print(f"{name:<22} {1e3 * spent:8.1f} ms  {100 * spent / trained:5.2f} % of the step")
    counts = jax.jit(functools.partial(border_scores.border_counts, classes=args.classes))
    spent = seconds(counts, prediction, label, valid, repeats=repeats)
    print(f"{'border counts':<22} {1e3 * spent:8.1f} ms  {100 * spent / scored:5.2f} % of an evaluation step")


if __name__ == "__main__":
    main()
