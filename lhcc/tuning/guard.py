"""The network as a whole, tuned against untuned: what was found layer by layer has to show there, or is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from lhcc.report.progress import report
from lhcc.runtime.sampling import median_interval
from lhcc.tuning.measure import CandidateFailed
from lhcc.tuning.search import BASE, Search
from lhcc.tuning.tuner import Tuner

RACE_S = 1.5  # of measuring one network against the other


@dataclass(frozen=True)
class Whole:
    """What tuning did for the network; without times, it could not be measured."""

    untuned_us: float | None
    tuned_us: float | None
    kept: int  # workloads that are computed in another way than untuned
    taken_back: int
    error: str | None = None

    def __str__(self) -> str:
        if self.untuned_us is None or self.tuned_us is None:
            text = f"could not be measured: {self.error}"
        else:
            text = f"{self.untuned_us:.1f} us untuned, {self.tuned_us:.1f} us tuned"
        back = f"; {self.taken_back} choices are not faster there and were taken back" * bool(self.taken_back)
        return f"the network as a whole: {text}{back}"


def guard(tuner: Tuner, untuned: bytes, tuned: Callable[[], bytes]) -> Whole | None:
    """Takes back choices until the artifact that `tuned` compiles is faster than `untuned`, or is the same.

    First go those that save least: they are the likeliest to have been noise.
    """
    changed = sorted((s for s in tuner.searches if s.best_number != BASE), key=_saved, reverse=True)
    kept, error = len(changed), None
    times: tuple[float, float] | None = None
    for fewer in (len(changed) // 2, 0):
        if not kept:
            break
        report("comparing the network as a whole")
        try:
            base, others = tuner.measurer.race([untuned, tuned()], RACE_S)
        except CandidateFailed as failure:
            error, fewer = str(failure), 0
        else:
            times = median(base), median(others)
            _, slowest = median_interval([other / one for one, other in zip(base, others, strict=True)])
            if slowest < 1:
                break
        for search in changed[fewer:kept]:
            tuner.take_back(search)
        kept = fewer
    if times is not None and not kept:
        times = times[0], times[0]
    untuned_us, tuned_us = times or (None, None)
    return Whole(untuned_us, tuned_us, kept, len(changed) - kept, error) if changed else None


def _saved(search: Search) -> float:
    """Microseconds of a run of the network."""
    return (search.base_us or 0.0) * (1 - search.tuned_ratio) * len(search.task.layers)
