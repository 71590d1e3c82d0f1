"""Which set each layer gets: from the most accurate choice down, always the step with the least error per addition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lhcc.approximation.weights import Candidate
from lhcc.errors import LhccError

_EVALUATIONS = 32


class BudgetError(LhccError):
    """A budget that no choice of sets meets."""


@dataclass(frozen=True)
class Budget:
    """Limits on the whole model: relative weight error, additions per inference, accuracy lost in points."""

    error: float | None = None
    additions: int | None = None
    drop: float | None = None

    @property
    def any(self) -> bool:
        return any(limit is not None for limit in (self.error, self.additions, self.drop))


@dataclass
class Point:
    """One choice of a set per layer; `drop` is the accuracy lost, in points, where it was measured."""

    choice: tuple[int, ...]
    additions: int
    error: float
    drop: float | None = None


def descend(tables: Sequence[Sequence[Candidate]], positions: Sequence[int], weights: Sequence[float]) -> list[Point]:
    """The greedy path through the choices, most accurate first; tables[l] are the candidates of layer l.

    `weights` say how much the output suffers from each layer's error, and thereby the order of the steps; the error of
    a choice is that of the weights themselves, the root of the mean over layers of the squared relative error.
    """
    fronts = [_front(table) for table in tables]
    at = [0] * len(tables)
    path = [_point(tables, positions, [front[0] for front in fronts])]
    while True:
        steps = []
        for layer, front in enumerate(fronts):
            now = tables[layer][front[at[layer]]]
            for k in range(at[layer] + 1, len(front)):
                then = tables[layer][front[k]]
                saved = (now.additions - then.additions) * positions[layer]
                lost = weights[layer] * (then.relative_error**2 - now.relative_error**2)
                steps.append((lost / saved, layer, k))
        if not steps:
            return path
        _, layer, k = min(steps)
        at[layer] = k
        path.append(_point(tables, positions, [front[i] for front, i in zip(fronts, at, strict=True)]))


def _front(table: Sequence[Candidate]) -> list[int]:
    """Candidates that are cheaper than all more accurate ones, most accurate first."""
    kept: list[int] = []
    for k in sorted(range(len(table)), key=lambda k: (table[k].relative_error, table[k].additions)):
        if not kept or table[k].additions < table[kept[-1]].additions:
            kept.append(k)
    return kept


def _point(tables: Sequence[Sequence[Candidate]], positions: Sequence[int], choice: Sequence[int]) -> Point:
    chosen = [table[k] for table, k in zip(tables, choice, strict=True)]
    additions = sum(c.additions * p for c, p in zip(chosen, positions, strict=True))
    squares = sum(c.relative_error**2 for c in chosen)
    return Point(tuple(choice), int(additions), float(np.sqrt(squares / max(len(chosen), 1))))


def choose(path: Sequence[Point], budget: Budget, drop_of: Callable[[Point], float] | None) -> Point:
    """The cheapest point within the limits on error and accuracy; with one on additions alone, the most accurate."""
    if budget.additions is not None and path[-1].additions > budget.additions:
        raise BudgetError(
            f"no choice of sets needs {budget.additions:,} additions or fewer; "
            f"the cheapest needs {path[-1].additions:,}",
            f"use max_adds={path[-1].additions} or more, or offer a coarser set",
        )
    if budget.error is not None and path[0].error > budget.error:
        raise BudgetError(
            f"no choice of sets reaches an error of {budget.error:g}; the best reaches {path[0].error:.4g}",
            f"use max_error={path[0].error:.4g} or more, or offer a richer set",
        )
    fits = [
        p
        for p in path
        if (budget.error is None or p.error <= budget.error)
        and (budget.additions is None or p.additions <= budget.additions)
    ]
    if not fits:
        raise BudgetError("the limits on error and additions exclude each other", "relax one of them")
    if budget.drop is None:
        return fits[0] if budget.error is None else fits[-1]
    if drop_of is None:
        raise BudgetError(
            "a limit on accuracy needs labelled calibration data",
            "give calibrate=(x, labels), or --calibrate FILE.npz with x and y",
        )
    for k in sorted({int(i) for i in np.linspace(0, len(fits) - 1, _EVALUATIONS)}):
        fits[k].drop = drop_of(fits[k])
    good = [p for p in fits if p.drop is not None and p.drop <= budget.drop + 1e-9]
    if not good:
        best = min((p for p in fits if p.drop is not None), key=lambda p: p.drop or 0.0)
        raise BudgetError(
            f"no choice of sets loses at most {budget.drop:g} points; the best loses {best.drop:.2f}",
            f"use max_drop={best.drop:.2f} or more, or offer a richer set",
        )
    return min(good, key=lambda p: p.additions)
