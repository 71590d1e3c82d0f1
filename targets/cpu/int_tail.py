"""What a sum takes in, written as the steps of a kernel: nobody else reads what lies between."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from lhcc.integer import Add, Instruction, Program, tails
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
    found = tails.tail_of(program, step, there)
    writer, name, other_steps = StepWriter(program.types[step.name].channels, BLOCK), step.name, tuple[str, ...]()
    for link in found.steps:
        if isinstance(link, Add):
            # what the other operand goes through before the addition shares the tables of the sum's own steps
            mine, writer.steps = writer.steps, []
            for before in found.chain:
                writer.write(before, program.types[before.inputs[0]])
            other_steps, writer.steps = tuple(writer.steps), mine
            left, right = link.shifts if link.inputs[0] == name else link.shifts[::-1]
            writer.steps.append(f"add {left} {right}")
        else:
            writer.write(link, program.types[name])
        name = link.name
    taken = tuple(link.name for link in (*found.chain, *found.steps))
    return Tail(writer, program[found.last], found.other, other_steps, taken)
