"""A study as plain data, and the runs ("cells") that it consists of.

A study's file has STUDY, nested mappings of the fields of `Study`; studies/csp_small.py is one. Every pair of fine-tuned
networks that a comparison takes a difference of has the same number k: pair k starts from pre-training seed
seeds[k // f], f the fine-tuning seeds from each pre-trained network, and is fine-tuned with config.seed = k.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genseg import api, border_scores, keys, outputs
from genseg.errors import UserError
from genseg.keys import DIFFERENT, FILLED, Rule, at_least, each, one_of

CONFUSION_SCORES = ("miou", "mf1", "oa")
SCORES = (*CONFUSION_SCORES, *border_scores.NAMES)
"""What a comparison is of: scores that summed counts of scenes give."""
_FOLDER = Rule(
    "of letters, digits, '.', '-' and '_', a letter or digit first", lambda t: bool(re.fullmatch(r"\w[\w.-]*", t))
)
"""Of what names a folder."""
_SEEDS = (FILLED, DIFFERENT, each(at_least(0)))


@dataclasses.dataclass(frozen=True)
class Start:
    """A pre-training."""

    config: str = keys.key(..., "as behind --config=")
    set: dict[str, Any] = keys.key(..., "config keys beside it")
    seeds: tuple[int, ...] = keys.key(..., "a run for each", *_SEEDS)
    after: str | None = keys.key(
        None, "the Start whose network of the same seed this one goes on from; None for scratch"
    )


@dataclasses.dataclass(frozen=True)
class Arm:
    """What fine-tuning starts from."""

    start: str | None = keys.key(..., "the name of a Start, or None for scratch")
    set: dict[str, Any] = keys.key(..., "config keys, such as the stem rule")


@dataclasses.dataclass(frozen=True)
class Target:
    """A fine-tuning task."""

    config: str = keys.key(..., "as behind --config=")
    source: str = keys.key(..., "a name; `--source NAME=FOLDER` says where its data lies", FILLED)
    set: dict[str, Any] = keys.key(..., "config keys beside it")


@dataclasses.dataclass(frozen=True)
class Primary:
    """The one comparison for each target that was named beforehand: `score` of arm `better` minus that of arm `than`."""

    score: str = keys.key(..., "a name", one_of(*SCORES))
    better: str = keys.key(..., "an arm")
    than: str = keys.key(..., "another arm")


@dataclasses.dataclass(frozen=True)
class Study:
    """pretrain: starts by name. seeds: as many fine-tuning runs from each pre-trained network as there are seeds here."""

    name: str = keys.key(..., "of its reports' folder", _FOLDER)
    pretrain: Mapping[str, Start]
    pretrain_source: str = keys.key(..., "as Target.source", FILLED)
    arms: Mapping[str, Arm]
    targets: Mapping[str, Target]
    seeds: tuple[int, ...] = keys.key(..., "see above", *_SEEDS)
    primary: Primary

    @property
    def pairs(self) -> int:
        """Numbers of pairs. An arm whose start has fewer seeds than another start lacks the last ones."""
        return len(self.seeds) * max(len(start.seeds) for start in self.pretrain.values())

    def pretraining_of(self, pair: int) -> int:
        """Which pre-trained network, counted from 0, pair `pair` starts from."""
        return pair // len(self.seeds)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of `python -m genseg.main`.

    folder: its workdir, relative to the study's. source: the name of its data. needs: folder of the run that it starts
    from. arguments: all others of the command.
    """

    folder: str
    config: str
    source: str
    set: tuple[tuple[str, Any], ...]
    seed: int
    needs: str | None = None
    target: str = ""
    arm: str = ""
    pair: int = -1

    @property
    def kind(self) -> str:
        """Cells that take equally long."""
        return self.folder.rpartition("-s")[0]

    def arguments(self, out: Path, sources: Mapping[str, str], data_dir: str) -> list[str]:
        """What stands behind `python -m genseg.main`. A source that `sources` lacks is written as its name."""
        words = [
            f"--config={self.config}",
            f"--workdir={out / self.folder}",
            f"--config.data.source={sources.get(self.source, self.source)}",
        ]
        if data_dir:
            words.append(f"--config.data.data_dir={data_dir}")
        if self.needs:
            words.append(f"--config.init.checkpoint={out / self.needs}")
        return [*words, *(f"--config.{key}={value}" for key, value in self.set), f"--config.seed={self.seed}"]

    def command(self, out: Path, sources: Mapping[str, str], data_dir: str) -> str:
        return shlex.join(["python", "-m", "genseg.main", *self.arguments(out, sources, data_dir)])


def load(path: str) -> Study:
    """Raises UserError naming what is wrong with the file."""
    file = outputs.given(path, "the study")
    if not file.is_file() or not path.endswith(".py"):
        raise UserError(f"the study {path} is no Python file; name one such as studies/csp_small.py")
    spec = importlib.util.spec_from_file_location("genseg_study_file", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        plain = module.STUDY
    except (Exception, SystemExit) as error:
        raise UserError(f"the study {path} fails ({type(error).__name__}: {error}); correct it") from None
    return read(plain)


def read(plain: Mapping[str, Any]) -> Study:
    """A study of nested mappings. Raises UserError naming the part that is missing, unknown or does not fit the others."""
    top = _fields(Study, plain, "STUDY")
    for name, kind in (("pretrain", Start), ("arms", Arm), ("targets", Target)):
        if not isinstance(top[name], Mapping) or not top[name]:
            raise UserError(f"STUDY['{name}'] is empty or no mapping; give at least one of its entries a name")
        for key in top[name]:
            if not isinstance(key, str) or not _FOLDER.holds(key):
                raise UserError(f"STUDY['{name}'] has the name {key!r}; give one {_FOLDER.words}: it names a folder")
        top[name] = {key: kind(**_fields(kind, value, f"STUDY['{name}']['{key}']")) for key, value in top[name].items()}
    study = Study(**top | {"primary": Primary(**_fields(Primary, top["primary"], "STUDY['primary']"))})
    for key, start in study.pretrain.items():
        _check_after(study, key, start)
    for key, arm in study.arms.items():
        if arm.start is not None and arm.start not in study.pretrain:
            raise UserError(f"STUDY['arms']['{key}'] starts from '{arm.start}', which STUDY['pretrain'] lacks; add it")
    for arm in (study.primary.better, study.primary.than):
        if arm not in study.arms:
            raise UserError(f"STUDY['primary'] compares '{arm}', which STUDY['arms'] lacks; add it")
    if study.primary.better == study.primary.than:
        raise UserError(f"STUDY['primary'] compares '{study.primary.better}' with itself; name two arms")
    return study


def _check_after(study: Study, key: str, start: Start) -> None:
    if start.after is None:
        return
    where = f"STUDY['pretrain']['{key}'] goes on from '{start.after}'"
    before = study.pretrain.get(start.after)
    if before is None or start.after == key:
        raise UserError(f"{where}, which is no other entry of STUDY['pretrain']; name one")
    if before.after is not None:
        raise UserError(f"{where}, which itself goes on from '{before.after}'; name one that starts from scratch")
    if missing := sorted(set(start.seeds) - set(before.seeds)):
        raise UserError(f"{where}, which has no seed {missing[0]}; give it the same seeds")


def _fields(kind: type, value: Any, where: str) -> dict[str, Any]:
    known = {field.name: field for field in dataclasses.fields(kind)}
    wanted = set(known)
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is no mapping; give it the keys {', '.join(sorted(wanted))}")
    optional = {name for name, field in known.items() if field.default is not dataclasses.MISSING}
    if wrong := sorted((wanted - set(value) - optional) | (set(value) - wanted)):
        raise UserError(f"{where} lacks or does not know {', '.join(wrong)}; its keys are {', '.join(sorted(wanted))}")
    for name, field in known.items():
        if field.metadata and name in value:
            definition = keys.one(kind, name)
            if not definition.fits(value[name]):
                raise UserError(f"{where}['{name}'] is {value[name]!r}: give {definition.wanted}")
    return dict(value)


def check_configs(study: Study) -> None:
    """Raises UserError for a config that does not load, or a key that it does not have or takes no such value."""
    for start in study.pretrain.values():
        api.load_config(start.config, start.set)
    for target in study.targets.values():
        for arm in study.arms.values():
            api.load_config(target.config, target.set | arm.set)


def cells(study: Study) -> list[Cell]:
    """All runs, those first that the primary comparison needs, pairs by turns so that a study cut short is balanced."""
    found = []
    for name, start in study.pretrain.items():
        for seed in start.seeds:
            needs = f"pretrain/{start.after}-s{seed}" if start.after else None
            folder, keys = f"pretrain/{name}-s{seed}", tuple(start.set.items())
            found.append(Cell(folder, start.config, study.pretrain_source, keys, seed, needs))
    for target_name, target in study.targets.items():
        for arm_name, arm in study.arms.items():
            for pair in range(study.pairs):
                needs = None
                if arm.start is not None:
                    seeds, place = study.pretrain[arm.start].seeds, study.pretraining_of(pair)
                    if place >= len(seeds):
                        continue
                    needs = f"pretrain/{arm.start}-s{seeds[place]}"
                found.append(
                    Cell(
                        f"finetune/{target_name}/{arm_name}-s{pair}", target.config, target.source,
                        (*target.set.items(), *arm.set.items()), pair, needs, target_name, arm_name, pair,
                    )
                )  # fmt: skip
    primary = {study.primary.better, study.primary.than}
    first = {cell.needs for cell in found if cell.arm in primary}
    first |= {cell.needs for cell in found if cell.folder in first}
    ours = [cell.arm in primary or cell.folder in first for cell in found]

    def place(item: tuple[Cell, bool]) -> tuple:
        cell, needed = item
        turn = study.pretraining_of(cell.pair) + cell.pair % len(study.seeds) * study.pairs if cell.target else 0
        return not needed, bool(cell.target), turn if cell.target else cell.seed, cell.needs is not None

    return [cell for cell, _ in sorted(zip(found, ours, strict=True), key=place)]
