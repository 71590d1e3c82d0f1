"""The search for one workload: what to try next, what was found, and what of it is worth measuring again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import mean, median

from lhcc.tuning.database import Database, Record, Setting
from lhcc.tuning.ranking import Experience, Ranking
from lhcc.tuning.space import Task

FINALISTS = 8
PATIENCE = 6  # batches without an improvement, after which a workload is left alone
NOISE = 0.01  # a smaller gain than this is none
UNMEASURED = 1e-3  # microseconds a cycle, and a little more: what was never looked at comes first
FEW = 16  # rounds
BASE = 0  # the number of the untuned choice


@dataclass
class Search:
    """State of the search for one task."""

    task: Task
    ranking: Ranking
    base_us: float | None = None
    ratios: dict[int, float] = field(default_factory=dict)  # measured candidates: time over that of the untuned one
    failures: dict[int, str] = field(default_factory=dict)
    stale: int = 0  # batches since the last improvement
    chosen: int | None = None  # after the final comparison
    settled: bool = False  # the final comparison covers everything that was measured
    broken: bool = False  # not even the untuned choice can be measured

    @classmethod
    def resume(cls, task: Task, database: Database, setting: Setting, experience: Experience | None = None) -> Search:
        """Starts from what the database knows already."""
        codes = [task.code(choice) for choice in task.choices]
        search = cls(task, Ranking(task.choices, task.estimates, codes, experience))
        search.ranking.drop(BASE)
        numbers = {tuple(sorted(choice.items())): number for number, choice in enumerate(task.choices)}
        for record in database.of(task.workload, setting):
            number = numbers.get(tuple(sorted(record.choice.items())))
            if number is not None:
                search.take(number, record)
                search.settled = record.final
                search.chosen = number if record.final else search.chosen
        return search

    def take(self, number: int, record: Record) -> None:
        """Learns from a record, new or old."""
        if record.us is None or record.base_us is None:
            self.failures[number] = record.error or "failed"
            self.ranking.drop(number)
            return
        if self.base_us is None:
            self.ranking.learn(BASE, 1.0)
        self.base_us, self.settled = record.base_us, False
        if number == BASE:
            return
        self.ratios[number] = record.ratio
        self.ranking.learn(number, record.ratio)

    def note_progress(self, before: float) -> None:
        """After a batch: `before` is the best ratio that was known before it."""
        self.stale = 0 if self.best_ratio < before * (1 - NOISE) else self.stale + 1

    @property
    def tried(self) -> int:
        return len(self.ratios.keys() | self.failures.keys())

    @property
    def best_ratio(self) -> float:
        return min([1.0, *self.ratios.values()])

    @property
    def tuned_ratio(self) -> float:
        """Of the choice that the compiler will take now."""
        number = self.best_number
        return self.ratios.get(number, 1.0) if number != BASE else 1.0

    @property
    def best_number(self) -> int:
        if self.chosen is not None:
            return self.chosen
        return min(self.ratios, key=lambda n: self.ratios[n]) if self.best_ratio < 1 else BASE

    @property
    def finished(self) -> bool:
        return self.broken or not len(self.ranking) or self.stale >= PATIENCE

    @property
    def promise(self) -> float:
        """What trying more candidates may save: the time spent in the layers, less as nothing better is found."""
        time = (self.base_us or UNMEASURED * self.task.estimates[BASE]) * self.best_ratio * len(self.task.layers)
        promise: float = time * 0.7**self.stale
        return promise

    def finalists(self) -> list[int]:
        """Candidates that are near enough to the best to be compared with it again."""
        near = [n for n, ratio in self.ratios.items() if ratio < min(1.02, self.best_ratio * 1.1)]
        return sorted(near, key=lambda n: self.ratios[n])[:FINALISTS]


def typical(samples: list[float]) -> float:
    """Time without disturbance: the mean of the fastest quarter, because others only ever make a run longer."""
    return mean(sorted(samples)[: max(1, len(samples) // 4)])


def ratio(samples: list[float], base: list[float]) -> float:
    """How much longer than the untuned one: by the undisturbed times and, of many rounds, also round by round, where
    what is slow for both cancels out."""
    undisturbed = typical(samples) / typical(base)
    if len(samples) < FEW:  # a disturbance may cover half of these
        return undisturbed
    return math.sqrt(undisturbed * median(one / other for one, other in zip(samples, base, strict=True)))
