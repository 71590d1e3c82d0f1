"""How much work the groups of a layer's output blocks are, counted from the kept tiles.  Plain numpy.

The estimate lives on these counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cuda.schedule import arrivals_of


@dataclass(frozen=True)
class Load:
    """The work of a group, on average, and the stages of the one that has most."""

    groups: int
    entries: float  # weight tiles of all warps
    staged: float  # input blocks
    stages: float
    most_stages: int


def count(tables: NDArray[np.int64], columns: int, splits: int, places: int, depth: int) -> Load:
    """`tables[phase, out, block]`: kept tiles; output blocks are in the order in which groups take them.  Stages are
    counted as if warps waited for each other after as many blocks as they may be apart."""
    groups = [table[start : start + columns] for table in tables for start in range(0, len(table), columns)]
    arrivals = arrivals_of(places)
    apart = max(1, places - arrivals)
    staged, stages = [], []
    for group in groups:
        needed = group[:, group.any(axis=0)]
        staged.append(needed.shape[1])
        starts = np.arange(0, needed.shape[1], apart)
        busiest = -(-np.add.reduceat(needed, starts, axis=1).max(axis=0) // splits) if len(starts) else starts
        blocks = np.diff(starts, append=needed.shape[1])
        stages.append(int(np.maximum(-(-busiest // depth), -(-blocks // arrivals)).sum()))
    share = 1 / len(groups)
    return Load(len(groups), int(tables.sum()) * share, sum(staged) * share, sum(stages) * share, max(stages))
