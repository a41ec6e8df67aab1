"""Reads the text of a compiled program: which collectives run, how much they move, where the compiler expects the time."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z\d\-]*)\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)(?:e\dm\d\w*)?\[([\d,]*)\]")
_COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?")
_CALLED = re.compile(r"(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    kind: all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute; size: bytes of its result on one
    device; times: how often a run of the program executes it; scope: where in the code it comes from; dtype: of the
    elements, as XLA writes it ("f32", "bf16"), several joined by "+" where one instruction carries several arrays.
    """

    kind: str
    size: int
    times: int
    scope: str
    dtype: str


@dataclasses.dataclass(frozen=True)
class Cycles:
    """The compiler's cycle estimates of all fused operations of one scope; backward: of the gradient's."""

    scope: str
    backward: bool
    cycles: int


@dataclasses.dataclass(frozen=True)
class Operation:
    """The compiler's cycle estimate of one fused operation, its type, and the code that it comes from."""

    name: str
    shape: str
    source: str
    cycles: int


def collectives(text: str) -> list[Collective]:
    """All collectives of a compiled program (`compiled.as_text()`), one entry an instruction."""
    found = []
    for times, line, shape, opcode in _executed(text):
        if match := _COLLECTIVE.fullmatch(opcode):
            arrays = _arrays(shape)
            if match[2] and match[1] != "all-reduce":  # started operations return operands, then results, then flags
                arrays = arrays[1:2] if match[1] == "collective-permute" else arrays[len(arrays) // 2 :]
            dtype = "+".join(sorted({kind for kind, _ in arrays}))
            found.append(Collective(match[1], sum(size for _, size in arrays), times, scope_of(line)[0], dtype))
    return found


def cycles(text: str) -> list[Cycles]:
    """The TPU compiler's estimates, added up by scope and direction, largest first; [] for another platform's program.

    A loop of known length counts as often as it runs, one of unknown length once. Collectives have no estimate, and
    an opaque kernel (Pallas) none either. It is the compiler's model, not a measurement.
    """
    sums: collections.Counter = collections.Counter()
    for times, line, _, _ in _executed(text):
        if match := _CYCLES.search(line):
            sums[scope_of(line)] += times * int(match[1])
    return [Cycles(scope, backward, n) for (scope, backward), n in sums.most_common()]


def operations(text: str) -> list[Operation]:
    """All operations with an estimate, as in `cycles`, the dearest first."""
    found = []
    for times, line, shape, _ in _executed(text):
        if match := _CYCLES.search(line):
            name, source = _INSTRUCTION.match(line)[1], _OP_NAME.search(line)
            found.append(Operation(name, shape, source[1] if source else "", times * int(match[1])))
    return sorted(found, key=lambda operation: -operation.cycles)


def scope_of(line: str) -> tuple[str, bool]:
    """(names of jax.named_scope around an instruction, joined by "/"; whether it belongs to the backward pass).

    JAX wraps names in the transformations that they went through, as in transpose(jvp(stage0))/mlp/dot_general.
    """
    match = _OP_NAME.search(line)
    name = match[1] if match else ""
    backward = "transpose(" in name
    while (shorter := re.sub(r"\bjit\([^()]*\)|(?:transpose|jvp|vmap|checkpoint)\(([^()]*)\)", r"\1", name)) != name:
        name = shorter
    scopes = [part for part in name.split("/")[:-1] if re.fullmatch(r"[a-z][a-z_]*\d?", part)]
    return "/".join(s for s in scopes if s not in _STRUCTURE) or "other", backward


_STRUCTURE = {"while", "body", "cond", "body_pred", "closed_call", "checkpoint", "rematted_computation", "pjit"}


def _arrays(shape: str) -> list[tuple[str, int]]:
    """(element type, bytes) of each array of an instruction's type."""
    arrays = re.sub(r"\{[^{}]*\}", "", shape)  # layouts
    return [
        (kind, -(-_bits(kind) * math.prod(int(n) for n in dims.split(",") if n) // 8))
        for kind, dims in _ARRAY.findall(arrays)
    ]


def _bits(kind: str) -> int:
    """Of an element: pred is stored in a byte; f8e4m3 and the like are read up to their first number."""
    return 8 if kind == "pred" else int(re.search(r"\d+", kind)[0])


def _executed(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(times executed, line, type, opcode) of every instruction of every computation that the entry reaches."""
    bodies: dict[str, list[str]] = {}
    entry = current = None
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[2]
            bodies[current] = []
            entry = current if match[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            bodies[current].append(line)

    def walk(name: str, times: int) -> Iterator[tuple[int, str, str, str]]:
        for line in bodies.get(name, ()):
            match = _INSTRUCTION.match(line)
            if not match:
                continue
            yield times, line, match[2], match[3]
            trips = _TRIPS.search(line)
            inner = times * int(trips[1]) if trips else times
            for called in {name for _, name in _CALLED.findall(line)}:
                yield from walk(called, inner)
            if branches := _BRANCHES.search(line):
                for called in branches[1].split(","):
                    yield from walk(called.strip().lstrip("%"), inner)

    if entry is not None:
        yield from walk(entry, 1)
