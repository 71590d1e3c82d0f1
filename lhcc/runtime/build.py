"""A lowered model to an executable: bytecode for the calls, machine code for the kernels, one block of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.target import Target

from lhcc.runtime.bytecode import emit
from lhcc.runtime.codegen import compile_kernels, machine_of
from lhcc.runtime.executable import Executable
from lhcc.runtime.memory import align, allocate
from lhcc.runtime.program import Layer, Placement, Program, Reason, TensorSpec
from lhcc.runtime.steps import Steps, read


def build(
    lowered: Any,
    target: Target,
    *,
    target_name: str = "cpu",
    threads: int = 1,
    output_names: Sequence[str] = (),
    pass_config: Mapping[str, Any] | None = None,
    jobs: int | None = None,
) -> Executable:
    """`lowered.mod` compiled for `target`; `lowered.layers` must have one record per kernel call, in order."""
    steps = read(lowered.mod["main"])
    kernels = {step.kernel: lowered.mod[step.kernel] for step in steps.steps}
    code = compile_kernels(kernels, target, pass_config, jobs) if kernels else b""
    bytecode = emit(steps)
    weights, constants = pack(steps.constants)
    program = Program(
        inputs=tuple(steps.inputs),
        outputs=_output_specs(steps, output_names),
        constants=tuple(constants),
        temporaries=tuple(bytecode.temporaries),
        arena_size=bytecode.arena_size,
        layers=_layers(steps, lowered.layers),
        target=target_name,
        machine=machine_of(target),
        bytecode=bytecode.data,
        code=code,
        weights=weights,
        threads=threads,
        reasons=tuple(Reason(str(r.layer), str(r.pass_name), str(r.text)) for r in lowered.reasons),
    )
    return Executable(program)


def pack(constants: Sequence[NDArray[Any]]) -> tuple[NDArray[np.uint8], list[Placement]]:
    """All constants in one aligned block, and where each of them is."""
    placements, size = [], 0
    for constant in constants:
        placements.append(Placement(size, tuple(constant.shape), str(constant.dtype)))
        size += align(constant.nbytes)
    memory = allocate(size)
    for constant, placement in zip(constants, placements, strict=True):
        placement.view(memory)[...] = constant
    return memory, placements


def _output_specs(steps: Steps, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    if len(names) != len(steps.outputs):
        names = ["output"] if len(steps.outputs) == 1 else [f"output{i}" for i in range(len(steps.outputs))]
    return tuple(TensorSpec(name, ref.shape, ref.dtype) for name, ref in zip(names, steps.outputs, strict=True))


def _layers(steps: Steps, records: Sequence[Any]) -> tuple[Layer, ...]:
    if len(records) != len(steps.steps):
        raise ValueError(f"the lowering made {len(records)} layer records for {len(steps.steps)} kernel calls")
    for record, step in zip(records, steps.steps, strict=True):
        if record.kernel != step.kernel:
            raise ValueError(f"the record of layer '{record.name}' says {record.kernel}, called is {step.kernel}")
    return tuple(Layer.of(record) for record in records)
