"""The program: a checked list of instructions, one type per tensor, executable in numpy and printable as a proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lhcc.errors import InputError, ModelError
from lhcc.integer.core import Instruction, Ints, TensorType, WidthError
from lhcc.integer.pointwise import Input


class Program:
    """Instructions in an order in which every tensor is defined before its use; `outputs` name the results.

    `layout` says how the user's float images lie ("NCHW" or "NHWC"); integers inside are always channel-last."""

    def __init__(self, instructions: Sequence[Instruction], outputs: Sequence[str], layout: str = "NCHW") -> None:
        self.instructions = tuple(instructions)
        self.outputs = tuple(outputs)
        self.layout = layout
        self.types: dict[str, TensorType] = {}
        for step in self.instructions:
            if step.name in self.types:
                raise ModelError(f"tensor '{step.name}' is defined twice")
            if missing := [n for n in step.inputs if n not in self.types]:
                raise ModelError(f"'{step.name}' uses '{missing[0]}' before it is defined")
            self.types[step.name] = step.infer(*(self.types[n] for n in step.inputs))
        if missing := [n for n in self.outputs if n not in self.types]:
            raise ModelError(f"output '{missing[0]}' is never defined")

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(step for step in self.instructions if isinstance(step, Input))

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """For every tensor the instructions that read it, in order."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.types}
        for step in self.instructions:
            for name in dict.fromkeys(step.inputs):
                found[name].append(step)
        return found

    def __getitem__(self, name: str) -> Instruction:
        return next(step for step in self.instructions if step.name == name)

    def trace(self, inputs: Mapping[str, Ints]) -> dict[str, Ints]:
        """Every tensor for a batch of integer inputs."""
        values: dict[str, Ints] = {}
        for step in self.instructions:
            arguments = [inputs[step.name]] if isinstance(step, Input) else [values[n] for n in step.inputs]
            values[step.name] = step.run(*arguments)
        return values

    def run(self, *inputs: Ints) -> tuple[Ints, ...]:
        """Integers in, integers out, channel-last with a batch axis: the reference that every target must equal."""
        self._count(inputs)
        values = self.trace({step.name: x for step, x in zip(self.inputs, inputs, strict=True)})
        return tuple(values[name] for name in self.outputs)

    def quantise(self, *inputs: np.ndarray) -> tuple[Ints, ...]:
        """The user's float arrays (in `layout`) as the integers that `run` takes."""
        self._count(inputs)
        arrays = map(self.channel_last, map(np.asarray, inputs))
        return tuple(step.quantise(x) for step, x in zip(self.inputs, arrays, strict=True))

    def dequantise(self, *outputs: Ints) -> tuple[np.ndarray, ...]:
        """What integer results stand for, float32, in the user's layout."""
        return tuple(self.real(name, q) for name, q in zip(self.outputs, outputs, strict=True))

    def real(self, name: str, integers: Ints) -> np.ndarray:
        """What the integers of one tensor stand for, float32, in the user's layout."""
        return self.in_layout((integers * self.types[name].scale).astype(np.float32))

    def channel_last(self, x: np.ndarray) -> np.ndarray:
        """A batch in the user's layout as instructions take it."""
        return np.moveaxis(x, 1, -1) if x.ndim == 4 and self.layout == "NCHW" else x

    def in_layout(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `channel_last`."""
        return np.ascontiguousarray(np.moveaxis(x, -1, 1) if x.ndim == 4 and self.layout == "NCHW" else x)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        results = self.dequantise(*self.run(*self.quantise(*inputs)))
        return results[0] if len(results) == 1 else results

    def _count(self, inputs: Sequence[object]) -> None:
        if len(inputs) != len(self.inputs):
            raise InputError(f"the program takes {len(self.inputs)} inputs, not {len(inputs)}")

    def check_width(self, bits: int) -> None:
        """Raises WidthError, naming the first tensor that does not fit signed integers of so many bits."""
        for name, t in self.types.items():
            need = t.bits + (not t.signed)
            if need > bits:
                message = f"'{name}' needs {need} bits, and {bits} are there"
                raise WidthError(message, "use fewer weight or activation bits")

    def proof(self) -> str:
        """One line per tensor: the interval that it can never leave, hence the bits that it needs."""
        head = ("tensor", "operation", "from", "type")
        rows = [(s.name, type(s).__name__, ", ".join(s.inputs), str(self.types[s.name])) for s in self.instructions]
        widths = [max(len(r[i]) for r in (head, *rows)) for i in range(3)]
        return "\n".join(
            "  ".join((*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3])) for r in (head, *rows)
        )

    __str__ = proof

    def save(self, path: str | Path) -> None:
        from lhcc.integer.storage import save

        save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Program:
        from lhcc.integer.storage import load

        return load(Path(path))
