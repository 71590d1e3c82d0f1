"""Programs as Relax modules, and their parts as circuits that the integer program answers: no tool is needed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax

from lhcc.errors import Unplaceable
from lhcc.integer import Input, Program
from lhcc.integer.ported import Ported, batch_shape
from lhcc.ir import int_calls
from lhcc.ir.inline import inline
from lhcc.ir.log import Log
from lhcc.passes.offload_integers import OffloadIntegers
from lhcc.pipeline import lower
from lhcc.runtime.build import build_program
from lhcc.runtime.circuit import Circuit, digest_of
from lhcc.runtime.mixed import Mixed
from lhcc.targets import base


def module_of(program: Program, images: int = 1) -> Any:
    """A module whose `main` is the program, floats in and floats out."""
    builder = relax.BlockBuilder()
    parameters = []
    for step in program.inputs:
        shape = batch_shape(program.types[step.name].shape, program.layout, images)
        parameters.append(relax.Var(step.name, relax.TensorType(list(shape), "float32")))
    with builder.function("main", parameters):
        with builder.dataflow():
            outputs = int_calls.write(program, parameters, builder.emit, images)
            result = builder.emit_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
        builder.emit_func_output(result)
    return builder.get()


def computed(ported: Ported) -> list[str]:
    """The instructions of a part that compute something."""
    return [step.name for step in ported.program.instructions if not isinstance(step, Input)]


class WithoutCircuit:
    """Places everything but `refused`; circuits are answered by their programs."""

    def __init__(self, refused: Collection[str] = ()) -> None:
        self.refused = refused

    def place(self, ported: Ported, images: int) -> Circuit:
        for name in computed(ported):
            if name in self.refused:
                raise Unplaceable(name, f"'{name}' is refused")
        return Circuit(None, ported, images, digest_of(ported, images, None), functional=True)


def offload(mod: Any, refused: Collection[str] = ()) -> tuple[Any, OffloadIntegers, Log]:
    cpu: Any = base.parse("cpu")
    log, options = Log(), base.Options()
    item = OffloadIntegers(
        WithoutCircuit(refused).place, lambda part, images: cpu.lower_part(part, options, images), cpu.tvm_target()
    )
    return item.run(mod, log), item, log


def executable(mod: Any, item: OffloadIntegers) -> Mixed:
    """What is left after the pass, compiled for this processor."""
    cpu: Any = base.parse("cpu")
    names = {symbol: f"circuit{number}" for number, symbol in enumerate(item.circuits)}
    lowered = inline(lower(mod, cpu, base.Options()), item.integers, names)
    circuits = list(item.circuits.values())
    return Mixed(build_program(replace(lowered, modules=item.modules), cpu), circuits)


def images_for(program: Program, rng: np.random.Generator, count: int) -> np.ndarray:
    """Real images for the program's input: on its grid, between two points of it, and beyond its interval."""
    kind = program.types[program.inputs[0].name]
    integers = rng.integers(kind.low - 3, kind.high + 4, (count, *kind.shape))
    return program.in_layout(((integers + rng.choice([0, 0.25])) * kind.scale).astype(np.float32))


def results_of(exe: Mixed, x: np.ndarray) -> Sequence[np.ndarray]:
    results = exe(x)
    return results if isinstance(results, tuple) else (results,)
