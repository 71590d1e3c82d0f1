"""The plan of memory, tested by running it: kernels called one by one on nothing but its weights and its arena."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lhcc.runtime.arena import place
from lhcc.runtime.library import ffi, import_tvm
from lhcc.runtime.loader import load_kernels
from lhcc.runtime.memory import ALIGNMENT, align, allocate
from lhcc.runtime.program import Operand, Placement, Program


def run_plan(program: Program, inputs: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
    """The outputs by the plan alone, with memory that holds garbage before."""
    memory = {"weights": program.weights, "arena": allocate(program.arena_size)}
    memory["arena"][...] = 0xA5
    ins = [_aligned(value) for value in inputs]
    outs = [_aligned(np.full(spec.shape, 1, spec.dtype)) for spec in program.outputs]

    def view(operand: Operand) -> NDArray[Any]:
        if operand.kind in memory:
            return Placement(operand.at, operand.shape, operand.dtype).view(memory[operand.kind])
        return {"input": ins, "output": outs}[operand.kind][operand.at].reshape(operand.shape)

    kernels = load_kernels(program.code)
    for call in program.calls:
        kernels[call.kernel](*[ffi().from_dlpack(view(operand)) for operand in call.operands])
    for copy in program.copies:
        outs[copy.output][...] = view(copy.source).reshape(outs[copy.output].shape)
    return outs


def _aligned(value: NDArray[Any]) -> NDArray[Any]:
    memory = allocate(value.nbytes).view(value.dtype).reshape(value.shape)
    memory[...] = value
    return memory


def test_a_chain_runs_by_the_plan(conv_executable: Any) -> None:
    inputs = conv_executable.random_inputs(5)
    (got,) = run_plan(conv_executable.program, inputs)
    np.testing.assert_array_equal(got, conv_executable(*inputs))


def test_outputs_that_no_kernel_writes_are_copies(lower: Any, host_target: Any) -> None:
    """An input, a constant, one buffer twice, views: the same answers as the virtual machine's."""
    import_tvm()
    from tvm import relax

    from lhcc.runtime.build import build

    a = relax.Var("a", relax.TensorType((2, 6), "float32"))
    k = relax.const(np.arange(12, dtype="float32").reshape(2, 6))
    builder = relax.BlockBuilder()
    with builder.function("main", [a]):
        with builder.dataflow():
            total = builder.emit(relax.op.add(a, k))
            scaled = builder.emit(relax.op.multiply(total, total))
            flat = builder.emit(relax.op.reshape(scaled, (12,)))
            last = builder.emit(relax.op.subtract(flat, builder.emit(relax.op.reshape(total, (12,)))))
            out = builder.emit_output(relax.Tuple([last, total, total, a, k, flat]))
        builder.emit_func_output(out)
    executable = build(lower(builder.get()), host_target, jobs=1)
    inputs = executable.random_inputs(2)
    for got, expected in zip(run_plan(executable.program, inputs), executable(*inputs), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_a_chain_needs_no_more_than_two_neighbouring_maps(depth: int, lower: Any, conv_module: Any) -> None:
    from lhcc.runtime.steps import read

    steps = read(lower(conv_module(depth, channels=7, size=9)).mod["main"])
    layout = place(steps)
    maps = [align(life.size) for life in steps.temporaries[:-1]]  # the last one is the caller's
    neighbours = [sum(maps[i : i + 2]) for i in range(len(maps))]
    assert layout.arena_size == max(neighbours, default=0)


def test_weights_lie_side_by_side(conv_executable: Any) -> None:
    program = conv_executable.program
    read = {operand for call in program.calls for operand in call.operands if operand.kind == "weights"}
    assert {(o.at, o.shape) for o in read} <= {(c.offset, c.shape) for c in program.constants}
    ends = [c.offset + align(int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize) for c in program.constants]
    assert [c.offset for c in program.constants] == [0, *ends[:-1]]
    assert ends[-1] == program.weights.nbytes
    assert all(c.offset % ALIGNMENT == 0 for c in program.constants)


def test_an_artifact_keeps_the_plan(conv_executable: Any) -> None:
    program = conv_executable.program
    import json

    described = json.loads(json.dumps(program.describe()))
    again = Program.from_description(described, program.bytecode, program.code, program.weights)
    assert (again.calls, again.copies) == (program.calls, program.copies)
