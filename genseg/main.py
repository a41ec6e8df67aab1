"""Command line: `python -m genseg.main --config=configs/pretrain.py --workdir=DIR [--config.key=value ...]`.

--mode=train (default) trains, or goes on where the workdir stopped; --mode=dry_run compiles the step and describes it,
with --topology=v5e:16x16 for a TPU slice that is not there; --mode=eval scores a checkpoint in fixed, permuted and
reversed channel order; --mode=band_use scores a segmentation checkpoint without each of its bands;
--mode=seen draws what the network is given in training.
Exit status: 0 done, 2 a mistake that the message says how to mend, 75 told to end or a process of the job lost: the same
command goes on where it stopped (docs/resume.md).
"""

from __future__ import annotations

if __name__ == "__main__":  # the rest takes seconds to import
    from genseg import cli

    cli.answer_from_the_start()

import logging
import os
import re
import sys

from absl import app, flags
from ml_collections import config_flags

from genseg import cli, memory, recipes
from genseg.config import find_file, load_file, refuse_unknown_key, shipped
from genseg.dry_run import chips
from genseg.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and pictures; made if absent.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "dry_run", "eval", "band_use", "seen"], "What to do with the config."
)
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "--mode=dry_run: compile for this TPU slice, such as v5e:16x16; *N: N slices."
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "--mode=eval, band_use: a workdir or a step's folder; default: --workdir."
)
PERMUTATIONS = flags.DEFINE_integer("permutations", 5, "--mode=eval: random channel orders to average over.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unknown argument '{argv[1]}'; config values are given as --config.key=value")
    config = recipes.complete(CONFIG.value)
    if TOPOLOGY.value is not None:
        if MODE.value != "dry_run":
            raise UserError("--topology describes chips that are not there; it goes with --mode=dry_run")
        os.environ.update(chips.ENVIRONMENT)  # read when JAX is imported, just below
        from genseg.dry_run import run as dry_run

        print(dry_run.dry_run_for(config, TOPOLOGY.value))
        return
    if not (WORKDIR.value or "").strip() and MODE.value != "dry_run":
        said = "missing" if WORKDIR.value is None else "empty"
        raise UserError(f"--workdir is {said}; name the folder that checkpoints and metrics go to")
    if CHECKPOINT.value and MODE.value not in ("eval", "band_use"):
        raise UserError("--checkpoint goes with --mode=eval and band_use; training starts from config.init.checkpoint")
    if PERMUTATIONS.value < 1:
        raise UserError(f"--permutations is {PERMUTATIONS.value}; give at least 1")
    memory.keep_freed()
    # Imported late: a mistyped flag is answered at once, not after JAX has started.
    from genseg import api, band_use, outputs, partition, robustness, seen
    from genseg.dry_run import run as dry_run

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # says at length that a CPU is no TPU
    partition.start(outputs.cache_dir() / "xla")
    cli.start_log(logging.INFO if partition.is_main_process() else logging.WARNING)
    if MODE.value == "dry_run":
        print(dry_run.dry_run(config))
    elif MODE.value == "eval":
        robustness.run(config, WORKDIR.value, checkpoint=CHECKPOINT.value, permutations=PERMUTATIONS.value)
    elif MODE.value == "band_use":
        band_use.run(config, WORKDIR.value, checkpoint=CHECKPOINT.value)
    elif MODE.value == "seen":
        seen.run(config, WORKDIR.value)
    else:
        api.train(config, WORKDIR.value)


def usage() -> str:
    """What --help says. absl's own speaks of the program's first file, which is another one under `genseg train`."""
    ours = (CONFIG, WORKDIR, MODE, TOPOLOGY, CHECKPOINT, PERMUTATIONS)
    lines = [f"  --{flag.name}: {flags.FLAGS[flag.name].help}" for flag in ours]
    known = ", ".join(p.stem for p in sorted(shipped().glob("*.py")))
    return "\n".join(
        [__doc__.strip(), "", *lines, "", f"genseg's own config files: {known}. Each says at its top what it is for."]
    )


def parse(argv: list[str]) -> list[str]:
    """absl's flag parsing, with ml_collections' errors turned into one sentence."""
    if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
        print(usage())
        sys.exit(0)
    files = [re.fullmatch(r"--?config(?:=(.*))?", argument, re.DOTALL) for argument in argv]
    for place, file in enumerate(files):
        if file:  # ml_collections says of a file that fails no more than its traceback
            behind = file[1] is not None
            if not behind and place + 1 == len(argv):
                continue
            given = file[1] if behind else argv[place + 1]
            config = load_file(given)
            for argument in argv:
                if key := re.match(r"--?config\.([\w.]+)(=|$)", argument):
                    refuse_unknown_key(config, key[1])
            name, colon, options = given.partition(":")
            found = f"{find_file(name)}{colon}{options}"
            argv = (
                [*argv[:place], f"--config={found}", *argv[place + 1 :]]
                if behind
                else [*argv[: place + 1], found, *argv[place + 2 :]]
            )
    try:
        argv = flags.FLAGS(argv)
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(str(error), argv)) from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    if CONFIG.value is None:
        raise UserError("--config is missing; name a file such as configs/small_pretrain.py")
    return argv


def _unknown_key(reason: str, argv: list[str]) -> str:
    """ml_collections names one part of the key, within quotes that are escaped or not; the command line has all of it."""
    reason = reason.replace("\\n", " ").replace("\\", "")
    quoted, meant = re.search(r"['\"](\w+)['\"]", reason), re.search(r'Did you mean "(\w+)"', reason)
    names = [a.split("=")[0].lstrip("-") for a in argv if a.startswith("--config.")]
    full = next((name for name in names if quoted and quoted[1] in name.split(".")), "")
    if not full:
        return f"config: {' '.join(reason.split())}"
    hint = f"did you mean '{meant[1]}'?" if meant else "the config file has all keys there are"
    return f"unknown config key {full}; {hint}"


def run(argv: list[str] | None = None) -> None:
    """Entry point; ends the process with the status of `cli.run`."""

    def known(error: Exception) -> UserError | None:
        from genseg import processes

        if processes.several():
            processes.fail(error)
        return processes.out_of_memory(error)

    with cli.ending(known) as end:
        app.run(main, argv=argv, flags_parser=parse)
    sys.exit(end.status)


if __name__ == "__main__":
    run()
