"""A compiled model as plain data: what `build` makes, an artifact stores and an executable runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ir.log import LayerRecord, Reason
from lhcc.runtime.memory import Sized


@dataclass(frozen=True)
class TensorSpec(Sized):
    """Name, shape and element type of one input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Placement(Sized):
    """A tensor at a byte offset of the weights or of the arena."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    def view(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        return memory[self.offset : self.offset + self.nbytes].view(np.dtype(self.dtype)).reshape(self.shape)


@dataclass(frozen=True)
class Operand(Sized):
    """A tensor that a kernel reads or writes: `at` numbers an `input` or `output`, or is a byte offset of the `weights`
    or of the `arena`."""

    kind: str
    at: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Call:
    """One kernel call, its operands in the kernel's order; `name` is the layer's.  `live` bytes of the arena hold what
    this call or a later one reads or writes."""

    kernel: str
    name: str
    operands: tuple[Operand, ...]
    live: int = 0


@dataclass(frozen=True)
class Copy:
    """An output that no kernel writes: it is a copy of `source`, made after all calls."""

    source: Operand
    output: int


@dataclass(frozen=True)
class Machine:
    """What the code needs of the processor that runs it."""

    arch: str
    features: tuple[str, ...] = ()
    system: str = "linux"

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Machine:
        return cls(described["arch"], tuple(described["features"]), described.get("system", "linux"))


@dataclass(frozen=True)
class Program:
    """Everything that a run needs: bytecode, machine code, weights, and where each tensor lives.

    The bytecode's `main` takes the inputs, then the constants, then the temporaries.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    constants: tuple[Placement, ...]
    temporaries: tuple[Placement, ...]
    arena_size: int
    layers: tuple[LayerRecord, ...]
    target: str
    machine: Machine
    bytecode: bytes
    code: bytes
    weights: NDArray[np.uint8]
    threads: int = 1
    reasons: tuple[Reason, ...] = ()
    calls: tuple[Call, ...] = ()  # what the bytecode does, for those who run it without the virtual machine
    copies: tuple[Copy, ...] = ()

    def describe(self) -> dict[str, Any]:
        """All but the three binary parts, ready for JSON; `from_description` is its inverse."""
        plain = ("inputs", "outputs", "constants", "temporaries", "layers", "reasons", "calls", "copies")
        described: dict[str, Any] = {key: [asdict(item) for item in getattr(self, key)] for key in plain}
        described.update(arena_size=self.arena_size, target=self.target, threads=self.threads)
        described["machine"] = asdict(self.machine)
        return described

    @classmethod
    def from_description(
        cls, described: Mapping[str, Any], bytecode: bytes, code: bytes, weights: NDArray[np.uint8]
    ) -> Program:
        def placements(key: str) -> tuple[Placement, ...]:
            return tuple(Placement(p["offset"], tuple(p["shape"]), p["dtype"]) for p in described[key])

        def specs(key: str) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in described[key])

        def operand(o: Mapping[str, Any]) -> Operand:
            return Operand(o["kind"], o["at"], tuple(o["shape"]), o["dtype"])

        return cls(
            inputs=specs("inputs"),
            outputs=specs("outputs"),
            constants=placements("constants"),
            temporaries=placements("temporaries"),
            arena_size=described["arena_size"],
            layers=tuple(LayerRecord(**layer) for layer in described["layers"]),
            target=described["target"],
            machine=Machine.from_description(described["machine"]),
            bytecode=bytecode,
            code=code,
            weights=weights,
            threads=described["threads"],
            reasons=tuple(Reason(**reason) for reason in described["reasons"]),
            calls=tuple(
                Call(call["kernel"], call["name"], tuple(map(operand, call["operands"])), call["live"])
                for call in described.get("calls", ())
            ),
            copies=tuple(Copy(operand(copy["source"]), copy["output"]) for copy in described.get("copies", ())),
        )
