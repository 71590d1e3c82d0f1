"""Compiles candidates, has them measured and writes down what was found, until the time is over or all is tried."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from lhcc.report.progress import report
from lhcc.runtime.codegen import compile_kernels
from lhcc.tuning.database import Database, Record, Setting
from lhcc.tuning.measure import CandidateFailed, Measurer
from lhcc.tuning.search import BASE, NOISE, Search, ratio, typical
from lhcc.tuning.space import Space, Task
from lhcc.tuning.worker import Code, Problem

BATCH = 4  # candidates that are measured in turn with the untuned one
AHEAD = 2  # batches that are compiled before they are measured
QUICK, QUICK_S = 9, 0.2  # rounds of a first measurement, and the most seconds that they may take
CAREFUL, CAREFUL_S = 60, 0.5  # of a last one
FINAL_SHARE = 0.3  # of the budget, at most, for comparing the best once more
KERNEL = "kernel"


@dataclass
class Batch:
    """Candidates of one workload on their way through the compiler."""

    search: Search
    problem: Future[Problem]
    codes: dict[int, Future[Code]]


class Tuner:
    """One run of the search over all workloads of a model."""

    def __init__(self, space: Space, measurer: Measurer, database: Database, setting: Setting, budget_s: float) -> None:
        self.space, self.measurer, self.database, self.setting = space, measurer, database, setting
        self.started = time.monotonic()
        self.deadline = self.started + budget_s
        self.budget_s = budget_s
        self.measured = self.batches = 0
        self.searches: list[Search] = []
        self.problems: dict[str, Future[Problem]] = {}
        self.libraries: dict[str, bytes] = {}  # machine code by the identity of its kernel
        # with cores to spare, compiling goes on while candidates are measured; else the two take turns on all cores
        cores = len(os.sched_getaffinity(0))
        self.overlap = cores > setting.threads + 1
        self.pool = ThreadPoolExecutor(cores - setting.threads if self.overlap else cores)

    def run(self, tasks: Sequence[Task]) -> str:
        """Searches; why it ended.  Ctrl-C ends it, too: what was measured is in the database already."""
        self.searches = [Search.resume(task, self.database, self.setting) for task in tasks]
        try:
            ended = self._explore()
            self._settle()
        except KeyboardInterrupt:
            ended = "interrupted"
        finally:
            self.pool.shutdown(cancel_futures=True)
        return ended

    # ---- first measurements
    def _explore(self) -> str:
        share = min(FINAL_SHARE * self.budget_s, 1.5 * CAREFUL_S * len(self.searches))
        end = self.deadline - share
        waiting: deque[Batch] = deque()
        while True:
            if self.overlap or not waiting:
                while len(waiting) < AHEAD and (search := self._most_promising(waiting)):
                    waiting.append(self._begin(search))
            if not waiting:
                return "nothing more to gain"
            end_now = end if self.batches else math.inf  # however short the time is, something is measured
            if not self.overlap:
                wait([code for batch in waiting for code in batch.codes.values()], _left(end_now))
            if time.monotonic() > end_now:
                for batch in waiting:
                    for code in batch.codes.values():
                        code.cancel()
                return "the time is over"
            self._measure(waiting.popleft(), end_now)
            self.batches += 1
            self._show()

    def _most_promising(self, waiting: deque[Batch]) -> Search | None:
        busy = [batch.search for batch in waiting]
        left = [s for s in self.searches if not s.finished(BATCH) and not any(s is other for other in busy)]
        return max(left, key=lambda search: search.promise(BATCH), default=None)

    def _begin(self, search: Search) -> Batch:
        numbers = [BASE, *search.ranking.next(BATCH)]
        codes = {number: self.pool.submit(self._code, search.task, number) for number in numbers}
        return Batch(search, self._problem(search.task), codes)

    def _problem(self, task: Task) -> Future[Problem]:
        if task.workload not in self.problems:
            self.problems[task.workload] = self.pool.submit(task.problem)
        return self.problems[task.workload]

    def _code(self, task: Task, number: int) -> Code:
        kernel = task.kernel(task.choices[number])
        if kernel.identity not in self.libraries:
            functions = {KERNEL: kernel.function}
            self.libraries[kernel.identity] = compile_kernels(functions, self.space.tvm_target(), jobs=1)
        return Code(self.libraries[kernel.identity], KERNEL, kernel.constants)

    def _measure(self, batch: Batch, end: float) -> None:
        """Checks and times the candidates of a batch; one that fails is noted as such, one not ready is forgotten."""
        search = batch.search
        wait([batch.problem], _left(end))
        wait(batch.codes.values(), _left(end))
        if not batch.problem.done() or not batch.codes[BASE].done():
            return
        self.measurer.begin(self.searches.index(search), batch.problem.result())
        ready = {number: code for number, code in batch.codes.items() if code.done()}
        good = [number for number, code in ready.items() if self._passes(search, number, code)]
        if BASE not in good:
            search.broken = True
            return
        for numbers in self._timed(search, [n for n in good if n != BASE], QUICK, QUICK_S):
            for number, (us, base_us) in numbers.items():
                self._note(search, number, us, base_us)

    def _passes(self, search: Search, number: int, code: Future[Code]) -> bool:
        try:
            self.measurer.check(number, code.result())
        except CandidateFailed as error:
            self._note(search, number, error=str(error))
            return False
        except (ValueError, RuntimeError) as error:  # the compiler refuses it
            self._note(search, number, error=f"it cannot be compiled: {error}")
            return False
        return True

    def _timed(
        self, search: Search, numbers: list[int], rounds: int, seconds: float
    ) -> list[dict[int, tuple[float, float]]]:
        """Microseconds of the candidates and of the untuned one; a group that kills the worker is tried one by one."""
        try:
            base, *others = self.measurer.time([BASE, *numbers], rounds, seconds)
        except CandidateFailed as error:
            if len(numbers) > 1:
                return [found for n in numbers for found in self._timed(search, [n], rounds, seconds)]
            for number in numbers:
                self._note(search, number, error=str(error))
            return []
        base_us = typical(base)
        return [{n: (ratio(samples, base) * base_us, base_us) for n, samples in zip(numbers, others, strict=True)}]

    def _note(
        self,
        search: Search,
        number: int,
        us: float | None = None,
        base_us: float | None = None,
        final: bool = False,
        error: str | None = None,
    ) -> None:
        choice = dict(search.task.choices[number])
        record = Record(search.task.workload, self.setting, choice, us, base_us, final, error)
        self.database.add(record)
        search.take(number, record)
        self.measured += us is not None and not final

    # ---- last measurements
    def _settle(self) -> None:
        """Compares the best of every workload with the untuned choice once more, with the compiler at rest."""
        open_ = [s for s in self.searches if s.base_us is not None and not s.settled and not s.broken]
        for done, search in enumerate(open_):
            report("comparing the best", done, len(open_))
            finalists = [BASE, *search.finalists()]
            codes = {number: self.pool.submit(self._code, search.task, number) for number in finalists}
            self.measurer.begin(self.searches.index(search), self._problem(search.task).result())
            good = [number for number, code in codes.items() if self._passes(search, number, code)]
            if BASE in good:
                self._decide(search, [number for number in good if number != BASE])

    def _decide(self, search: Search, candidates: list[int]) -> None:
        left = max(CAREFUL_S / 5, min(CAREFUL_S, self.deadline - time.monotonic()))
        found: dict[int, tuple[float, float]] = {}
        for group in self._timed(search, candidates, CAREFUL, left):
            found.update(group)
        near = _near(found)
        if len(near) > 1:  # within noise of each other: look again at these
            for group in self._timed(search, near, CAREFUL, left):
                found.update(group)
        best = min(found, key=lambda n: found[n][0] / found[n][1], default=BASE)
        us, base_us = found.get(best, (search.base_us, search.base_us))
        assert us is not None and base_us is not None
        search.chosen = best if us < base_us * (1 - NOISE) else BASE
        self._note(search, search.chosen, us if search.chosen != BASE else base_us, base_us, final=True)
        search.ratios[search.chosen] = us / base_us
        search.settled = True

    # ---- for people
    def _show(self) -> None:
        passed = time.monotonic() - self.started
        left = max(0.0, self.deadline - time.monotonic())
        text = f"tuning: {self.measured} measured, {self.speed_up():.2f}x, at most {left:.0f} s left"
        report(text, int(min(passed, self.budget_s)), max(1, int(self.budget_s)))

    def speed_up(self) -> float:
        """Of all tuned layers together, as measured one by one."""
        known = [(s.base_us * len(s.task.layers), s.tuned_ratio) for s in self.searches if s.base_us is not None]
        after = sum(us * ratio for us, ratio in known)
        return sum(us for us, _ in known) / after if after else 1.0


def _left(end: float) -> float | None:
    """Seconds until then; None: for ever."""
    return None if end == math.inf else max(0.0, end - time.monotonic())


def _near(found: dict[int, tuple[float, float]]) -> list[int]:
    """The candidates within noise of the best."""
    if not found:
        return []
    best = min(us / base for us, base in found.values())
    return [number for number, (us, base) in found.items() if us / base < best * (1 + 2 * NOISE)]
