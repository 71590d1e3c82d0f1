"""How long something takes, on a machine that others use too: samples in turn, those set apart that were disturbed."""

from __future__ import annotations

import math
import random
import resource
from collections.abc import Callable, Sequence
from time import perf_counter_ns

WARMUP = 5
MIN_REPEATS, MAX_REPEATS = 15, 300
BUDGET_S, PATIENCE_S = 1.0, 4.0  # patience: how long to go on while others keep the machine busy

Sample = tuple[float, ...]  # microseconds
Measure = Callable[[], Sample]


class Undisturbed:
    """Samples of `measure`, set apart when the system took the processor away from us while it ran.

    On a busy machine a long run is interrupted more often than a short layer: with the interrupted ones the median of
    the whole would be far above the sum of the layers.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.all: list[Sample] = []
        self.clean: list[Sample] = []

    def take(self) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        sample = self.measure()
        self.all.append(sample)
        if resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before:
            self.clean.append(sample)

    def best(self) -> list[Sample]:
        return self.clean if len(self.clean) >= MIN_REPEATS // 2 else self.all

    @property
    def disturbed(self) -> int:
        return len(self.all) - len(self.clean)


def in_turn(measures: Sequence[Measure], repeats: int | None = None) -> list[Undisturbed]:
    """Samples of each, taken in turn so that all meet the same conditions; without `repeats`, as many as fit into a
    second."""
    samplers = [Undisturbed(measure) for measure in measures]
    for _ in range(WARMUP):
        for measure in measures:
            measure()
    started = perf_counter_ns()
    while len(samplers[0].all) < (repeats or MAX_REPEATS):
        for sampler in random.sample(samplers, len(samplers)):  # what runs before it matters to each
            sampler.take()
        seconds = (perf_counter_ns() - started) / 1e9
        enough = min(len(sampler.clean) for sampler in samplers) >= MIN_REPEATS
        if repeats is None and (seconds > BUDGET_S and enough or seconds > PATIENCE_S):
            break
    return samplers


def timed(run: Callable[[], object]) -> Measure:
    """One sample of one number: how long `run` takes."""

    def measure() -> Sample:
        start = perf_counter_ns()
        run()
        return ((perf_counter_ns() - start) / 1e3,)

    return measure


def median_interval(times: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, from the order of the samples alone: times are not normal."""
    ordered = sorted(times)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach) - 1)]
