"""What a sum takes in: the steps that follow it, as long as nobody else reads what lies between."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from lhcc.integer import Add, Clip, Instruction, Program, Requantise
from lhcc.ir.int_steps import StepWriter
from lhcc.targets.cpu.int_storage import BLOCK


@dataclass(frozen=True)
class Tail:
    """`last` is the last instruction taken in; `other` the map that is added on the way, after steps of its own."""

    writer: StepWriter
    last: Instruction
    other: str | None
    other_steps: tuple[str, ...]
    taken: tuple[str, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.writer.steps)


def tail_of(program: Program, step: Instruction, there: Container[str]) -> Tail:
    """`there` are the maps that have been computed: only they can be added."""
    writer = StepWriter(program.types[step.name].channels, BLOCK)
    last, other, other_steps, taken = step, None, tuple[str, ...](), list[str]()
    while last.name not in program.outputs and len(program.users[last.name]) == 1:
        (user,) = program.users[last.name]
        if isinstance(user, (Clip, Requantise)):
            writer.write(user, program.types[last.name])
        elif isinstance(user, Add) and other is None and user.inputs[0] != user.inputs[1]:
            first = user.inputs[0] == last.name
            found = _partner(program, user.inputs[1] if first else user.inputs[0], there)
            if found is None:
                break
            other, chain = found
            # what the other operand goes through before the addition shares the tables of the sum's own steps
            mine, writer.steps = writer.steps, []
            for link in chain:
                writer.write(link, program.types[link.inputs[0]])
            taken += [link.name for link in chain]
            other_steps, writer.steps = tuple(writer.steps), mine
            left, right = user.shifts if first else user.shifts[::-1]
            writer.steps.append(f"add {left} {right}")
        else:
            break
        last = user
        taken.append(user.name)
    return Tail(writer, last, other, other_steps, tuple(taken))


def _partner(program: Program, name: str, there: Container[str]) -> tuple[str, list[Clip | Requantise]] | None:
    """A map that is there, and the steps from it to `name` that nobody else needs; None if it is not there yet."""
    chain: list[Clip | Requantise] = []
    while name not in there:
        step = program[name]
        alone = len(program.users[name]) == 1 and name not in program.outputs
        if not isinstance(step, (Clip, Requantise)) or not alone:
            return None
        chain.insert(0, step)
        name = step.inputs[0]
    return name, chain
