"""LUTs of layers in unrolled form before any is built: those of a part of their weights, scaled to all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.dyadic import digit_count
from lhcc.integer import Conv, Dense, Program, TensorType
from lhcc.targets.fpga.arithmetic import Multiply
from lhcc.targets.fpga.cost import logic_luts
from lhcc.targets.fpga.netlist import Netlist

Matrix = NDArray[np.int64]

COLUMNS, DIGITS = 32, 2000
"""of the part: outputs side by side, which share sums most, and signed digits: few enough for a fraction of a second"""


def unrolled_luts(program: Program, multiply: Multiply) -> int:
    """Of the convolutions and dense layers, with sums shared as `multiply` shares them."""
    steps = [s for s in program.instructions if isinstance(s, Conv | Dense)]
    return sum(_layer(s, program.types[s.inputs[0]], multiply) for s in steps)


def _layer(step: Conv | Dense, x: TensorType, multiply: Multiply) -> int:
    matrix = step.weight.reshape(-1, step.weight.shape[-1])
    digits = digit_count(matrix)
    if not digits.any():
        return 0
    net, counted = Netlist(), 0
    ends = min(int(x.low.min()), 0), max(int(x.high.max()), 0)
    for part in _parts(digits, matrix.shape[1] // (step.groups if isinstance(step, Conv) else 1)):
        inputs = [net.input(len(net.nodes) + k, *ends) for k in range(len(part[0]))]
        net.outputs += multiply(net, inputs, matrix[part], [0] * part[1].shape[1])
        counted += int(digits[part].sum())
    return round(logic_luts(net) * int(digits.sum()) / counted)


def _parts(digits: Matrix, group: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Rows and columns, for indexing: the fullest runs of outputs, of one group each, and rows spread over all inputs
    that they read."""
    run = min(COLUMNS, group)
    starts = [first + k for first in range(0, digits.shape[1], group) for k in range(0, group - run + 1, run)]
    fullest = sorted(starts, key=lambda k: -int(digits[:, k : k + run].sum()))[: COLUMNS // run]
    for start in fullest:
        block = digits[:, start : start + run]
        rows = np.flatnonzero(block.any(axis=1))
        kept = min(len(rows), -(-DIGITS * len(rows) // (len(fullest) * max(1, int(block.sum())))))
        if kept:
            spread = rows[np.arange(kept) * len(rows) // kept]
            yield spread[:, None], np.arange(start, start + run)[None]
