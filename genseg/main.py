"""Command line: `python -m genseg.main --config=configs/pretrain.py --workdir=DIR [--config.key=value ...]`.

--mode=train (default) trains, or goes on where the workdir stopped; --mode=dry_run compiles the step and describes it,
with --topology=v5e:16x16 for a TPU slice that is not there; --mode=eval scores a checkpoint in fixed, permuted and
reversed channel order.
Exit status: 0 done, 2 a mistake that the message says how to mend, 75 told to end or a process of the job lost: the same
command goes on where it stopped (docs/resume.md).
"""

from __future__ import annotations

import logging
import os
import re
import sys

from absl import app, flags
from ml_collections import config_flags

from genseg import cli, recipes
from genseg.config import listing
from genseg.dry_run import chips
from genseg.errors import TryAgain, UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and pictures; made if absent.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "dry_run", "eval"], "What to do with the config.")
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "--mode=dry_run: compile for this TPU slice, such as v5e:16x16; *N: N slices."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "", "--mode=eval: a workdir or a step's folder; default: --workdir.")
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
    if WORKDIR.value is None and MODE.value != "dry_run":
        raise UserError("--workdir is missing; name the folder that checkpoints and metrics go to")
    # Imported late: a mistyped flag is answered at once, not after JAX has started.
    from genseg import inputs, partition, robustness, train
    from genseg.dry_run import run as dry_run

    partition.start(inputs.cache_dir() / "xla")
    cli.start_log(logging.INFO if partition.is_main_process() else logging.WARNING)
    if MODE.value != "dry_run":  # which prints it
        logging.getLogger("genseg").info("config:\n%s", listing(config))
    if MODE.value == "dry_run":
        print(dry_run.dry_run(config))
    elif MODE.value == "eval":
        robustness.run(config, WORKDIR.value, checkpoint=CHECKPOINT.value, permutations=PERMUTATIONS.value)
    else:
        train.train(config, WORKDIR.value)


def parse(argv: list[str]) -> list[str]:
    """absl's flag parsing, with ml_collections' errors turned into one sentence."""
    try:
        argv = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise UserError("--config is missing; name a file such as configs/small_pretrain.py")
        _ = CONFIG.value.task  # ml_collections reports a file that did not load at the first access
        return argv
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(str(error), argv)) from error
    except OSError as error:
        reason = " ".join(str(error).split()).rpartition("[Errno ")[2].rpartition("] ")[2]
        raise UserError(f"the config file does not load: {reason}; name one of those in configs/") from error
    except flags.Error as error:
        # A config file's own UserError arrives as the last line of a traceback in text.
        raise UserError(str(error).rpartition("genseg.errors.UserError: ")[2].strip()) from error


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
    """Entry point: user mistakes end in one sentence and status 2, not in a traceback."""
    try:
        app.run(main, argv=argv, flags_parser=parse)
    except Exception as error:
        from genseg import processes

        if processes.several():
            processes.fail(error)
        error = processes.out_of_memory(error) or error
        if not isinstance(error, UserError | TryAgain):
            raise error
        sys.exit(cli.tell(error))


if __name__ == "__main__":
    run()
