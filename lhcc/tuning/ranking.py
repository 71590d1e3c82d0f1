"""Which candidates to measure next: the estimates of the cost model, corrected by what was measured so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RIDGE = 0.3  # measurements that it takes to believe half of a correction


class Ranking:
    """Learns, for every value of every field of a choice, by which factor the estimate is wrong."""

    def __init__(self, choices: Sequence[Mapping[str, Any]], estimates: Sequence[float]) -> None:
        self.estimates = np.log(np.maximum(estimates, 1e-9))
        self.features = _one_hot(choices)
        self.open = dict.fromkeys(range(len(choices)))  # in the order of the cost model
        self.seen: list[int] = []
        self.times: list[float] = []

    def __len__(self) -> int:
        return len(self.open)

    def drop(self, number: int) -> None:
        self.open.pop(number, None)

    def learn(self, number: int, time: float) -> None:
        self.drop(number)
        self.seen.append(number)
        self.times.append(math.log(time))

    def next(self, count: int) -> list[int]:
        """The most promising candidates that are left, taken out."""
        left = np.fromiter(self.open, np.int64, len(self.open))
        if not len(left):
            return []
        order = np.argsort(self._predicted()[left], kind="stable")
        taken: list[int] = []
        for number in left[order].tolist():
            # at first, near copies of one candidate would teach little
            if self.seen or all((self.features[number] != self.features[other]).sum() > 2 for other in taken):
                taken.append(number)
            if len(taken) == count:
                break
        for number in taken:
            del self.open[number]
        return taken

    def _predicted(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        if not self.seen:
            return self.estimates
        x, error = self.features[self.seen], np.array(self.times) - self.estimates[self.seen]
        centred = error - error.mean()
        gram = x.T @ x + RIDGE * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ centred)
        predicted: np.ndarray[Any, np.dtype[np.float64]] = self.estimates + self.features @ weights
        return predicted


def _one_hot(choices: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    pairs = [[(name, value) for name, value in choice.items()] for choice in choices]
    columns = {pair: i for i, pair in enumerate(dict.fromkeys(pair for row in pairs for pair in row))}
    table = np.zeros((len(choices), len(columns)))
    for row, of in zip(table, pairs, strict=True):
        row[[columns[pair] for pair in of]] = 1.0
    return table
