"""Which parameters of a segmenter keep their weights: `config.model.freeze` and `config.model.thaw_every`.

The backbone has five parts in the order of its layers: the stem (0) and the four stages, each with the downsampling before
it (1 .. 4). Norms and heads behind it are always trained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEPTHS = {"none": 0, "stem": 1, "stage_1": 2, "stage_2": 3, "stage_3": 4, "backbone": 5}
"""Name -> how many parts are frozen, from the stem on."""


def part_of(path: str) -> int | None:
    """Of the parameter at this path; None outside the backbone."""
    if not path.startswith("backbone/"):
        return None
    stage = re.match(r"backbone/stages/(\d+)/", path)
    return int(stage[1]) + 1 if stage else 0


@dataclass(frozen=True)
class Freezing:
    """upto: the last frozen part, a key of DEPTHS. thaw_every: after each so many steps the last part that is still
    frozen is trained too (gradual unfreezing: Howard and Ruder 2018, arXiv 1801.06146); 0 = never."""

    upto: str = "none"
    thaw_every: int = 0

    @property
    def backbone_is_fixed(self) -> bool:
        """From the first step to the last."""
        return self.upto == "backbone" and not self.thaw_every

    def holds(self, path: str) -> bool:
        """Whether the parameter at this path is frozen at the first step."""
        part = part_of(path)
        return part is not None and part < DEPTHS[self.upto]

    def never_trained(self, path: str) -> bool:
        return self.holds(path) and not self.thaw_every

    def first_step(self, path: str) -> int:
        """The step, from 0, at which training of a parameter begins that is not `never_trained`."""
        return (DEPTHS[self.upto] - part_of(path)) * self.thaw_every if self.holds(path) else 0


NOTHING_FROZEN = Freezing()
