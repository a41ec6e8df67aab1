"""The dry run: what it says agrees with arithmetic, with real batches and with compiled programs; it writes nothing."""

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec

from genseg import design, inputs, nets, partition, train, tree, watch
from genseg.data.batches import pipeline
from genseg.dry_run import chips, compiling, hlo, predicting
from genseg.dry_run import run as dry_run
from genseg.errors import UserError
from genseg.nets import flops
from genseg.report import lines

# A loop of 4 holds the all-reduce; layouts, tuples and started operations are written as the TPU compiler writes them.
PROGRAM = """HloModule jit_step
%add.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}

%body.1 (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %f.1 = f32[8,128]{1,0:T(8,128)} fusion(%p), kind=kLoop, metadata={op_name="jit(step)/while/body/transpose(jvp(stage0))/mlp/dot_general"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %r.1 = (bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/f32[]{:T(128)}) all-reduce(%f.1, %c), to_apply=%add.1, metadata={op_name="jit(step)/while/body/add"}
}

%condition.1 (p: (s32[], f32[8,128])) -> pred[] {
  %l.1 = pred[]{:T(512)} fusion(%p), kind=kLoop, backend_config={"window_config":{"estimated_cycles":"1"}}
}

ENTRY %main.2 (p: f32[8,128]) -> f32[8,128] {
  %f.2 = f32[8,128]{1,0} fusion(%p), kind=kLoop, metadata={op_name="jit(step)/jvp(csp)/bhwm,bmn->bhwn/dot_general"}, backend_config={"window_config":{"estimated_cycles":"1000"}}
  %g.1 = (f32[8,128]{1,0}, f32[32,128]{1,0}) all-gather-start(%f.2), dimensions={0}
  %g.2 = f32[32,128]{1,0} all-gather-done(%g.1)
  %w.1 = (s32[], f32[8,128]{1,0}) while(%t), condition=%condition.1, body=%body.1, backend_config={"known_trip_count":{"n":"4"}}
  ROOT %c.1 = (f32[8,128]{1,0}, pred[7]{0}, u32[], u32[]) collective-permute-start(%f.2), source_target_pairs={{0,1}}
}
"""


def test_reads_collectives_and_cycles_of_a_program():
    found = {(c.kind, c.size, c.times, c.dtype) for c in hlo.collectives(PROGRAM)}
    assert found == {
        ("all-reduce", 8 * 128 * 2 + 4, 4, "bf16+f32"),
        ("all-gather", 32 * 128 * 4, 1, "f32"),
        ("collective-permute", 7, 1, "pred"),
    }
    assert hlo.cycles(PROGRAM) == [
        hlo.Cycles("csp", False, 1000),
        hlo.Cycles("stage0/mlp", True, 400),
        hlo.Cycles("other", False, 4),
    ]
    assert [(o.name, o.cycles) for o in hlo.operations(PROGRAM)] == [("f.2", 1000), ("f.1", 400), ("l.1", 4)]
    assert hlo.operations(PROGRAM)[1].source.endswith("/mlp/dot_general")


def test_reads_collectives_of_compiled_programs(eight_devices):
    mesh = partition.make_mesh(2, 4)
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=partition.batch_sharding(mesh))

    def repeated(x):
        total, _ = jax.lax.scan(lambda c, _: (c + jnp.sum(x * c[0], 0), None), jnp.ones(32), length=3)
        return total

    def gathered(x):
        return jax.lax.with_sharding_constraint(x, PartitionSpec())

    with partition.use_mesh(mesh):
        (reduce,) = hlo.collectives(jax.jit(repeated).lower(x).compile().as_text())
        (gather,) = hlo.collectives(jax.jit(gathered).lower(x).compile().as_text())
    assert (reduce.kind, reduce.size, reduce.times) == ("all-reduce", 32 * 4, 3)
    assert (gather.kind, gather.size, gather.times) == ("all-gather", 16 * 32 * 4, 1)


def test_communication_time_by_hand():
    found = [hlo.Collective("all-reduce", 100, 2, "", "f32"), hlo.Collective("all-gather", 50, 1, "", "f32")]
    assert predicting.communication_seconds(found, 4, 10.0) == pytest.approx((2 * 200 + 50) * 3 / 4 / 10)
    assert predicting.communication_seconds(found, 1, 10.0) == 0


def multiply_adds_by_hand(size, kernel, stride, low, high):
    padded = np.zeros(size + low + high)
    padded[low : low + size] = 1
    return sum(padded[i : i + kernel].sum() for i in range(0, len(padded) - kernel + 1, stride))


@pytest.mark.parametrize(("kernel", "stride", "low", "high"), [(7, 1, 3, 3), (4, 4, 0, 0), (3, 2, 0, 1)])
def test_flops_of_convolutions_by_hand(kernel, stride, low, high):
    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), [(low, high)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    shapes = jnp.zeros((5, 12, 9, 4)), jnp.zeros((kernel, kernel, 2, 6))
    taps = multiply_adds_by_hand(12, kernel, stride, low, high) * multiply_adds_by_hand(9, kernel, stride, low, high)
    forward = 2 * 5 * taps * 2 * 6
    assert flops.of(jax.make_jaxpr(convolve)(*shapes).jaxpr) == forward
    both = jax.make_jaxpr(jax.grad(lambda *a: convolve(*a).sum(), (0, 1)))(*shapes)
    assert flops.of(both.jaxpr) == pytest.approx(3 * forward)  # the value, and the gradients of input and kernel


def test_flops_of_products_loops_and_choices():
    def program(a, b):
        a, _ = jax.lax.scan(lambda a, _: (a @ b, None), a, length=3)
        return jax.lax.platform_dependent(a, cpu=lambda a: a, default=lambda a: a @ b)

    traced = jax.make_jaxpr(program)(jnp.zeros((4, 5)), jnp.zeros((5, 5)))
    assert flops.of(traced.jaxpr) == 4 * (2 * 4 * 5 * 5)


# Multiply-adds of one image in the papers: ConvNeXt table 1 (2201.03545), Swin table 1 (2103.14030), rounded to 0.1 G.
@pytest.mark.parametrize(
    ("backbone", "published"),
    [("convnext_tiny", 4.5), ("convnext_base", 15.4), ("swin_tiny", 4.5)],
)
def test_flops_of_the_networks_are_the_published_ones(backbone, published):
    net = nets.classifier(backbone, channels=3, classes=1000, drop_path=0.0)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    traced = jax.make_jaxpr(lambda *a: net.apply(*a, train=False))(params, stats, image)
    assert flops.of(traced.jaxpr) / 2 / 2 / 1e9 == pytest.approx(published, rel=0.025)


@pytest.mark.parametrize("make", [tiny.pretrain, tiny.segment])
def test_planned_batches_are_those_that_come(make, tmp_path):
    run = design.setup(make(tmp_path / "data").lock(), str(tmp_path))
    with partition.use_mesh(run.mesh):
        batch = next(train.device_batches(run, 0, lines.Progress(0, 1, 1), watch.NonFiniteWatch(run)))
    planned = inputs.batch_shapes(run.config, inputs.card_without_data(run.config))
    assert {k: (x.shape, x.dtype) for k, x in planned.items()} == {k: (x.shape, x.dtype) for k, x in batch.items()}


def test_imagenet_is_planned_without_data(tmp_path):
    config = tiny.load("small_pretrain")
    config.data.name, config.data.data_dir = "imagenet2012", str(tmp_path / "nothing")
    card = inputs.card_without_data(config)
    assert card.splits == {"train": 1_281_167, "validation": 50_000} and len(card.classes) == 1000 and not card.notes
    assert not (tmp_path / "nothing").exists()


def mebibytes(line_start: str, text: str) -> float:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(line_start) and line.endswith("MiB")]
    return float(line.split()[-2].replace(",", ""))


def test_describes_and_writes_nothing(tmp_path, monkeypatch):
    config = tiny.pretrain(tmp_path / "data")
    config.ema.decay, config.mesh.fsdp = 0.9, 4
    config.train.steps, config.train.epochs, config.train.accumulation = 0, 2.0, 1
    config.optim.scaling, config.optim.scaling_batch, config.optim.learning_rate = "linear", 16, 4e-3
    config.eval.every = 5
    decoded, decode, here = [], pipeline.Split.decode, threading.get_ident()

    def counted(split, index, **options):
        if threading.get_ident() == here:  # readers of other tests may still be reading ahead, in threads of their own
            decoded.append(index)
        return decode(split, index, **options)

    monkeypatch.setattr(pipeline.Split, "decode", counted)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = dry_run.dry_run(config.lock())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "here"] and not list(Path().iterdir())
    assert len(decoded) == config.train.batch_size == 8 and "read: one batch, 8 images" in text
    # 48 images: 6 steps an epoch; rates for 16 halved.
    assert "plan: 12 steps of 8 images, 6.00 steps an epoch, 2.00 epochs; the first 1 steps are warm-up" in text
    assert (
        "rising to 0.002 over 1 steps" in text and "given for batches of 16, x 0.5 for 8 by the rule 'linear'" in text
    )
    assert "evaluations: every 5 steps and at the end, 3 in all, on val, 20 images" in text
    assert text.startswith("COMPILED FOR the devices at hand: 8 x cpu\n") and "--topology=v5e:16x16" in text
    assert "backbone/stem" in text and "all-gather" in text and "train.warmup_steps=1" in text  # the resolved config
    run = design.setup(config, str(tmp_path))
    held = sum(shards.size * 4 // (4 if "fsdp" in s.spec else 1) for shards, s in state_and_sharding(run))
    assert mebibytes("parameters ", text) == pytest.approx(held / 2**20, abs=0.05)
    assert mebibytes("averages (EMA)", text) == pytest.approx(held / 2**20, abs=0.05)
    assert mebibytes("optimizer ", text) == pytest.approx(2 * held / 2**20, abs=0.05)  # Adam's two moments


def state_and_sharding(run: design.Setup):
    return zip(jax.tree.leaves(run.abstract.params), jax.tree.leaves(run.sharding.params), strict=True)


def test_prediction_is_arithmetic_on_the_published_figures(tmp_path):
    config = tiny.pretrain(tmp_path / "data")
    run = design.setup(config.lock(), str(tmp_path))
    compiled = compiling.Compiled(10**9, 10**9, 0, 0, PROGRAM, flops=197e12 * 8 * 1e-3)
    text = predicting.predict(run, compiled, chips.CHIPS["v5e"], "v5e:2x4", hosts=2)
    seconds = 1404 / 1.5e9 + (2 * 4 * 2052 + 16384 + 7) * 7 / 8 / 200e9
    assert "2.00 of 16 GB" in text and "1.00 ms" in text  # 1 ms at the peak
    assert f"{8 / seconds / 2:,.0f} images/s a host (2 hosts, 4 images each" in text
    hours = run.plan.steps * seconds / 3600
    assert f"{hours * 8 * 1.20:,.0f} USD" in text
    assert "no figure for this chip's clock" in predicting.predict(
        run, compiled, chips.CHIPS["v6e"], "v6e:2x4", hosts=2
    )
    text = predicting.predict(run, compiled, chips.CHIPS["v5e"], "v5e:2x2*2", hosts=2)
    between = 1e3 * 4 * tree.count(run.abstract.params) / 4 / 3.125e9
    assert f"gradients between 2 slices at 3.12 GB/s: {between:.2f} ms" in text


@pytest.mark.parametrize(
    ("topology", "message"),
    [("v5e", "such as v5e:16x16"), ("v9:2x2", "known are v5e"), ("v5e:2x2*", "behind it"), ("v5e:2x2*0", "behind it")],
)
def test_unknown_slices_are_refused(topology, message):
    with pytest.raises(UserError, match=message):
        chips.chip_of(topology)


def test_topology_without_dry_run_is_refused():
    process = tiny.process([f"--config={tiny.ROOT}/configs/small_pretrain.py", "--topology=v5e:2x2"])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and "--mode=dry_run" in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is in genseg[tpu]")
@pytest.mark.parametrize(("topology", "devices", "hosts"), [("v5e:2x2", 4, 1), ("v5e:2x2*2", 8, 2)])
def test_compiles_for_slices_that_are_not_there(topology, devices, hosts, tmp_path):
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    arguments = [
        f"--config={tiny.ROOT}/configs/demo_pretrain.py", f"--config.data.data_dir={tmp_path}", "--mode=dry_run",
        f"--topology={topology}", "--config.data.train_images=48", "--config.data.val_images=20", "--config.mesh.fsdp=2",
        "--config.model.dtype=bfloat16",
    ]  # fmt: skip
    command = [sys.executable, "-m", "genseg.main", *arguments]
    text = subprocess.run(command, cwd=tiny.ROOT, env=clean, check=True, text=True, stdout=subprocess.PIPE).stdout
    assert f"{devices} chips on {hosts} hosts" in text and "predicted step" in text and "stage0/depthwise" in text
    assert "all-gather" in text and "all-reduce f32" in text and "all-reduce bf16" not in text
    count = tree.count(jax.eval_shape(tiny_net().init, jax.random.key(0))[0])
    assert f"{count:,}" in text


def tiny_net():
    config = tiny.load("demo_pretrain")
    return nets.classifier(config.model.backbone, channels=config.csp.channels, classes=8, drop_path=0.0)
