"""A whole network as C: its kernels, and one function that calls them in order on an arena planned at compile time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ccode.helpers import Helpers
from lhcc.ccode.identifiers import free_identifier, identifier
from lhcc.ccode.kernel import Kernel, print_kernel
from lhcc.ccode.lowering import loops
from lhcc.ccode.types import Type, parse
from lhcc.ir.log import LayerRecord
from lhcc.report.progress import report
from lhcc.runtime import footprint
from lhcc.runtime.arena import place
from lhcc.runtime.build import output_specs
from lhcc.runtime.footprint import Footprint
from lhcc.runtime.program import Operand, TensorSpec
from lhcc.runtime.steps import Steps, read

Array = NDArray[Any]


@dataclass(frozen=True)
class Port:
    """An input or output: a parameter of the function that runs the network."""

    name: str  # a C identifier
    spec: TensorSpec

    @property
    def kind(self) -> Type:
        return parse(self.spec.dtype)


@dataclass(frozen=True)
class Constant:
    """An array of the weights: a C identifier, its values, and where it begins in the block of all of them."""

    name: str
    values: Array
    offset: int


@dataclass(frozen=True)
class Network:
    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[Constant, ...]
    kernels: tuple[Kernel, ...]
    calls: tuple[str, ...]  # statements of the run function
    arena: int  # bytes
    weight_bytes: int
    layers: tuple[LayerRecord, ...]
    footprint: Footprint
    helpers: Helpers = field(default_factory=Helpers)

    def text(self) -> str:
        """Everything that is printed but the weights."""
        return "".join((self.helpers.text(), *(kernel.text for kernel in self.kernels), *self.calls))

    @property
    def uses_floats(self) -> bool:
        ports = any(port.kind.is_float for port in (*self.inputs, *self.outputs))
        return ports or re.search(r"\b(float|double|f32\w*|f64\w*)\b", self.text()) is not None

    def signature(self) -> str:
        ports = [f"const {port.kind.c} *{port.name}" for port in self.inputs]
        ports += [f"{port.kind.c} *{port.name}" for port in self.outputs]
        return f"void {self.name}_run({', '.join([f'{self.name}_context *context', *ports])})"


def network(name: str, lowered: Any, output_names: Sequence[str] = ()) -> Network:
    """`lowered` printed as C whose symbols begin with `name`."""
    return _Writer(name, lowered, output_names).network()


class _Writer:
    def __init__(self, name: str, lowered: Any, output_names: Sequence[str]) -> None:
        self.name, self.lowered = name, lowered
        self.steps: Steps = read(lowered.mod["main"])
        self.taken = {"context", "arena", f"{name}_run", f"{name}_open", f"{name}_context"}
        self.inputs = tuple(Port(self.fresh(spec.name), spec) for spec in self.steps.inputs)
        self.outputs = tuple(Port(self.fresh(spec.name), spec) for spec in output_specs(self.steps, output_names))
        self.kernels = self._kernels()
        self.layout = place(self.steps, {name: kernel.workspace for name, kernel in self.kernels.items()})
        self.constants = self._constants()

    def network(self) -> Network:
        helpers = Helpers()
        for kernel in self.kernels.values():
            helpers.merge(kernel.helpers)
        constants = tuple(sorted(self.constants.values(), key=lambda constant: constant.offset))
        return Network(
            self.name, self.inputs, self.outputs, constants, tuple(self.kernels.values()), tuple(self._calls()),
            self.layout.arena_size, self.layout.weights_size, tuple(self.lowered.layers),
            footprint.of_layout(self.layout, self.steps.inputs, [port.spec for port in self.outputs]), helpers,
        )  # fmt: skip

    def fresh(self, wish: str) -> str:
        return free_identifier(wish, self.taken)

    def _kernels(self) -> dict[str, Kernel]:
        names = list(dict.fromkeys(step.kernel for step in self.steps.steps))
        kernels = {}
        for done, name in enumerate(names):
            report("printing kernels", done, len(names))
            kernels[name] = print_kernel(self.fresh(f"{self.name}_{name}"), loops(name, self.lowered.mod[name]))
        report("printing kernels", len(names), len(names))
        return kernels

    def _constants(self) -> dict[int, Constant]:
        """By offset; named after the layer that reads them first and the kernel's name for them."""
        values = {p.offset: v for p, v in zip(self.layout.constants, self.steps.constants, strict=True)}
        found: dict[int, Constant] = {}

        def add(operand: Operand, wish: str) -> None:
            if operand.kind == "weights" and operand.at not in found:
                name = self.fresh(f"{self.name}_{identifier(wish)}")
                found[operand.at] = Constant(name, values[operand.at], operand.at)

        for call in self.layout.calls:
            for operand, parameter in zip(call.operands, self.lowered.mod[call.kernel].params, strict=True):
                add(operand, f"{call.name}_{parameter.name}")
        for copy in self.layout.copies:
            add(copy.source, self.outputs[copy.output].name)
        return found

    def _calls(self) -> list[str]:
        lines = []
        for call, workspace in zip(self.layout.calls, self.layout.workspaces, strict=True):
            kernel = self.kernels[call.kernel]
            arguments = [self._argument(*pair) for pair in zip(call.operands, kernel.types, strict=True)]
            if kernel.workspace:
                arguments.append(_at("arena", workspace))
            lines.append(f"{kernel.name}({', '.join(arguments)}); /* {call.name.replace('*/', '')} */")
        for copy in self.layout.copies:
            lines.append(f"memcpy({self.outputs[copy.output].name}, {self._place(copy.source)}, {copy.source.nbytes});")
        return lines

    def _argument(self, operand: Operand, kind: str) -> str:
        place = self._place(operand)
        return f"({kind})(void *)({place})" if operand.kind == "arena" else place

    def _place(self, operand: Operand) -> str:
        if operand.kind == "weights":
            return self.constants[operand.at].name
        if operand.kind == "arena":
            return _at("arena", operand.at)
        return (self.inputs if operand.kind == "input" else self.outputs)[operand.at].name


def _at(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base


def flat_weights(net: Network) -> NDArray[np.uint8]:
    """All constants in one block, as the calls of a network with flat weights expect them."""
    block = np.zeros(net.weight_bytes, np.uint8)
    for constant in net.constants:
        data = np.ascontiguousarray(constant.values).reshape(-1).view(np.uint8)
        block[constant.offset : constant.offset + data.size] = data
    return block
