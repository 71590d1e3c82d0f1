"""The memory plan of a program as the text that runner.c reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lhcc.runtime.program import Operand, Program

CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLPack's numbers of the kinds of numpy


def write(program: Program) -> str:
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield f"{program.weights.nbytes} {program.arena_size}"
    for specs in (program.inputs, program.outputs):
        yield " ".join(map(str, [len(specs), *(spec.nbytes for spec in specs)]))
    yield str(len(program.calls))
    for call in program.calls:
        yield " ".join([call.kernel, str(len(call.operands)), *map(_operand, call.operands)])
    yield str(len(program.copies))
    for copy in program.copies:
        yield f"{copy.source.kind} {copy.source.at} {copy.output} {copy.source.nbytes}"


def _operand(operand: Operand) -> str:
    dtype = np.dtype(operand.dtype)
    numbers = [operand.at, CODES[dtype.kind], 8 * dtype.itemsize, len(operand.shape), *operand.shape]
    return " ".join([operand.kind, *map(str, numbers)])
