"""Starting points from alkaid, where it is installed: its adder graphs read back as sum networks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.adders.network import SumNetwork, Term

_SECONDS_PER_SQUARED_DIGIT = 3e-8
_LARGEST_EXACT = 1 << 24


def networks(matrix: NDArray[np.int64], cap: int, seconds: float) -> Iterator[SumNetwork]:
    """Networks of alkaid for this matrix, as long as they should take no more than a tenth of the time each."""
    digits = int(sum(int(w).bit_count() for w in np.abs(matrix).ravel()))
    if seconds <= 0 or digits**2 * _SECONDS_PER_SQUARED_DIGIT > seconds / 10 or not matrix.any():
        return
    if np.abs(matrix).max() >= _LARGEST_EXACT:
        return
    try:
        cmvm_solve = importlib.import_module("alkaid.cmvm").cmvm_solve
    except ImportError:
        return
    for slack in (0, 1) if cap else (-1,):
        kernel = np.ascontiguousarray(matrix, dtype=np.float32)
        stages = cmvm_solve(kernel, method0="mc", hard_dc=slack, search_all_decompose_dc=False)
        yield network_of(stages, matrix.shape[0])


def network_of(stages: Any, inputs: int) -> SumNetwork:
    """Chains the stages of alkaid or da4ml (each a list of additions over shifted operands) into one network."""
    wires: list[Term | None] = [(i, 0, 0) for i in range(inputs)]
    sums: list[list[Term]] = []
    for stage in stages:
        values: list[Term | None] = []
        for op in stage.ops:
            operands, shift = (op.addr, op.data[0]) if hasattr(op, "addr") else ((op.id0, op.id1), op.data)
            if op.opcode == -1:
                source = operands[0] if operands else shift
                wire, shift = wires[source], int(stage.inp_shifts[source])
                values.append(None if wire is None else (wire[0], wire[1] + shift, wire[2]))
            elif op.opcode in (0, 1):
                left, right = values[operands[0]], values[operands[1]]
                terms = [] if left is None else [left]
                if right is not None:
                    terms.append((right[0], right[1] + int(shift), right[2] ^ op.opcode))
                sums.append(terms)
                values.append((inputs + len(sums) - 1, 0, 0))
            else:
                raise ValueError(f"alkaid's opcode {op.opcode} is not an addition")
        wires = []
        for node, shift, neg in zip(stage.out_idxs, stage.out_shifts, stage.out_negs, strict=True):
            value = values[node] if node >= 0 else None
            wires.append(None if value is None else (value[0], value[1] + int(shift), value[2] ^ int(neg)))
    outputs = [[] if wire is None else [wire] for wire in wires]
    moved = len(outputs)
    renamed = [[(src + moved if src >= inputs else src, s, n) for src, s, n in terms] for terms in outputs + sums]
    return SumNetwork(inputs, len(outputs), renamed)
