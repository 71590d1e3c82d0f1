"""Writes the steps of a model as bytecode of the TVM virtual machine: one instruction per step, see `together`.

`main` takes the inputs, then the constants, then the temporaries; only outputs are allocated by a run, because the
caller keeps them.  `bind` takes the constants and temporaries, once, and returns `main` with these filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import DataType, relax
from tvm_ffi import Shape

from lhcc.runtime.arena import Layout, returned
from lhcc.runtime.files import scratch
from lhcc.runtime.program import Placement
from lhcc.runtime.steps import Buffer, Ref, Steps

COPY = "runtime.TVMTensorCopyFromTo"  # from the runtime's own functions


@dataclass(frozen=True)
class Bytecode:
    """The serialised bytecode, with the temporaries that `bind` expects."""

    data: bytes
    temporaries: list[Placement]


def emit(steps: Steps, layout: Layout) -> Bytecode:
    results = set(returned(steps))
    bound = _bound_refs(steps, results)
    temporaries = [
        Placement(layout.temporaries[ref.buffer.index], ref.shape, ref.dtype)
        for ref in bound
        if ref.buffer.kind == "temporary"
    ]
    builder = relax.ExecBuilder()
    with builder.function("main", len(steps.inputs) + len(bound)):
        _Emitter(builder, steps, bound, results).emit()
    with builder.function("bind", len(bound)):
        captured = [builder.r(i) for i in range(len(bound))]
        builder.emit_call("vm.builtin.make_closure", [builder.f("main"), *captured], dst=builder.r(len(bound)))
        builder.emit_ret(builder.r(len(bound)))
    return Bytecode(_serialise(builder.get().mod), temporaries)


def _bound_refs(steps: Steps, results: set[Buffer]) -> list[Ref]:
    """Every constant as it is stored, then every other view of constants and temporaries that some step uses."""
    bound = [Ref(Buffer("constant", i), tuple(c.shape), str(c.dtype)) for i, c in enumerate(steps.constants)]
    used = [arg for step in steps.steps for arg in step.args] + steps.outputs
    bound += [ref for ref in used if ref.buffer.kind == "temporary" and ref.buffer not in results]
    return list(dict.fromkeys(bound))


class _Emitter:
    """Emits `main`: knows which register holds each view, and makes views that are not there yet."""

    def __init__(self, builder: Any, steps: Steps, bound: list[Ref], results: set[Buffer]) -> None:
        self.builder, self.steps, self.results = builder, steps, results
        inputs = [Ref(Buffer("input", i), spec.shape, spec.dtype) for i, spec in enumerate(steps.inputs)]
        self.registers = {ref: builder.r(i) for i, ref in enumerate([*inputs, *bound])}
        self.count = len(inputs) + len(bound)
        self.storages: dict[Buffer, Any] = {}

    def emit(self) -> None:
        for step in self.steps.steps:
            self.builder.emit_call(step.kernel, [self.register(ref) for ref in step.args])
        results, seen = [], set()
        for ref in self.steps.outputs:
            fresh = ref.buffer in self.results and ref.buffer not in seen
            seen.add(ref.buffer)
            results.append(self.register(ref) if fresh else self.copy(ref))
        if len(results) == 1:
            self.builder.emit_ret(results[0])
        else:
            self.builder.emit_ret(self.call("vm.builtin.make_tuple", results))

    def register(self, ref: Ref) -> Any:
        if ref not in self.registers:
            if ref.buffer in self.results:
                self.registers[ref] = self.tensor(self.storage(ref.buffer), ref)
            else:
                whole = next(held for known, held in self.registers.items() if known.buffer == ref.buffer)
                self.registers[ref] = self.call("vm.builtin.reshape", [whole, self.constant(Shape(ref.shape))])
        return self.registers[ref]

    def copy(self, ref: Ref) -> Any:
        """The caller may write to what it got, so it never gets an input, a constant, or one buffer twice."""
        target = self.tensor(self.allocate(ref.nbytes), ref)
        self.builder.emit_call(COPY, [self.register(ref), target])
        return target

    def storage(self, buffer: Buffer) -> Any:
        if buffer not in self.storages:
            self.storages[buffer] = self.allocate(self.steps.temporaries[buffer.index].size)
        return self.storages[buffer]

    def allocate(self, size: int) -> Any:
        b = self.builder
        shape, uint8, scope = self.constant(Shape((size,))), self.constant(DataType("uint8")), self.constant("global")
        return self.call("vm.builtin.alloc_storage", [b.vm_state(), shape, b.imm(0), uint8, scope])

    def tensor(self, storage: Any, ref: Ref) -> Any:
        shape, dtype = self.constant(Shape(ref.shape)), self.constant(DataType(ref.dtype))
        return self.call("vm.builtin.alloc_tensor", [storage, self.builder.imm(0), shape, dtype])

    def constant(self, value: Any) -> Any:
        return self.builder.convert_constant(value)

    def call(self, function: str, args: list[Any]) -> Any:
        register = self.builder.r(self.count)
        self.count += 1
        self.builder.emit_call(function, args, dst=register)
        return register


def _serialise(executable: Any) -> bytes:
    """TVM offers its serialised form only as a file."""
    with scratch() as folder:
        path = folder / "main.vm"
        executable.write_to_file(str(path), "")
        return path.read_bytes()
