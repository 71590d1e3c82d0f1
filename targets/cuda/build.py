"""A lowered model to an executable for the GPU: CUDA source by TVM, machine code by nvcc, one plan of memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lhcc.report.progress import report
from lhcc.runtime.arena import place
from lhcc.runtime.build import describe_layers, output_specs, pack
from lhcc.runtime.cuda import CudaExecutable
from lhcc.runtime.program import Machine as Needs
from lhcc.runtime.program import Program
from lhcc.runtime.steps import read
from lhcc.targets.cuda import nvcc
from lhcc.targets.cuda.arch import Machine
from lhcc.targets.cuda.codegen import Source, generate


def build(lowered: Any, machine: Machine, output_names: Sequence[str] = ()) -> CudaExecutable:
    """The machine code is for `machine`'s architecture, with PTX that later ones translate when they load it."""
    steps = read(lowered.mod["main"])
    source = sources(lowered, machine)
    code, usage = compile_kernels(source, machine.arch.name)
    layout = place(steps)
    weights, constants = pack(steps.constants)
    program = Program(
        inputs=tuple(steps.inputs),
        outputs=output_specs(steps, output_names),
        constants=tuple(constants),
        temporaries=(),
        arena_size=layout.arena_size,
        layers=describe_layers(steps, lowered.layers),
        target="cuda",
        machine=Needs(machine.arch.name, (machine.precision,)),
        bytecode=json.dumps({name: asdict(launch) for name, launch in source.launches.items()}).encode(),
        code=code,
        weights=weights,
        reasons=tuple(lowered.reasons),
        calls=layout.calls,
        copies=layout.copies,
    )
    executable = CudaExecutable(program)
    executable.usage = tuple(usage)
    return executable


def compile_kernels(source: Source, arch: str) -> tuple[bytes, list[nvcc.Usage]]:
    """Machine code, and what each kernel takes; kernels that spill are compiled again with more registers each."""
    if not source.launches:
        return b"", []
    report("compiling kernels", 0, 1)
    code, usage = nvcc.compile_source(source.complete(), arch)
    more = source.unlimited([use.kernel for use in usage if use.spills])
    if more != source and any(use.spills for use in usage):
        code, usage = nvcc.compile_source(more.complete(), arch)
    report("compiling kernels", 1, 1)
    return code, usage


def sources(lowered: Any, machine: Machine) -> Source:
    """The CUDA source of a lowered model's kernels."""
    steps = read(lowered.mod["main"])
    kernels = {step.kernel: lowered.mod[step.kernel] for step in steps.steps}
    return generate(kernels, machine.arch.name) if kernels else Source("", {})
