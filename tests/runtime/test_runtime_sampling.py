from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lhcc.runtime import sampling
from lhcc.runtime.sampling import Sample, Undisturbed, in_turn, median_interval, timed


def test_all_are_measured_equally_often_and_warmed_up_without_being_counted() -> None:
    taken: list[str] = []

    def measure(name: str) -> Sample:
        taken.append(name)
        return (float(taken.count(name)),)

    first, second = in_turn([lambda: measure("a"), lambda: measure("b")], repeats=7)
    assert first.all == second.all == [(float(sampling.WARMUP + k),) for k in range(1, 8)]
    turns = taken[2 * sampling.WARMUP :]
    assert all({turns[k], turns[k + 1]} == {"a", "b"} for k in range(0, len(turns), 2))


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PATIENCE_S", 0.0)
    (sampler,) = in_turn([timed(lambda: None)])
    assert len(sampler.all) == 1


def test_disturbed_samples_are_set_apart_while_enough_others_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    switches, disturbed = 0, False
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_nivcsw=switches))

    def measure() -> Sample:
        nonlocal switches
        switches += disturbed
        return (100.0 if disturbed else 1.0,)

    sampler = Undisturbed(measure)
    enough = sampling.MIN_REPEATS // 2
    for turn in range(3 * enough):
        disturbed = turn % 3 > 0
        sampler.take()
        assert sampler.best() == (sampler.clean if len(sampler.clean) >= enough else sampler.all)
    assert sampler.best() == [(1.0,)] * enough and sampler.disturbed == 2 * enough


def test_interval_of_the_median_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = median_interval(list(rng.exponential(size=40)))
        hits += low <= np.log(2) <= high
    assert 930 <= hits <= 990
    assert median_interval([5.0]) == (5.0, 5.0)
