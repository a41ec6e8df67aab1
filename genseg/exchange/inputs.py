"""A foreign checkpoint as a genseg checkpoint, to start training from."""

from __future__ import annotations

import argparse

import jax
import numpy as np

from genseg import checkpoints, exchange, nets, state
from genseg import outputs as outputs_rules
from genseg.errors import UserError
from genseg.exchange import described
from genseg.recipes.imported import imported_config


def import_weights(args: argparse.Namespace) -> None:
    """The command `import`: a genseg checkpoint at step 0, to start training from (config.init.checkpoint)."""
    folder = outputs_rules.given(args.output, "--output")
    if args.card is not None:
        outputs_rules.given(args.card, "--card")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; give a new folder for the imported checkpoint")
    for name in ("channels", "classes", "head_channels", "aux_channels"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 1 << 20:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a number from 1 to {1 << 20:,}")
    if not 0 <= args.seed < 1 << 32:
        raise UserError(f"--seed is {args.seed}; give a number from 0 to {(1 << 32) - 1}")
    # What is not given is read from the file; where that does not say, the published sizes.
    found, published = exchange.sizes(args.input, args.backbone), exchange.Sizes(3, 1000, 512, 256)
    for name in ("channels", "classes", "head_channels", "aux_channels"):
        if getattr(args, name) is None:
            own = getattr(found, name)
            setattr(args, name, getattr(published, name) if own is None else own)
    options = {"channels": args.channels, "classes": args.classes, "drop_path": 0.0}
    if args.task == "segmenter":
        options |= {"head_channels": args.head_channels, "aux_channels": args.aux_channels}
    card, known = described.card_of(args)
    net = getattr(nets, args.task)(args.backbone, **options)
    params, stats = jax.jit(net.init)(jax.random.key(args.seed))
    params, stats, report = exchange.adopt(
        params, stats, args.input, parts=args.parts, stem=args.stem, key=jax.random.key(args.seed)
    )
    print(f"{args.input}: {report}")
    for group in ("missing", "unused"):
        for name in getattr(report, group):
            print(f"  {group}: {name}")
    meta = {
        "config": imported_config(args.task, args.backbone, args.head_channels, args.aux_channels, args.input),
        "card": card.to_json(),
        "versions": checkpoints.versions(),
    }
    with outputs_rules.staged(folder.absolute()) as staged:
        saver = checkpoints.Checkpoints(str(staged), keep=1)
        saver.save(state.TrainState(np.int32(0), params, stats, {}, {}), batches=0, meta=meta, score=None)
        saver.wait()
        saver.close()
    print(f"written: {args.output}; {known}")
