"""A program with ports: tensors that enter and leave it as integers, or as the floats that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lhcc.integer.core import Ints
from lhcc.integer.program import Program


@dataclass(frozen=True)
class Port:
    """A tensor of a program at its border; integers are int64, floats float32, both in the user's layout."""

    name: str
    integer: bool

    @property
    def dtype(self) -> str:
        return "int64" if self.integer else "float32"


@dataclass(frozen=True)
class Ported:
    """`inputs` are the program's, in order.  An output may be an input, and two may be one tensor; `program.outputs`
    are those that instructions make, once each."""

    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def shape(self, port: Port, images: int) -> tuple[int, ...]:
        return batch_shape(self.program.types[port.name].shape, self.program.layout, images)

    def run(self, compute: Callable[..., Sequence[Ints]], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What leaves the ports when `arrays` enter them; `compute` does what `program.run` does."""
        program, known = self.program, dict[str, Ints]()
        for port, step, x in zip(self.inputs, program.inputs, arrays, strict=True):
            inside = program.channel_last(x)
            known[port.name] = inside if port.integer else step.quantise(inside)
        results = compute(*(known[port.name] for port in self.inputs))
        known |= dict(zip(program.outputs, results, strict=True))
        return [
            program.in_layout(known[port.name]) if port.integer else program.real(port.name, known[port.name])
            for port in self.outputs
        ]

    def complete(self) -> Ported:
        """The same where `program.outputs` names every output, inputs among them."""
        given = tuple(dict.fromkeys(port.name for port in self.outputs))
        return replace(self, program=Program(self.program.instructions, given, self.program.layout))

    def describe(self) -> dict[str, Any]:
        """The ports, ready for JSON; `with_ports` is the inverse."""
        return {key: [[port.name, port.integer] for port in getattr(self, key)] for key in ("inputs", "outputs")}


def batch_shape(shape: tuple[int, ...], layout: str, images: int) -> tuple[int, ...]:
    """How a batch of tensors of this shape lies in the user's layout."""
    return (images, shape[2], shape[0], shape[1]) if len(shape) == 3 and layout == "NCHW" else (images, *shape)


def alike(program: Program, integer: bool) -> Ported:
    """A whole program with ports of one kind."""
    inputs = tuple(Port(step.name, integer) for step in program.inputs)
    return Ported(program, inputs, tuple(Port(name, integer) for name in program.outputs))


def with_ports(program: Program, described: dict[str, Any]) -> Ported:
    inputs, outputs = (tuple(Port(name, integer) for name, integer in described[key]) for key in ("inputs", "outputs"))
    return Ported(program, inputs, outputs)
