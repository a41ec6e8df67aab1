"""The TPU compiler's cycles for the loss's gradient of one block, for chips that are not there.

    python benchmarks/tpu_blocks.py                                        # needs genseg[tpu]; a minute a line on two cores
    python benchmarks/tpu_blocks.py --network convnext_tiny --stages 0 --images 128 --operations 20

Every stage's block (Swin: the shifted one, in each form of `config.model.attention`) as configs/pretrain.py trains it at
224 px: bfloat16, float32 weights, drop path; spread over the data of four chips. A network's own blocks stand in sequence
and are compiled alone here, so sums are of blocks and no network's. Cycles are the compiler's model, not a measurement.
`--operations` prints the dearest ones too, with the code that they come from: where to look for a better form.
"""

import argparse
import os
import time

from genseg.dry_run import chips

os.environ.update(chips.ENVIRONMENT)

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from genseg import nets, partition
from genseg.dry_run import hlo, topology
from genseg.nets import convnext, swin


def block(network: str, stage: int, form: str) -> tuple[nnx.Module, int]:
    """(the stage's second block without its weights' values, its features)."""
    options = nets.BACKBONES[network].keywords
    shared = dict(drop_path=0.1, dtype=jnp.bfloat16)
    if network.startswith("swin"):
        features, heads = options["embed"] * 2**stage, options["heads"][stage]
        shared |= dict(heads=heads, shifted=True, always_partition=False, attention=form)
        return nnx.eval_shape(lambda: swin.Block(features, **shared, rngs=nnx.Rngs(0))), features
    features = options["dims"][stage]
    shared |= dict(init=nnx.initializers.normal(0.02), layer_scale=1e-6)
    return nnx.eval_shape(lambda: convnext.Block(features, **shared, rngs=nnx.Rngs(0))), features


def compiled(network: str, stage: int, form: str, images: int, slice_: str) -> tuple[str, int]:
    """(text of the program, bytes of its temporaries) for `images` a chip."""
    module, features = block(network, stage, form)
    graph, params = nnx.split(module)
    mesh = partition.make_mesh(-1, 1, topology.described_devices(slice_))
    split, whole = partition.batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())

    def gradient(params, x, key, target):
        def loss(params, x):
            y = nnx.merge(graph, params)(x, jax.random.wrap_key_data(key))
            return jnp.sum(y.astype(jnp.float32) * target)

        return jax.value_and_grad(loss, (0, 1))(params, x)

    def abstract(shape, dtype, sharding=whole):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    side = 56 // 2**stage
    weights = jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype), params)
    x = abstract((images * mesh.size, side, side, features), jnp.bfloat16, split)
    results = (whole, (jax.tree.map(lambda _: whole, params), split))
    with partition.use_mesh(mesh):
        traced = jax.jit(gradient, out_shardings=results).lower(
            weights, x, abstract((2,), np.uint32), abstract((features,), jnp.float32)
        )
        program = traced.compile()
    return program.as_text(), program.memory_analysis().temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="swin_tiny")
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--forms", nargs="+", choices=swin.FORMS, default=swin.FORMS)
    parser.add_argument("--images", type=int, default=16, help="a chip")
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--operations", type=int, default=0, metavar="N", help="print the N dearest too")
    options = parser.parse_args()
    for stage in options.stages:
        for form in options.forms if options.network.startswith("swin") else ("",):
            began = time.monotonic()
            text, temporaries = compiled(options.network, stage, form, options.images, options.topology)
            sums: dict[str, int] = {}
            for one in hlo.cycles(text):
                scope = one.scope.split("/")[0]
                sums[scope] = sums.get(scope, 0) + one.cycles
            parts = ", ".join(f"{scope} {n:,}" for scope, n in sums.items())
            print(
                f"{options.network} stage {stage} {form}: {sum(sums.values()):,} cycles ({parts}), temporaries "
                f"{temporaries / 1e9:.3f} GB, compiled in {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for operation in hlo.operations(text)[: options.operations]:
                print(f"  {operation.cycles:10,} {operation.name} {operation.shape} {operation.source}")


if __name__ == "__main__":
    main()
