"""Where a program can be cut: the places that one tensor alone crosses.  What lies between them is a program again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lhcc.errors import Unplaceable
from lhcc.integer import Add, Concat, Conv, Dense, Flatten, Input, Instruction, Program, SumPool
from lhcc.targets.fpga.folded_jobs import Folding
from lhcc.targets.fpga.folded_program import fold

_OPENS = (Conv, Dense, SumPool, Add, Concat, Flatten)
"""instructions that may begin a piece; all others belong to the layer before them"""


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive instructions as a program of their own, and how they would run on a block array."""

    program: Program

    @cached_property
    def folding(self) -> Folding | None:
        try:
            return fold(self.program)
        except Unplaceable:
            return None

    @property
    def pixels(self) -> int:
        """of the image that comes in"""
        shape = self.program.types[self.program.inputs[0].name].shape
        return shape[0] * shape[1] if len(shape) == 3 else 1


def cut(program: Program) -> tuple[Piece, ...]:
    """The smallest pieces; a program with several inputs or outputs is one."""
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        return (Piece(program),)
    steps = program.instructions
    last_use = {program.outputs[0]: len(steps)}
    for k, step in enumerate(steps):
        for name in step.inputs:
            last_use[name] = max(last_use.get(name, 0), k)
    pieces, begin = list[Piece](), 1
    for k in range(1, len(steps) - 1):
        crossing = [s.name for s in steps[: k + 1] if last_use.get(s.name, 0) > k]
        users = program.users[steps[k].name]
        opens = bool(users) and all(isinstance(u, _OPENS) for u in users) and not isinstance(steps[k], Flatten)
        computes = any(not isinstance(s, Flatten) for s in steps[k + 1 :])  # a last Flatten is no work for an array
        if crossing == [steps[k].name] and opens and computes:
            pieces.append(Piece(_part(program, steps[begin : k + 1])))
            begin = k + 1
    return (*pieces, Piece(_part(program, steps[begin:])))


def _part(program: Program, steps: Sequence[Instruction]) -> Program:
    """`steps` with the one tensor that they take from outside as an input of just its intervals."""
    inside = {s.name for s in steps}
    (name,) = {n for s in steps for n in s.inputs if n not in inside}
    t = program.types[name]
    return Program([Input(name, (), t.shape, t.scale, t.low, t.high), *steps], [steps[-1].name], program.layout)


def joined(pieces: Sequence[Piece]) -> Program:
    """Neighbouring pieces as one program."""
    first = pieces[0].program
    later = [s for p in pieces[1:] for s in p.program.instructions if not isinstance(s, Input)]
    return Program([*first.instructions, *later], pieces[-1].program.outputs, first.layout)


def folded(pieces: Sequence[Piece]) -> Folding:
    """Neighbouring pieces on one array."""
    parts = [p.folding for p in pieces]
    assert all(f is not None for f in parts)
    found = [f for f in parts if f is not None]
    types = {name: t for f in found for name, t in f.types.items()}
    return Folding(tuple(j for f in found for j in f.jobs), found[0].input, types)
