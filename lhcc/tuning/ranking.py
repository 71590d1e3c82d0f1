"""Which candidates to measure next: the estimates of the cost model, corrected by what was measured so far."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RIDGE = 0.3  # measurements that it takes to believe half of a correction
SHARED_RIDGE = 3.0  # the same of one that all workloads share
HOPELESS = math.log(1.3)  # predicted to be so much slower than the best: not worth measuring even without compiling

Floats = NDArray[np.float64]


class Experience:
    """By which factor the estimate is wrong for every value of every field, over all workloads: where none of a
    workload's own candidates has been measured, those of others tell more than nothing."""

    def __init__(self) -> None:
        self.rankings: list[Ranking] = []
        self.columns: dict[Hashable, int] = {}

    def join(self, ranking: Ranking) -> NDArray[np.int64]:
        """The columns here of the features there."""
        self.rankings.append(ranking)
        return np.array([self.columns.setdefault(pair, len(self.columns)) for pair in ranking.pairs], np.int64)

    def favourites(self) -> list[Hashable]:
        """The best choice of every workload."""
        return [r.names[min(zip(r.times, r.seen, strict=True))[1]] for r in self.rankings if r.seen]

    def corrections(self) -> Floats:
        size = len(self.columns)
        gram, moment = SHARED_RIDGE * np.eye(size), np.zeros(size)
        for ranking in self.rankings:
            if len(ranking.seen) > 1:
                x, error = ranking.observed()
                x -= x.mean(axis=0)
                gram[np.ix_(ranking.shared, ranking.shared)] += x.T @ x
                moment[ranking.shared] += x.T @ error
        return np.asarray(np.linalg.solve(gram, moment), np.float64)


class Ranking:
    """Learns, for every value of every field of a choice, by which factor the estimate is wrong."""

    def __init__(
        self,
        choices: Sequence[Mapping[str, Any]],
        estimates: Sequence[float],
        codes: Sequence[Hashable] | None = None,
        experience: Experience | None = None,
    ) -> None:
        self.estimates = np.log(np.maximum(estimates, 1e-9))
        self.pairs, self.features = _one_hot(choices)
        self.names = [tuple(sorted(choice.items())) for choice in choices]
        self.open = dict.fromkeys(range(len(choices)))  # in the order of the cost model
        self.seen: list[int] = []
        self.times: list[float] = []
        self.codes = list(range(len(choices))) if codes is None else codes
        self.experience = experience or Experience()
        self.shared = self.experience.join(self)

    def __len__(self) -> int:
        return len(self.open)

    def drop(self, number: int) -> None:
        self.open.pop(number, None)

    def learn(self, number: int, time: float) -> None:
        self.drop(number)
        self.seen.append(number)
        self.times.append(math.log(time))

    def next(self, count: int) -> list[int]:
        """The most promising candidates that are left, taken out: of `count` different codes, and with each of them the
        others that share its code, for these cost a measurement only."""
        if not self.open:
            return []
        left = np.fromiter(self.open, np.int64, len(self.open))
        predicted = self._predicted()
        order = left[np.argsort(predicted[left], kind="stable")].tolist()
        if not self.seen:  # what is best elsewhere comes first
            favourites = set(self.experience.favourites())
            order.sort(key=lambda number: self.names[number] not in favourites)
        limit = predicted[[*order[:1], *self.seen]].min() + HOPELESS
        taken: dict[Hashable, list[int]] = {}
        for number in order:
            code = self.codes[number]
            if code in taken:
                if predicted[number] <= limit:
                    taken[code].append(number)
            elif len(taken) < count and self._teaches(number, [first for first, *_ in taken.values()]):
                taken[code] = [number]
        found = [number for numbers in taken.values() for number in numbers]
        for number in found:
            del self.open[number]
        return found

    def _teaches(self, number: int, taken: Sequence[int]) -> bool:
        """At first, near copies of one candidate would teach little."""
        alike = (int((self.features[number] != self.features[other]).sum()) <= 2 for other in taken)
        return bool(self.seen) or not any(alike)

    def observed(self) -> tuple[Floats, Floats]:
        """Features of what was measured, and the logarithm of the factor by which its estimate is wrong."""
        error = np.array(self.times) - self.estimates[self.seen]
        return self.features[self.seen], error - error.mean()

    def _predicted(self) -> Floats:
        weights = self.experience.corrections()[self.shared]
        if self.seen:
            x, error = self.observed()
            known = x @ weights
            gram = x.T @ x + RIDGE * np.eye(x.shape[1])
            weights = weights + np.linalg.solve(gram, x.T @ (error - (known - known.mean())))
        predicted: Floats = self.estimates + self.features @ weights
        return predicted


def _one_hot(choices: Sequence[Mapping[str, Any]]) -> tuple[list[Hashable], Floats]:
    rows = [list(choice.items()) for choice in choices]
    columns = {pair: i for i, pair in enumerate(dict.fromkeys(pair for row in rows for pair in row))}
    table = np.zeros((len(choices), len(columns)))
    for into, row in zip(table, rows, strict=True):
        into[[columns[pair] for pair in row]] = 1.0
    return list(columns), table
