"""Which instructions of a program are computed together: a sum, and what becomes of it before anybody reads it.

    s = Conv(x); q = Requantise(s); y = Add(q, z)    ->  the tail of s is (q, y), and `other` is z

An addition joins once its other operand has been computed, up to clips and requantisations that nobody else needs.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from lhcc.integer.affine import Add, Conv, Dense, SumPool
from lhcc.integer.core import Instruction
from lhcc.integer.pointwise import Clip, Input, Requantise
from lhcc.integer.program import Program
from lhcc.integer.shape import MaxPool

Step = Clip | Requantise | Add
STARTS = (Conv, Dense, SumPool, MaxPool, Clip, Requantise, Add)


@dataclass(frozen=True)
class Tail:
    steps: tuple[Step, ...]  # after the instruction, in order
    last: str  # the tensor that is stored
    other: str | None = None  # a tensor that was computed before, for the one addition among the steps,
    chain: tuple[Clip | Requantise, ...] = ()  # after these


def tails(program: Program) -> dict[str, Tail]:
    """For every instruction that starts a computation, in order, what is computed with it."""
    found: dict[str, Tail] = {}
    there = {step.name for step in program.inputs}
    joined: set[str] = set()
    for step in program.instructions:
        if not isinstance(step, Input) and step.name not in joined:
            tail = tail_of(program, step, there)
            found[step.name] = tail
            joined |= {link.name for link in (*tail.steps, *tail.chain)}
            there.add(tail.last)
    return found


def tail_of(program: Program, start: Instruction, there: Container[str]) -> Tail:
    """`there` are the tensors that have been computed: only they can be added."""
    steps: list[Step] = []
    last, other = start.name, None
    chain: tuple[Clip | Requantise, ...] = ()
    adds = not isinstance(start, Add)  # there is one other operand at most
    while isinstance(start, STARTS) and _alone(program, last):
        (user,) = program.users[last]
        if isinstance(user, Add) and adds and user.inputs[0] != user.inputs[1]:
            partner = _partner(program, user.inputs[user.inputs[0] == last], there)
            if partner is None:
                break
            other, chain = partner
            adds = False
        elif not isinstance(user, (Clip, Requantise)):
            break
        steps.append(user)
        last = user.name
    return Tail(tuple(steps), last, other, chain)


def _alone(program: Program, name: str) -> bool:
    return len(program.users[name]) == 1 and name not in program.outputs


def _partner(program: Program, name: str, there: Container[str]) -> tuple[str, tuple[Clip | Requantise, ...]] | None:
    """A tensor that is there, and the steps from it to `name` that nobody else needs; None if it is not there yet."""
    chain: list[Clip | Requantise] = []
    while name not in there:
        step = program[name]
        if not isinstance(step, (Clip, Requantise)) or not _alone(program, name):
            return None
        chain.insert(0, step)
        name = step.inputs[0]
    return name, tuple(chain)
