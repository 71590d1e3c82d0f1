"""A lowered model to an executable: bytecode for the calls, machine code for the kernels, one block of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import TargetError
from lhcc.ir.log import LayerRecord
from lhcc.runtime import footprint
from lhcc.runtime.arena import place, place_weights
from lhcc.runtime.bytecode import emit
from lhcc.runtime.codegen import compile_kernels, machine_of
from lhcc.runtime.executable import Executable
from lhcc.runtime.footprint import Budget
from lhcc.runtime.memory import allocate
from lhcc.runtime.program import Placement, Program, TensorSpec
from lhcc.runtime.steps import Steps, read
from lhcc.runtime.together import together

ROOMY = 1 << 20  # bytes per thread that are spent on keeping what threads write apart: what second-level caches hold


def build(lowered: Any, target: Any, **how: Any) -> Executable:
    """`build_program`, ready to be called."""
    return Executable(build_program(lowered, target, **how))


def build_program(
    lowered: Any,
    target: Any,
    *,
    threads: int = 1,
    output_names: Sequence[str] = (),
    pass_config: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    limits: tuple[int | None, int | None] = (None, None),
) -> Program:
    """`lowered.mod` compiled for `target`; `lowered.layers` must have one record per kernel call, in order.

    `limits` are the bytes of RAM and of flash that there are.
    """
    board = getattr(target, "board", None)
    if board is not None and "artifact" not in board.forms:
        raise TargetError(
            f"'{board.name}' runs no artifacts: they need Python and the TVM runtime",
            f"lhcc compile MODEL --target {board.name} --emit {board.forms[0]} -o FOLDER",
        )
    tvm_target = target.tvm_target()
    steps = read(lowered.mod["main"])
    own = {gv.name_hint: function for gv, function in lowered.mod.functions.items()}
    kernels = {step.kernel: own[step.kernel] for step in steps.steps if step.kernel in own}
    tools = board.tools if board else ""
    outputs = output_specs(steps, output_names)
    budget = Budget(*limits)
    layout = place(steps, roomy=ROOMY * threads if threads > 1 and limits[0] is None else 0)
    budget.check(footprint.of_layout(layout, steps.inputs, outputs))
    joined = together(steps.steps, kernels, threads)
    code = b""
    if kernels or lowered.modules:
        code = compile_kernels(joined.kernels, tvm_target, pass_config, jobs, tools, lowered.modules)
    bytecode = emit(replace(steps, steps=list(joined.steps)), layout)
    weights, constants = pack(steps.constants)
    program = Program(
        inputs=tuple(steps.inputs),
        outputs=outputs,
        constants=tuple(constants),
        temporaries=tuple(bytecode.temporaries),
        arena_size=layout.arena_size,
        layers=describe_layers(steps, lowered.layers),
        target=board.name if board else str(target.name),
        machine=machine_of(tvm_target),
        bytecode=bytecode.data,
        code=code,
        weights=weights,
        threads=threads,
        reasons=tuple(lowered.reasons),
        calls=layout.calls,
        copies=layout.copies,
    )
    budget.check(footprint.of_program(program))
    return program


def pack(constants: Sequence[NDArray[Any]]) -> tuple[NDArray[np.uint8], list[Placement]]:
    """All constants in one aligned block, and where each of them is."""
    placements, size = place_weights(constants)
    memory = allocate(size)
    for constant, placement in zip(constants, placements, strict=True):
        placement.view(memory)[...] = constant
    return memory, placements


def output_specs(steps: Steps, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    if len(names) != len(steps.outputs):
        names = ["output"] if len(steps.outputs) == 1 else [f"output{i}" for i in range(len(steps.outputs))]
    return tuple(TensorSpec(name, ref.shape, ref.dtype) for name, ref in zip(names, steps.outputs, strict=True))


def describe_layers(steps: Steps, records: Sequence[LayerRecord]) -> tuple[LayerRecord, ...]:
    """The records, after checking that they are about the calls that are made."""
    recorded, called = [record.kernel for record in records], [step.kernel for step in steps.steps]
    if recorded != called:
        raise ValueError(f"the layer records name the kernels {recorded}, called are {called}")
    return tuple(records)
