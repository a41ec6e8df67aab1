"""genseg's side of a `job.Job`, on the devices that JAX has."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from job import CLASSES, DECAY, RATE, SMOOTHING, Job
from safetensors.numpy import save_file

from genseg import compiling, exchange, inputs, nets, partition, state, tree
from genseg.design import make_design
from genseg.nets import flops
from genseg.report import step_metrics
from genseg.tasks import normalise

sys.path.append(str(Path(__file__).resolve().parents[1]))
from configs import pretrain


def drawn(params: tree.Tree) -> tree.Tree:
    """Weights at which nothing is zero or vanishes, as a fresh network's layer scales do. Only shapes of `params` are read."""
    rng = np.random.default_rng(1)

    def leaf(path: str, value: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=value.shape).astype(np.float32)
        if value.ndim == 1:
            return 0.1 * noise + (1.0 if path.endswith("scale") else 0.2 if path.endswith("gamma") else 0.0)
        return noise / np.sqrt(max(np.prod(value.shape[:-1]), 1)).astype(np.float32)

    return tree.from_items({path: leaf(path, value) for path, value in tree.items(params)})


def build(job: Job) -> tuple[Callable[[int], np.ndarray], dict[str, np.ndarray], float]:
    """(call, weights under timm's names, FLOPs of a call). call(n) does the job n times and returns the last answer:
    logits [b classes], or the loss before that step."""
    return _training(job) if job.train else _inference(job)


def write_weights(weights: dict[str, np.ndarray], path: Path) -> None:
    save_file(weights, path)


def _inference(job: Job):
    net = nets.classifier(job.backbone, channels=3, classes=CLASSES, drop_path=0.0, dtype=job.dtype)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))  # classifiers keep no statistics
    params = drawn(params)
    card = inputs.card_without_data(_config(job))

    def forward(params, stats, image):
        return net.apply(params, stats, normalise(image, card), train=False)[0].astype(np.float32)

    weights = exchange.export(params, stats, job.backbone, "timm")
    arguments = jax.device_put((params, stats, job.data()[0]))
    jitted = jax.jit(forward, compiler_options=compiling.forward_options(partition.make_mesh()))

    def call(times: int) -> np.ndarray:
        for _ in range(times):
            out = jitted(*arguments)
        return np.asarray(out)

    return call, weights, flops.of(jax.make_jaxpr(forward)(*arguments).jaxpr)


def _config(job: Job):
    config = pretrain.get_config(f"{job.backbone},channels=3,objective=rgb")
    config.train.batch_size, config.augment.size, config.model.dtype = job.batch, job.size, job.dtype
    config.model.drop_path = config.mixing.prob = config.erasing.prob = config.ema.decay = config.optim.clip_norm = 0.0
    config.optim.scaling, config.loss.smoothing, config.optim.weight_decay = "none", SMOOTHING, DECAY
    config.optim.learning_rate = config.optim.warmup_learning_rate = config.optim.min_learning_rate = RATE
    return config


def _training(job: Job):
    config, mesh = _config(job), partition.make_mesh()
    design = make_design(config, inputs.card_without_data(config), mesh)
    init = jax.jit(functools.partial(state.init, design.task.net, optimizer=design.optimizer, ema=False))
    fresh = init(jax.random.key(0))
    # Laid out as a step returns it: else the second step would be another program.
    fresh = jax.device_put(fresh._replace(params=drawn(fresh.params)), design.sharding)
    weights = exchange.export(fresh.params, fresh.stats, job.backbone, "timm")
    now = {"state": fresh}
    image, label = job.data()
    batch = {"image": image, "label": label, "valid": np.ones(job.batch, bool), "index": np.arange(job.batch)}
    batch = partition.to_global(batch, mesh)

    def call(times: int) -> np.ndarray:
        with partition.use_mesh(mesh):
            metrics = step_metrics.fresh_metrics(mesh)
            for _ in range(times):
                now["state"], metrics = design.train_step(now["state"], metrics, batch)
            return np.asarray(metrics.loss.total / metrics.loss.count)

    with partition.use_mesh(mesh):
        traced = jax.make_jaxpr(design.train_step)(fresh, step_metrics.fresh_metrics(mesh), batch)
    return call, weights, flops.of(traced.jaxpr)
