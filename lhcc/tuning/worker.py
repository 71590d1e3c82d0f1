"""The process that runs candidates, on this machine or behind an RPC server.  Needs the TVM runtime and numpy only.

A worker answers requests, one at a time.  What a candidate does to its process costs that candidate only.
"""

from __future__ import annotations

import ctypes
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.runtime import threads
from lhcc.runtime.library import ffi
from lhcc.runtime.loader import load_kernels
from lhcc.runtime.machine import processor_name
from lhcc.runtime.memory import allocate

Array = NDArray[Any]
MOST_ROUNDS = 1000  # of models that take turns
TOLERANCE = 1e-4  # of the largest expected value: sums of float32 in another order


@dataclass(frozen=True)
class Problem:
    """What all candidates of a workload have in common; `expected` is NaN where any value will do."""

    inputs: tuple[Array, ...]  # the feature map, and the residual if there is one
    expected: Array
    threads: int
    evict: int  # bytes that other layers touch between two runs of this one


@dataclass(frozen=True)
class Code:
    """A candidate: a shared library, its kernel, and the constants that stand between the inputs."""

    library: bytes
    kernel: str
    constants: tuple[Array, ...]


class WrongResult(Exception):
    """A candidate computed something else than the reference."""


class Worker:
    """Holds problems and candidates by number."""

    def __init__(self) -> None:
        self.problems: dict[int, tuple[Problem, list[Any], Array, Any]] = {}
        self.calls: dict[int, tuple[int, Any, tuple[Any, ...]]] = {}
        self.constants: list[tuple[Array, Any]] = []  # of the present problem's candidates
        self.scratch = np.zeros(0, np.uint8)

    def hello(self) -> str:
        return processor_name()

    def problem(self, number: int, problem: Problem) -> None:
        self.calls.clear()
        self.problems.clear()  # one workload at a time: maps may be large
        self.constants.clear()
        output = _aligned(problem.expected.astype("float32"))
        inputs = [_tensor(_aligned(x)) for x in problem.inputs]
        self.problems[number] = (problem, inputs, output, _tensor(output))
        if len(self.scratch) < problem.evict:
            self.scratch = np.ones(problem.evict, np.uint8)

    def load(self, number: int, of: int, code: Code) -> None:
        """Loads a candidate, runs it once, and compares what it wrote with what is expected."""
        problem, inputs, output, tensor = self.problems[of]
        threads.use(problem.threads)
        arguments = (inputs[0], *map(self._constant, code.constants), *inputs[1:], tensor)
        function = load_kernels(code.library)[code.kernel]
        output.fill(np.nan)
        function(*arguments)
        free = np.isnan(problem.expected)
        error = np.abs(np.where(free, 0.0, output - problem.expected)).max(initial=0.0)
        scale = np.abs(np.where(free, 0.0, problem.expected)).max(initial=1e-30)
        if not error <= TOLERANCE * scale:  # not: NaN is wrong, too
            raise WrongResult(f"its result is wrong: off by {error / scale:.1e} of the largest value")
        self.calls[number] = (of, function, arguments)

    def _constant(self, array: Array) -> Any:
        """Equal constants share memory: a copy per candidate would drive each other's weights out of the caches."""
        for known, tensor in self.constants:
            if known.dtype == array.dtype and np.array_equal(known, array):
                return tensor
        kept = _aligned(array)
        self.constants.append((kept, _tensor(kept)))
        return self.constants[-1][1]

    def time(self, numbers: Sequence[int], rounds: int, seconds: float) -> list[list[float]]:
        """Microseconds of each candidate in every round; the candidates take turns, in an order that changes."""
        samples: dict[int, list[float]] = {number: [] for number in numbers}
        started = time.perf_counter()
        order = list(numbers)
        for done in range(rounds):
            if done >= 3 and time.perf_counter() - started > seconds:
                break
            random.shuffle(order)
            for number in order:
                samples[number].append(self._run(number))
        return [samples[number] for number in numbers]

    def _run(self, number: int) -> float:
        of, function, arguments = self.calls[number]
        problem, _, _, _ = self.problems[of]
        if problem.evict:
            self.scratch[: problem.evict].max()
        for array in problem.inputs:  # its predecessor has just written them
            array.max()
        threads.use(problem.threads)
        start = time.perf_counter_ns()
        function(*arguments)
        return max(0.01, (time.perf_counter_ns() - start) / 1e3)

    def profile(self, artifact: bytes, repeats: int | None) -> dict[str, Any]:
        """Times every layer of a compiled model, given as the bytes of its file; the profile in all its forms."""
        found = _executable(artifact).profile(repeats=repeats)
        forms = {"text": str(found), "csv": found.csv(), "html": found.html(), "trace": found.trace()}
        return {"data": found.json(), **forms}

    def race(self, artifacts: Sequence[bytes], seconds: float) -> list[list[float]]:
        """Microseconds of compiled models in every round; before each run that is timed there is one that is not, so
        that a model finds its own data in the caches."""
        executables = [_executable(artifact) for artifact in artifacts]
        for executable in executables:
            executable(*executable.random_inputs())
        rounds: list[list[float]] = []
        started = time.perf_counter()
        while len(rounds) < 3 or (len(rounds) < MOST_ROUNDS and time.perf_counter() - started < seconds):
            turns = random.sample(range(len(executables)), len(executables))
            times = {turn: _second_run(executables[turn]) for turn in turns}
            rounds.append([times[turn] for turn in range(len(executables))])
        return [list(samples) for samples in zip(*rounds, strict=True)]

    def handle(self, request: Sequence[Any]) -> tuple[str, Any]:
        name, *arguments = request
        try:
            return "ok", getattr(self, name)(*arguments)
        except WrongResult as error:
            return "wrong", str(error)
        except Exception as error:  # whatever generated code or its loading raises is the candidate's fault
            return "failed", f"{type(error).__name__}: {error}"


def _executable(artifact: bytes) -> Any:
    import tempfile

    from lhcc.runtime import artifact as files

    with tempfile.NamedTemporaryFile(suffix=".lhcc") as file:
        file.write(artifact)
        file.flush()
        return files.load(file.name)


def _second_run(executable: Any) -> float:
    with executable.lock:
        executable.invoke()
        start = time.perf_counter_ns()
        executable.invoke()
        return max(0.01, (time.perf_counter_ns() - start) / 1e3)


def _aligned(array: Array) -> Array:
    memory = allocate(max(1, array.nbytes))[: array.nbytes].view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


def _tensor(array: Array) -> Any:
    return ffi().from_dlpack(array)


def die_with_parent() -> None:
    """A worker that hangs in generated code would otherwise outlive a tuner that was killed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(descriptor: int) -> None:
    from multiprocessing.connection import Connection

    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tuner, which closes the pipe
    connection: Connection[Any, Any] = Connection(descriptor)
    worker = Worker()
    with suppress(EOFError, ConnectionError):
        while True:
            connection.send(worker.handle(connection.recv()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
