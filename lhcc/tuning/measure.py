"""Asks a worker to check and to time candidates, and survives what candidates do to workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import lhcc
from lhcc.errors import LhccError
from lhcc.tuning.worker import Code, Problem

T = TypeVar("T")
START_S = 60.0  # for a worker to start and to be told the workload
CANDIDATE_S = 10.0  # for a candidate's first run, and for a round of measuring


class CandidateFailed(Exception):
    """This candidate crashed, hung, or computed something wrong; the text says which."""


class WorkerLost(Exception):
    """The worker is gone, through the fault of what it was asked."""


class LinkBroken(WorkerLost):
    """The way to the worker is gone, through nobody's fault."""


class MeasuringFailed(LhccError):
    """There is nothing left that could measure."""


class Link(Protocol):
    """A way to a worker; a lost worker is replaced by the next request."""

    def ask(self, request: Sequence[Any], seconds: float) -> tuple[str, Any]:
        """The worker's answer.  Raises WorkerLost when it dies or does not answer in time."""

    def close(self) -> None: ...


class LocalLink:
    """A worker process on this machine."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection[Any, Any] | None = None

    def _start(self) -> Connection[Any, Any]:
        from multiprocessing import Pipe

        ours, theirs = Pipe()
        root = str(Path(lhcc.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lhcc.tuning.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.pipe = ours
        return ours

    def ask(self, request: Sequence[Any], seconds: float) -> tuple[str, Any]:
        pipe = self.pipe or self._start()
        try:
            pipe.send(request)
            if pipe.poll(seconds):
                answer: tuple[str, Any] = pipe.recv()
                return answer
            reason = f"it did not finish within {seconds:.0f} s"
        except (EOFError, ConnectionError):
            reason = self._cause_of_death()
        except KeyboardInterrupt:
            self.close()  # its answer would be taken for that to the next request
            raise
        self.close()
        raise WorkerLost(reason)

    def _cause_of_death(self) -> str:
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(5)
            if code < 0:
                return f"it crashed with {signal.Signals(-code).name}"
            return f"it ended its process with code {code}"
        return "it closed the connection"

    def close(self) -> None:
        if self.pipe is not None:
            self.pipe.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.pipe = self.process = None


class Measurer:
    """Measures candidates of one workload after the other; knows what the present worker has been told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.problem: tuple[int, Problem] | None = None
        self.told: int | None = None  # the problem that the worker knows
        self.loaded: set[int] = set()  # candidates that it knows
        self.codes: dict[int, Code] = {}

    def processor(self) -> str:
        """What the worker runs on."""
        try:
            return str(self._ask(("hello",), START_S))
        except (WorkerLost, CandidateFailed) as error:
            raise MeasuringFailed(f"no worker can be started to measure candidates: {error}") from None

    def begin(self, number: int, problem: Problem) -> None:
        """Turns to a workload."""
        if self.problem is None or self.problem[0] != number:
            self.problem, self.told, self.codes = (number, problem), None, {}
            self.loaded.clear()

    def check(self, number: int, code: Code) -> None:
        """Has a candidate run once; raises CandidateFailed."""
        self.codes[number] = code
        self._blaming(lambda: self._load(number))

    def time(self, numbers: Sequence[int], rounds: int, seconds: float) -> list[list[float]]:
        """Microseconds of each checked candidate in every round."""

        def measure() -> list[list[float]]:
            for number in numbers:
                if number not in self.loaded:  # the worker that knew it is gone
                    self._load(number)
            times: list[list[float]] = self._ask(("time", list(numbers), rounds, seconds), seconds + CANDIDATE_S)
            return times

        return self._blaming(measure)

    def race(self, artifacts: Sequence[bytes], seconds: float) -> list[list[float]]:
        """Microseconds of whole networks, given as the bytes of their artifacts, in rounds in which they take turns."""
        request = ("race", list(artifacts), seconds)
        return self._blaming(lambda: cast(list[list[float]], self._ask(request, seconds + START_S)))

    def _blaming(self, work: Callable[[], T]) -> T:
        """A worker that is lost over a candidate is the candidate's fault; a connection that breaks is tried again."""
        try:
            try:
                return work()
            except LinkBroken:
                return work()
        except WorkerLost as error:
            raise CandidateFailed(str(error)) from None

    def _load(self, number: int) -> None:
        assert self.problem is not None
        which, problem = self.problem
        if self.told != which:
            try:
                self._ask(("problem", which, problem), START_S)
            except CandidateFailed as error:
                raise MeasuringFailed(f"a worker cannot be told what to measure: {error}") from None
            self.told = which
        self._ask(("load", number, which, self.codes[number]), CANDIDATE_S)
        self.loaded.add(number)

    def _ask(self, request: Sequence[Any], seconds: float) -> Any:
        try:
            status, answer = self.link.ask(request, seconds)
        except (WorkerLost, KeyboardInterrupt):
            self.told = None
            self.loaded.clear()
            raise
        if status != "ok":
            raise CandidateFailed(str(answer))
        return answer
