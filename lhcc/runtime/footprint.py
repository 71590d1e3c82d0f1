"""How much memory a compiled model needs, layer by layer, and whether that fits a budget.

RAM is the arena, the inputs and the outputs; flash is the weights and, once it is generated, the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lhcc.errors import TargetError
from lhcc.report.text import grid
from lhcc.runtime.arena import Layout
from lhcc.runtime.memory import align
from lhcc.runtime.program import Call, Program, TensorSpec


class OverBudget(TargetError):
    """The model needs more memory than it may."""


@dataclass(frozen=True)
class LayerMemory:
    """One kernel call: the weights that it is the first to read, and the bytes of the arena in use while it runs."""

    name: str
    kernel: str
    weights: int
    arena: int


@dataclass(frozen=True)
class Footprint:
    """All layers in the order in which they run.  `str()` is a table."""

    layers: tuple[LayerMemory, ...]
    arena: int
    inputs: int
    outputs: int
    weights: int
    code: int | None = None  # None: not generated yet
    stack: int | None = None  # None: not known

    @property
    def ram(self) -> int:
        return self.arena + self.inputs + self.outputs + (self.stack or 0)

    @property
    def flash(self) -> int:
        return self.weights + (self.code or 0)

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        total = {key: getattr(self, key) for key in ("arena", "inputs", "outputs", "ram", "weights", "code", "flash")}
        return {"layers": [asdict(layer) for layer in self.layers], "total": total}

    def __str__(self) -> str:
        rows = [[layer.name, layer.kernel, f"{layer.weights:,}", f"{layer.arena:,}"] for layer in self.layers]
        code = "code is not counted" if self.code is None else f"code {self.code:,}"
        lines = [
            f"RAM {self.ram:,} bytes: arena {self.arena:,}, inputs {self.inputs:,}, outputs {self.outputs:,}",
            f"flash {self.flash:,} bytes: weights {self.weights:,}, {code}",
        ]
        return f"{grid(['layer', 'kernel', 'weights', 'arena in use'], rows, left=2)}\n\n" + "\n".join(lines)


@dataclass(frozen=True)
class Budget:
    """Bytes that a model may take; None: as many as it likes."""

    ram: int | None = None
    flash: int | None = None

    def check(self, need: Footprint) -> None:
        """Refuses a model that needs more, and names the layer that breaks the budget."""
        if self.ram is not None and need.ram > self.ram:
            fixed = need.ram - need.arena
            largest = max(need.layers, key=lambda layer: layer.arena, default=None)
            broken = next((layer for layer in need.layers if layer.arena + fixed > self.ram), largest)
            where = f" in layer '{broken.name}'" if broken else ""
            held = f"{broken.arena:,} bytes of maps are in use there" if broken else "no layer holds maps"
            beside = "inputs and outputs" if need.stack is None else "inputs, outputs and stack"
            raise OverBudget(
                f"the model needs {need.ram:,} bytes of RAM, {self.ram:,} are allowed: too many{where}",
                f"{held}, {beside} take {fixed:,}; try smaller images, fewer channels or --precision int8",
            )
        if self.flash is not None and need.flash > self.flash:
            raise OverBudget(
                f"the model needs {need.flash:,} bytes of flash, {self.flash:,} are allowed: {self._overflow(need)}",
                "try a lower density or --precision int8",
            )

    def _overflow(self, need: Footprint) -> str:
        """Where the flash is full: weights are counted in the order of the layers, then comes the code."""
        filled = 0
        for layer in need.layers:
            filled += layer.weights
            if filled > (self.flash or 0):
                return f"the weights are too many from layer '{layer.name}' on, which has {layer.weights:,} bytes"
        return f"with {need.code or 0:,} bytes of code the {need.weights:,} bytes of weights are too many"


def of_layout(layout: Layout, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Footprint:
    """Before code is generated."""
    return _footprint(layout.calls, layout.arena_size, inputs, outputs, layout.weights_size)


def of_program(program: Program) -> Footprint:
    return _footprint(
        program.calls, program.arena_size, program.inputs, program.outputs, program.weights.nbytes, len(program.code)
    )


def _footprint(
    calls: Sequence[Call],
    arena: int,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    weights: int,
    code: int | None = None,
) -> Footprint:
    seen: set[int] = set()
    layers = []
    for call in calls:
        read = {operand.at: align(operand.nbytes) for operand in call.operands if operand.kind == "weights"}
        layers.append(
            LayerMemory(call.name, call.kernel, sum(size for at, size in read.items() if at not in seen), call.live)
        )
        seen.update(read)
    taken, given = (sum(spec.nbytes for spec in specs) for specs in (inputs, outputs))
    return Footprint(tuple(layers), arena, taken, given, weights, code)
