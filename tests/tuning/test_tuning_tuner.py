"""The search itself, on kernels that wait, err, crash and hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.tuning import measure
from lhcc.tuning.database import Database
from lhcc.tuning.measure import CandidateFailed, LocalLink, Measurer, MeasuringFailed
from lhcc.tuning.ranking import Ranking
from lhcc.tuning.search import ratio, typical
from lhcc.tuning.tuner import Tuner
from tests.tuning.spaces import BASE, CRASH, HANG, WRONG, many, task, tune, wait

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tuning.json")


def test_the_fastest_correct_candidate_is_found(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CANDIDATE_S", 3.0)
    choices = [BASE, CRASH, wait(2000), HANG, WRONG, wait(300), wait(4000)]
    tuner, ended = tune([task(choices)], path)
    (search,) = tuner.searches
    assert ended == "nothing more to gain"
    assert search.task.choices[search.best_number] == wait(300)
    assert search.tuned_ratio < 0.7
    assert set(search.failures) == {1, 3, 4}
    assert "SIGABRT" in search.failures[1]
    assert "did not finish" in search.failures[3]
    assert "result is wrong" in search.failures[4]
    records = Database(path).records()
    assert [dict(r.choice) for r in records if r.final] == [wait(300)]
    assert {str(dict(r.choice)) for r in records if r.error} == {str(c) for c in (CRASH, HANG, WRONG)}


def test_the_untuned_choice_stays_when_nothing_is_faster(path: str) -> None:
    tuner, _ = tune([task([BASE, wait(6000), wait(9000)])], path)
    (search,) = tuner.searches
    assert search.best_number == 0 and search.tuned_ratio == 1.0
    assert [dict(r.choice) for r in Database(path).records() if r.final] == [BASE]


def test_a_second_run_measures_nothing_again(path: str) -> None:
    work = task([BASE, wait(300), WRONG])
    first, _ = tune([work], path)
    lines = Path(path).read_text()
    second, ended = tune([work], path)
    assert ended == "nothing more to gain"
    assert second.measured == 0
    assert Path(path).read_text() == lines
    assert second.searches[0].best_number == first.searches[0].best_number == 1
    assert second.searches[0].failures.keys() == {2}


def test_the_budget_is_kept(path: str) -> None:
    started = time.monotonic()
    _, ended = tune([task([wait(30_000), *(wait(20_000, number=n) for n in range(400))])], path, budget_s=3.0)
    assert ended == "the time is over"
    assert time.monotonic() - started < 20


def test_an_interrupt_keeps_what_was_measured(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Tuner._note

    def interrupted(self: Tuner, *args: Any, **more: Any) -> None:
        note(self, *args, **more)
        if self.measured == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tuner, "_note", interrupted)
    tuner, ended = tune([many(40)], path)
    assert ended == "interrupted"
    assert len(Database(path).records()) == 3
    assert tuner.searches[0].best_number != 0


def test_a_broken_untuned_choice_leaves_the_workload_alone(path: str) -> None:
    tuner, ended = tune([task([WRONG, wait(100)], "broken"), task([BASE, wait(300)])], path)
    assert ended == "nothing more to gain"
    assert [search.broken for search in tuner.searches] == [True, False]
    assert tuner.searches[1].best_number == 1


def test_kill_in_the_middle_loses_at_most_the_candidates_in_flight(path: str) -> None:
    command = [sys.executable, "-m", "tests.tuning.spaces", path, "12"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while len(Database(path).records()) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        before = Database(path).records()
        assert len(before) >= 4
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = Database(path).records()
    assert kept[: len(before)] == before
    tuner, ended = tune([many(12)], path)
    assert ended == "nothing more to gain"
    tried = [str(sorted(r.choice.items())) for r in Database(path).records() if not r.final]
    assert len(tried) == len(set(tried)) == tuner.searches[0].tried >= len(kept)


def test_a_worker_does_not_outlive_its_tuner(tmp_path: Path) -> None:
    code = (
        "import os, signal; from lhcc.tuning.measure import *\n"
        "link = LocalLink(); link.ask(('hello',), 60); print(link.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{done.stdout.strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.stdout.strip() and not Path(f"/proc/{done.stdout.strip()}").exists()


def test_without_a_worker_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MeasuringFailed, match="no worker can be started"):
        Measurer(LocalLink()).processor()


def test_candidates_are_loaded_again_after_a_crash() -> None:
    from lhcc.runtime.codegen import compile_kernels
    from lhcc.tuning.worker import Code
    from tests.tuning.spaces import Doubling, doubling, problem

    target = Doubling().tvm_target()
    good, bad = (
        Code(compile_kernels({"k": doubling(c).function()}, target, jobs=1), "k", ()) for c in (wait(100), CRASH)
    )
    measurer = Measurer(LocalLink())
    try:
        measurer.begin(0, problem())
        measurer.check(0, good)
        with pytest.raises(CandidateFailed, match="SIGABRT"):
            measurer.check(1, bad)
        (times,) = measurer.time([0], 5, 1.0)
        assert len(times) == 5 and all(us > 90 for us in times)
    finally:
        measurer.link.close()


def test_the_ranking_learns_which_factor_the_estimate_lacks() -> None:
    choices = [{"size": size, "order": order} for size in range(30) for order in (False, True)]
    estimates = [10.0 + c["size"] for c in choices]
    truth = [e * (1.0 if c["order"] else 2.5) for c, e in zip(choices, estimates, strict=True)]
    ranking = Ranking(choices, estimates)
    tried: list[Any] = []
    for _ in range(6):
        for number in ranking.next(2):
            tried.append(choices[number]["order"])
            ranking.learn(number, truth[number])
    assert tried.count(False) <= 2, "the estimate alone would try both orders in turn"


def test_the_ranking_starts_with_the_estimate_and_ends() -> None:
    ranking = Ranking([{"n": n} for n in range(5)], [5.0, 4.0, 3.0, 2.0, 1.0])
    assert ranking.next(1) == [4]
    seen = [ranking.next(1)[0] for _ in range(4)]
    assert seen == [3, 2, 1, 0] and ranking.next(1) == [] and len(ranking) == 0


def test_a_disturbance_of_some_rounds_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    base = 100 + rng.random(30)
    samples = 90 + rng.random(30)
    base[3:9] *= 3
    samples[3:9] *= 3
    samples[20:24] *= 2
    assert ratio(list(samples), list(base)) == pytest.approx(0.9, rel=0.01)
    assert typical([5.0]) == 5.0
