"""UperNet's head in each form of `config.model.fusion`: time on this CPU, and the TPU compiler's cycles for chips that are not there.

    python benchmarks/upernet_head.py                                  # milliseconds of processor time, the least of three
    python benchmarks/upernet_head.py --topology v5e:2x2 --images 4    # cycles, a chip's images; needs genseg[tpu], minutes
    python benchmarks/upernet_head.py --side 896 --images 1

The head of configs/segment_*.py (512 channels, or `--channels`) over the four maps of a ConvNeXt-T for images of `--side` pixels, alone and with
its gradients. float32 on a CPU, bfloat16 for TPUs, whose cycles are the compiler's model and no measurement.
"""

import argparse
import os
import time

from genseg.dry_run import chips

os.environ.update(chips.ENVIRONMENT)

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from genseg import compiling, partition
from genseg.dry_run import hlo, topology
from genseg.nets import fusion
from genseg.nets.upernet import UperHead

STAGES, CLASSES = {4: 96, 8: 192, 16: 384, 32: 768}, 16  # stride: features


def programs(form: str, channels: int, dtype: str):
    """(the head's state without values, forward, forward and gradients)."""
    head = nnx.eval_shape(
        lambda: UperHead(
            [*STAGES.values()], CLASSES, channels, 0.1, form=form, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)
        )
    )
    graph, state = nnx.split(head)

    def evaluated(state, maps):
        return nnx.merge(graph, state)(maps, train=False, key=None)

    def trained(state, maps, key):
        def loss(state, maps):
            head = nnx.merge(graph, state)
            return jnp.mean(jnp.square(head(maps, train=True, key=key))), nnx.state(head, nnx.BatchStat)

        return jax.value_and_grad(loss, (0, 1), has_aux=True, allow_int=True)(state, maps)

    return state, evaluated, trained


def on_cpu(form: str, channels: int, images: int, side: int) -> tuple[float, float]:
    """Milliseconds: (evaluation, training)."""
    state, evaluated, trained = programs(form, channels, "float32")
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    state = jax.tree.map(lambda leaf: 0.05 * jnp.abs(jax.random.normal(next(keys), leaf.shape)), state)
    maps = [jax.random.normal(next(keys), (images, side // s, side // s, d)) for s, d in STAGES.items()]
    options = compiling.forward_options(partition.make_mesh())  # as maps and evaluation are compiled
    evaluated, trained, key = jax.jit(evaluated, compiler_options=options), jax.jit(trained), jax.random.key(1)
    found = []
    for call in (lambda: evaluated(state, maps), lambda: trained(state, maps, key)):
        jax.block_until_ready(call())
        times = []
        for _ in range(3):
            began = time.process_time()
            jax.block_until_ready(call())
            times.append(time.process_time() - began)
        found.append(1e3 * min(times))
    return found[0], found[1]


def on_tpu(form: str, channels: int, images: int, side: int, slice_: str) -> tuple[str, int]:
    """(text of the program of loss and gradients, bytes of temporaries), a chip."""
    state, _, trained = programs(form, channels, "bfloat16")
    mesh = partition.make_mesh(-1, 1, topology.described_devices(slice_))
    split, whole = partition.batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())

    def abstract(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = jax.tree.map(lambda leaf: abstract(leaf, whole), state)
    shapes = [(images * mesh.size, side // s, side // s, d) for s, d in STAGES.items()]
    maps = [abstract(jax.ShapeDtypeStruct(shape, jnp.bfloat16), split) for shape in shapes]
    with partition.use_mesh(mesh):
        key = jax.eval_shape(lambda: jax.random.key(0))
        program = jax.jit(trained).lower(state, maps, abstract(key, whole)).compile()
    return program.as_text(), program.memory_analysis().temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--channels", type=int, default=512, help="of the head")
    parser.add_argument("--images", type=int, default=1, help="a batch, or a chip's")
    parser.add_argument("--topology", default="", help="of TPUs, such as v5e:2x2; default: this CPU")
    parser.add_argument("--operations", type=int, default=0, metavar="N", help="print the N dearest for a TPU too")
    parser.add_argument("--forms", nargs="+", choices=fusion.FORMS, default=fusion.FORMS)
    options = parser.parse_args()
    for form in options.forms:
        what = f"{form}, {options.images} images of {options.side} pixels:"
        if options.topology:
            text, temporaries = on_tpu(form, options.channels, options.images, options.side, options.topology)
            print(
                f"{what} {sum(one.cycles for one in hlo.cycles(text)):,} cycles, temporaries {temporaries / 1e9:.3f} GB",
                flush=True,
            )
            for operation in hlo.operations(text)[: options.operations]:
                print(f"  {operation.cycles:10,} {operation.name} {operation.shape} {operation.source}")
        else:
            evaluated, trained = on_cpu(form, options.channels, options.images, options.side)
            print(f"{what} {evaluated:.0f} ms, with gradients {trained:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
