"""A start that sharing digits cannot reach: every output as another one, shifted, plus the difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.adders.network import SumNetwork, Term
from lhcc.encodings.dyadic import digit_count

_SHIFTS = (-2, -1, 0, 1, 2)
_MOST_OUTPUTS = 64


def difference_network(matrix: NDArray[np.int64]) -> SumNetwork | None:
    """Prim's tree over the outputs: the parent is the output, or nothing, that leaves the fewest signed digits."""
    columns = matrix.T
    count = len(columns)
    if count < 2 or count > _MOST_OUTPUTS:
        return None
    digits = digit_count(columns).sum(axis=1)
    parent: list[tuple[int, int, int]] = [(-1, 0, 0)] * count
    cost = digits.copy()
    waiting = set(range(count))
    while waiting:
        chosen = min(waiting, key=lambda j: (int(cost[j]), j))
        waiting.remove(chosen)
        for j in waiting:
            for shift, neg in ((s, n) for s in _SHIFTS for n in (0, 1)):
                rest = _rest(columns[j], columns[chosen], shift, neg)
                if rest is not None and int(digit_count(rest).sum()) + 1 < cost[j]:
                    cost[j], parent[j] = int(digit_count(rest).sum()) + 1, (chosen, shift, neg)
    plain = SumNetwork.from_matrix(matrix)
    sums: list[list[Term]] = []
    for j, (source, shift, neg) in enumerate(parent):
        if source < 0:
            sums.append(plain.sums[j])
            continue
        rest = _rest(columns[j], columns[source], shift, neg)
        assert rest is not None
        terms: list[Term] = [(plain.inputs + source, shift, neg)]
        sums.append(terms + SumNetwork.from_matrix(rest[:, None]).sums[0])
    return SumNetwork(plain.inputs, count, sums)


def _rest(column: NDArray[np.int64], source: NDArray[np.int64], shift: int, neg: int) -> NDArray[np.int64] | None:
    """column minus the shifted source; None where a right shift would lose bits."""
    if shift < 0 and (source & ((1 << -shift) - 1)).any():
        return None
    moved = source << shift if shift >= 0 else source >> -shift
    return column + moved if neg else column - moved
