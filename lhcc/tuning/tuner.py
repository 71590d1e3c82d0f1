"""Compiles candidates, has them measured and writes down what was found, until the time is over or all is tried."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Hashable, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from lhcc.report.progress import report
from lhcc.runtime.codegen import compile_kernels
from lhcc.tuning.database import Database, Record, Setting
from lhcc.tuning.measure import CandidateFailed, Measurer
from lhcc.tuning.ranking import Experience
from lhcc.tuning.search import BASE, NOISE, Search, ratio, typical
from lhcc.tuning.space import Space, Task
from lhcc.tuning.worker import Code, Problem

BATCH = 4  # kernels whose candidates are measured in turn with the untuned one
AHEAD = 2  # batches that are compiled before they are measured
GLANCE, QUICK, QUICK_S = 5, 10, 0.3  # rounds of a first measurement and, of what ...
NEAR = 1.15  # ... is so near to the best, of a second; the most seconds that these may take
HEATS, CAREFUL, CAREFUL_S = 16, 60, 0.5  # of a last one, for finalists and for the best three of them
FINAL_SHARE = 0.3  # of the budget, at most, for comparing the best once more
KERNEL = "kernel"
INTERRUPTED = "interrupted"


@dataclass
class Batch:
    """Candidates of one workload on their way through the compiler."""

    search: Search
    problem: Future[Problem]
    base: Future[list[Code]]
    codes: dict[tuple[int, ...], Future[list[Code]]]  # by the candidates that share machine code


class Tuner:
    """One run of the search over all workloads of a model."""

    def __init__(self, space: Space, measurer: Measurer, database: Database, setting: Setting, budget_s: float) -> None:
        self.space, self.measurer, self.database, self.setting = space, measurer, database, setting
        self.started = time.monotonic()
        self.deadline = self.started + budget_s
        self.budget_s = budget_s
        self.measured = self.batches = self.decided = 0
        self.searches: list[Search] = []
        self.problems: dict[str, Future[Problem]] = {}
        self.bases: dict[str, Future[list[Code]]] = {}
        self.libraries: MutableMapping[str, bytes] = {}  # machine code by the identity of its kernel
        # with cores to spare, compiling goes on while candidates are measured; else the two take turns on all cores
        cores = len(os.sched_getaffinity(0))
        self.overlap = cores > setting.threads + 1
        self.pool = ThreadPoolExecutor(cores - setting.threads if self.overlap else cores)

    def run(self, tasks: Sequence[Task]) -> str:
        """Searches; why it ended.  Ctrl-C ends it, too: what was measured is in the database already."""
        experience = Experience()
        self.searches = [Search.resume(task, self.database, self.setting, experience) for task in tasks]
        try:
            ended = self._explore()
            self._settle()
        except KeyboardInterrupt:
            ended = INTERRUPTED
        finally:
            self.pool.shutdown(cancel_futures=True)
        return ended

    # ---- first measurements
    def _explore(self) -> str:
        waiting: deque[Batch] = deque()
        while True:
            if self.overlap or not waiting:
                while len(waiting) < AHEAD and (search := self._most_promising(waiting)):
                    waiting.append(self._begin(search))
            if not waiting:
                return "nothing more to gain"
            finals = sum(search.base_us is not None and not search.settled for search in self.searches)
            end = self.deadline - min(FINAL_SHARE * self.budget_s, 1.5 * CAREFUL_S * (finals + len(waiting)))
            end_now = end if self.batches else math.inf  # however short the time is, something is measured
            if not self.overlap:
                wait([code for batch in waiting for code in [batch.base, *batch.codes.values()]], _left(end_now))
            if time.monotonic() > end_now:
                for batch in waiting:
                    for codes in batch.codes.values():
                        codes.cancel()
                return "the time is over"
            self._measure(waiting.popleft(), end_now)
            self.batches += 1
            self._show()

    def _most_promising(self, waiting: deque[Batch]) -> Search | None:
        busy = [batch.search for batch in waiting]
        left = [s for s in self.searches if not s.finished and not any(s is other for other in busy)]
        return max(left, key=lambda search: search.promise, default=None)

    def _begin(self, search: Search) -> Batch:
        shared: dict[Hashable, list[int]] = {}
        for number in search.ranking.next(BATCH):
            shared.setdefault(search.ranking.codes[number], []).append(number)
        codes = {tuple(numbers): self.pool.submit(self._compile, search.task, numbers) for numbers in shared.values()}
        return Batch(search, self._problem(search.task), self._base(search.task), codes)

    def _problem(self, task: Task) -> Future[Problem]:
        if task.workload not in self.problems:
            self.problems[task.workload] = self.pool.submit(task.problem)
        return self.problems[task.workload]

    def _base(self, task: Task) -> Future[list[Code]]:
        if task.workload not in self.bases:
            self.bases[task.workload] = self.pool.submit(self._compile, task, [BASE])
        return self.bases[task.workload]

    def _compile(self, task: Task, numbers: Sequence[int]) -> list[Code]:
        """Candidates that are expected to share their machine code, with what is their own."""
        kernels = [task.kernel(task.choices[number]) for number in numbers]
        for kernel in kernels:
            if kernel.identity not in self.libraries:
                library = compile_kernels({KERNEL: kernel.function()}, self.space.tvm_target(), jobs=1)
                self.libraries[kernel.identity] = library
        return [Code(self.libraries[kernel.identity], KERNEL, kernel.constants) for kernel in kernels]

    def _measure(self, batch: Batch, end: float) -> None:
        """Checks and times the candidates of a batch; one that fails is noted as such, one not ready is forgotten."""
        search = batch.search
        parts: list[Future[Any]] = [batch.problem, batch.base, *batch.codes.values()]
        wait(parts, _left(end))
        if not batch.problem.done() or not batch.base.done():
            return
        self.measurer.begin(self.searches.index(search), batch.problem.result())
        if not self._pass(search, [BASE], batch.base):
            search.broken = True
            return
        ready = [(numbers, codes) for numbers, codes in batch.codes.items() if codes.done()]
        good = [number for numbers, codes in ready for number in self._pass(search, numbers, codes)]
        before = search.best_ratio
        found = self._timed(search, good, GLANCE, QUICK_S)
        fastest = min([before, *(us / base_us for us, base_us in found.values())])
        near = [n for n, (us, base_us) in found.items() if us / base_us < fastest * NEAR]
        if near:
            found.update(self._timed(search, near, QUICK, QUICK_S))
        for number, (us, base_us) in found.items():
            if number not in search.failures:  # in the second measurement
                self._note(search, number, us, base_us)
        search.note_progress(before)

    def _pass(self, search: Search, numbers: Sequence[int], codes: Future[list[Code]]) -> list[int]:
        """Those of the candidates that compute what they should."""
        good = []
        try:
            made = codes.result()
        except (ValueError, RuntimeError) as error:  # the compiler refuses them
            for number in numbers:
                self._note(search, number, error=f"it cannot be compiled: {error}")
            return []
        for number, code in zip(numbers, made, strict=True):
            try:
                self.measurer.check(number, code)
                good.append(number)
            except CandidateFailed as error:
                self._note(search, number, error=str(error))
        return good

    def _timed(self, search: Search, numbers: list[int], rounds: int, seconds: float) -> dict[int, tuple[float, float]]:
        """Microseconds of the candidates and of the untuned one; a group that kills the worker is tried one by one."""
        try:
            base, *others = self.measurer.time([BASE, *numbers], rounds, seconds)
        except CandidateFailed as error:
            found: dict[int, tuple[float, float]] = {}
            for number in numbers:
                if len(numbers) > 1:
                    found.update(self._timed(search, [number], rounds, seconds))
                else:
                    self._note(search, number, error=str(error))
            return found
        base_us = typical(base)
        return {n: (ratio(samples, base) * base_us, base_us) for n, samples in zip(numbers, others, strict=True)}

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
            codes = {(n,): self.pool.submit(self._compile, search.task, [n]) for n in search.finalists()}
            self.measurer.begin(self.searches.index(search), self._problem(search.task).result())
            if self._pass(search, [BASE], self._base(search.task)):
                good = [number for numbers, code in codes.items() for number in self._pass(search, numbers, code)]
                self._decide(search, good)

    def _decide(self, search: Search, candidates: list[int]) -> None:
        left = max(CAREFUL_S / 5, min(CAREFUL_S, self.deadline - time.monotonic()))
        heats = self._timed(search, candidates, HEATS, left) if len(candidates) > 3 else {}
        best_three = sorted(heats, key=lambda n: heats[n][0] / heats[n][1])[:3]
        found = self._timed(search, best_three or candidates, CAREFUL, left)
        near = _near(found)
        if len(near) > 1:  # within noise of each other: look again at these
            found.update(self._timed(search, near, CAREFUL, left))
        best = min(found, key=lambda n: found[n][0] / found[n][1], default=BASE)
        us, base_us = found.get(best, (search.base_us, search.base_us))
        assert us is not None and base_us is not None
        search.chosen = best if us < base_us * (1 - NOISE) else BASE
        self._note(search, search.chosen, us if search.chosen != BASE else base_us, base_us, final=True)
        search.ratios[search.chosen] = us / base_us
        search.settled = True
        self.decided += 1

    def take_back(self, search: Search) -> None:
        """The untuned choice is the one for these layers after all."""
        self._note(search, BASE, search.base_us, search.base_us, final=True)
        search.chosen, search.settled = BASE, True

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
