"""The loop in this process on eight devices: what a run writes, layouts that agree, transfer, mistakes."""

import contextlib
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from genseg import checkpoints, design, evaluate, partition, plan, processes, start, train, transfer, tree, watch
from genseg.dry_run import hlo
from genseg.errors import UserError
from genseg.report import lines, step_metrics

pytestmark = pytest.mark.usefixtures("narrow_micro")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, data_dir):
    """Workdirs of a CSP run with 4 channels and of an RGB run."""
    root = tmp_path_factory.mktemp("pretrained")
    csp = tiny.pretrain(data_dir)
    csp.ema.decay, csp.checkpoint.every = 0.9, 2
    train.train(csp.lock(), str(root / "csp"))
    rgb = tiny.pretrain(data_dir, "objective=rgb,channels=3")
    rgb.train.steps, rgb.profile.steps = 2, "2:2"
    train.train(rgb.lock(), str(root / "rgb"))
    return root


def test_a_run_writes_what_it_promises(pretrained):
    workdir = pretrained / "csp"
    result = json.loads((workdir / "result.json").read_text())
    assert result["step"] == 4 and result["synthetic"] is True and result["task"] == "pretrain"
    assert {"top1", "top5", "top1_permuted", "top1_reversed", "ema_top1"} <= result["scores"].keys()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4 and np.isfinite([x["train/loss"] for x in lines if "train/loss" in x]).all()
    assert all(0 <= x["train/save_wait"] < 1 for x in lines if "train/loss" in x)
    assert json.loads((workdir / "config.json").read_text())["csp"]["channels"] == 4
    assert list(workdir.glob("events.out.tfevents.*"))
    assert (workdir / "checkpoints" / "4").is_dir()


def test_the_trace_that_was_asked_for_is_there(pretrained):
    assert list((pretrained / "rgb" / "profile").rglob("*.xplane.pb"))
    assert not (pretrained / "csp" / "profile").exists()


def test_finished_run_is_evaluated_again_not_trained_again(pretrained, data_dir):
    config = tiny.pretrain(data_dir)
    config.ema.decay, config.checkpoint.every = 0.9, 2
    before = json.loads((pretrained / "csp" / "result.json").read_text())["scores"]
    assert train.train(config.lock(), str(pretrained / "csp"))["scores"] == before


@pytest.mark.parametrize(
    ("origin", "rule", "matched", "inflated"),
    [("csp", "exact", 40, 0), ("rgb", "repeat", 39, 1), ("", "exact", 0, 0)],
)
def test_fine_tuning_from_csp_rgb_and_scratch(pretrained, data_dir, tmp_path, caplog, origin, rule, matched, inflated):
    config = tiny.segment(data_dir)
    config.init.checkpoint = str(pretrained / origin) if origin else ""
    config.init.stem = rule
    if origin != "csp":  # one full run is enough; the others stop after the start
        with caplog.at_level("INFO"):
            state = start.initial_state(design.setup(config.lock(), str(tmp_path)))
        kernel = np.asarray(state.params["backbone"]["stem"]["conv"]["kernel"])
        assert kernel.shape[2] == 4
        if origin:
            source = checkpoints.load_weights(str(pretrained / origin), ema=False, only="backbone/stem/")
            expected = source.params["backbone"]["stem"]["conv"]["kernel"][:, :, [0, 1, 2, 0]] * 3 / 4
            np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    else:
        with caplog.at_level("INFO"):
            result = train.train(config.lock(), str(tmp_path))
        assert 0 <= result["scores"]["miou"] <= 1 and result["protocol"]
        for name in ("val_confusion.png", "val_samples.png", "val_classes.csv"):
            assert (tmp_path / "pictures" / name).stat().st_size > 100
    if origin:
        assert f"matched {matched} (backbone), inflated {inflated}" in caplog.text
    else:
        assert "from scratch" in caplog.text


def test_stem_of_csp_checkpoint_is_used_to_the_bit(pretrained):
    weights = checkpoints.load_weights(str(pretrained / "csp"), ema=True)
    target = jax.tree.map(lambda x: jnp.zeros_like(x), weights.params)
    adopted, summary = transfer.adopt_backbone(
        target, weights.params, rule="exact", key=jax.random.key(0), origin="csp"
    )
    for path, leaf in tree.items(adopted["backbone"]):
        np.testing.assert_array_equal(leaf, dict(tree.items(weights.params["backbone"]))[path])
    assert not summary.inflated and all(not p.startswith("backbone/") for p in summary.missing)


def test_checkpoints_that_do_not_fit_are_refused(pretrained, data_dir, tmp_path):
    config = tiny.segment(data_dir)
    config.init.checkpoint = str(pretrained / "rgb")
    with pytest.raises(UserError, match=r"3 input channels and this network needs 4.*config.csp.channels=4"):
        start.initial_state(design.setup(config, str(tmp_path)))
    config.init.stem, config.model.backbone = "repeat", "convnext_atto"
    with pytest.raises(UserError, match="set config.model.backbone"):
        start.initial_state(design.setup(config, str(tmp_path)))
    config.init.checkpoint = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no checkpoint at"):
        start.initial_state(design.setup(config, str(tmp_path)))
    with pytest.raises(UserError, match="no averaged weights"):
        checkpoints.load_weights(str(pretrained / "rgb"), ema=True)


def test_a_wrong_checkpoint_is_told_before_data_is_prepared(tmp_path):
    config = tiny.segment(tmp_path / "data")
    config.init.checkpoint = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no checkpoint at"):
        train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "data").exists()


def test_workdir_of_another_network_is_refused(pretrained, data_dir):
    config = tiny.pretrain(data_dir, "objective=csp,channels=5")
    config.ema.decay = 0.9
    with pytest.raises(UserError, match=r"csp.channels: 4 -> 5.*allow_changes=csp.channels"):
        train.train(config.lock(), str(pretrained / "csp"))
    config.unlock()
    config.checkpoint.allow_changes = "csp.channels,checkpoint"
    with pytest.raises(UserError, match=r"of another network: 1 parameters differ.*give another --workdir"):
        train.train(config.lock(), str(pretrained / "csp"))
    config = tiny.pretrain(data_dir)  # without averages
    with pytest.raises(UserError, match=r"another config \(ema.decay: 0.9 -> 0.0\)"):
        train.train(config.lock(), str(pretrained / "csp"))
    assert json.loads((pretrained / "csp" / "config.json").read_text())["ema"]["decay"] == 0.9  # nothing overwritten


def test_mixing_an_odd_microbatch_is_refused(data_dir, tmp_path):
    config = tiny.pretrain(data_dir)
    config.train.accumulation, config.mixing.prob, config.mixing.mixup = 8, 1.0, 0.8
    config.train.batch_size = 8
    with pytest.raises(UserError, match="make it even"):
        design.setup(config.lock(), str(tmp_path))


def test_accumulation_and_fsdp_change_nothing_but_rounding(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "FSDP_FLOOR", 256)  # the narrow network's parameters are small

    def gradient_norms_of_two_steps(accumulation, fsdp):
        config = tiny.pretrain(data_dir)
        config.train.batch_size, config.train.steps = 16, 2
        config.train.accumulation, config.mesh.fsdp = accumulation, fsdp
        config.csp.objective, config.csp.channels = "rgb", 3  # no randomness that depends on the microbatch
        run = design.setup(config.lock(), str(tmp_path))
        with partition.use_mesh(run.mesh):
            state, metrics = start.initial_state(run), step_metrics.fresh_metrics(run.mesh)
            batches = train.device_batches(run, 0, lines.Progress(0, 1, 1), watch.NonFiniteWatch(run))
            norms = []
            for _ in range(2):
                state, metrics = run.train_step(state, metrics, next(batches))
                norms.append(float(metrics.compute()["grad_norm"]))
            kernel = state.params["backbone"]["stages"]["3"]["blocks"]["0"]["mlp"]["fc1"]["kernel"]
            assert kernel.addressable_shards[0].data.size * fsdp == kernel.size  # sharded at rest
            return norms

    reference = gradient_norms_of_two_steps(1, 1)
    np.testing.assert_allclose(gradient_norms_of_two_steps(2, 1), reference, rtol=2e-4)
    np.testing.assert_allclose(gradient_norms_of_two_steps(1, 4), reference, rtol=2e-4)


def test_step_moves_gradients_and_statistics_only(data_dir, tmp_path):
    config = tiny.segment(data_dir)
    config.augment.size = (32, 32)
    run = design.setup(config.lock(), str(tmp_path))
    with partition.use_mesh(run.mesh):
        batch = next(train.device_batches(run, 0, lines.Progress(0, 1, 1), watch.NonFiniteWatch(run)))
        state, metrics = start.initial_state(run), step_metrics.fresh_metrics(run.mesh)
        text = run.train_step.lower(state, metrics, batch).compile().as_text()
        assert {c.kind for c in hlo.collectives(text)} == {"all-reduce"}

        step = evaluate.make_step(run.task, run.mesh)
        whole = evaluate.run(step, state.params, state.stats, run.data.eval_batches(), run.mesh)
    assert whole["confusion"].dtype == np.int64
    assert whole["confusion"].sum() == 10 * 64 * 64  # each image once; the filled-up rows do not count


def test_share_of_time_that_saving_took(monkeypatch):
    now = iter([0.0, 40.0, 60.0, 100.0])
    monkeypatch.setattr(lines.time, "monotonic", lambda: next(now))
    progress = lines.Progress(0, 100, 8)
    progress.saved(0.5)
    progress.restart(10)  # at 40 s: an evaluation's time is not training's, but saving is a share of all time
    progress.saved(0.1)
    lap = progress.lap(30)  # at 60 s, save_wait asked at 100 s
    assert lap["images_per_second"] == 8.0 and lap["save_wait"] == pytest.approx(0.006)


def test_a_first_control_c_asks_for_a_save_and_a_second_ends(capfd):
    told = processes.Preemption()
    try:
        assert not told()
        signal.raise_signal(signal.SIGINT)
        assert told() and told.interrupted and "Control-C again ends at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        told.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with contextlib.closing(processes.Preemption()) as again:
        signal.raise_signal(signal.SIGTERM)
        assert again() and not again.interrupted


def test_the_first_step_says_nothing_of_speed(caplog):
    """It is compiled first, here as on any device: its time would promise a run of hours."""
    progress = lines.Progress(7, 100, 8)
    lap = progress.lap(8)
    assert set(lap) == {"input_wait", "save_wait"} and "eta_seconds" in progress.lap(9)
    with caplog.at_level("INFO", logger="genseg"):
        lines.log_step(8, 100, {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 2.0} | lap)
    assert caplog.messages == ["step 8/100 | loss 1.0000 | lr 1.00e-01 | grad 2.00"]


def test_plan_arithmetic(data_dir):
    config = tiny.pretrain(data_dir)
    config.train.steps, config.train.epochs, config.train.warmup_epochs, config.train.warmup_steps = 0, 300.0, 20.0, 0
    config.train.batch_size = 4096
    made = plan.make_plan(config, 1_281_167, 8)
    assert (made.steps, made.warmup_steps) == (93_835, 6_255)
    config.train.epochs, config.train.batch_size, config.train.warmup_epochs = 49.0, 49, 0.0
    assert plan.make_plan(config, 1, 7).steps == 1  # 49 x (1 / 49) is less than 1
    config.train.steps = 5
    with pytest.raises(UserError, match="config.train.epochs or config.train.steps"):
        plan.make_plan(config, 100, 1)
    config.train.epochs, config.train.batch_size = 0.0, 12
    with pytest.raises(UserError, match="12 is not divisible by 1 microbatches on 8 devices"):
        plan.make_plan(config, 100, 8)


def test_a_share_of_the_training_records_is_what_is_read_and_counted(data_dir):
    config = tiny.segment(data_dir)
    config.train.steps, config.train.epochs, config.data.train_share = 0, 4.0, 0.5
    whole, part = (design.setup(c, "") for c in (tiny.segment(data_dir).lock(), config.lock()))
    assert (len(whole.data.train_split), len(part.data.train_split)) == (16, 8)
    assert part.plan.steps_per_epoch == 1 and part.plan.steps == 4 and len(part.data.eval_split) == 10
    drawn = [part.data.train_split.decode(i)["name"] for i in range(8)]
    names = [whole.data.train_split.decode(i)["name"] for i in range(16)]
    assert set(drawn) < set(names) and len(set(drawn)) == 8
    assert part.data.first_batch(part.mesh)["image"].shape[0] == 8


def test_non_finite_loss_stops_names_the_step_and_keeps_the_last_checkpoint(data_dir, tmp_path):
    config = tiny.pretrain(data_dir)
    config.train.steps, config.checkpoint.every = 6, 2
    config.optim.learning_rate = 1e30
    with pytest.raises(
        UserError, match=r"not finite at step \d.*lower config.optim.learning_rate.*records \["
    ) as error:
        train.train(config.lock(), str(tmp_path))
    assert str(tmp_path) in str(error.value)
    for saved in (tmp_path / "checkpoints").iterdir():
        weights = checkpoints.load_weights(str(saved), ema=False)
        assert all(np.isfinite(leaf).all() for _, leaf in tree.items(weights.params))
