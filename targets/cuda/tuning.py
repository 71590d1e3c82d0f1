"""Tuning on a GPU: choices in the order of the estimate, many compiled at a time, timed by the GPU's own events.

Every kernel gives the answer of the untuned one before it is timed, and is timed in turn with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ir.graph import calls, dtype_of, shape_of
from lhcc.ir.layer import Packed, conv_layer
from lhcc.ir.log import Log
from lhcc.passes.pack_tiles import PackTiles
from lhcc.pipeline import graph_passes, run
from lhcc.report.progress import report
from lhcc.runtime.cuda_driver import Driver, Function, arguments
from lhcc.targets.base import Options
from lhcc.targets.cuda.build import compile_kernels
from lhcc.targets.cuda.codegen import generate
from lhcc.targets.cuda.fragments import elements
from lhcc.targets.cuda.kernels import packed_kernel
from lhcc.targets.cuda.pack import Problem
from lhcc.targets.cuda.target import CudaTarget
from lhcc.targets.cuda.workload import setting, workload
from lhcc.tuning.database import Database, Record, best
from lhcc.tuning.space import random_map
from lhcc.tuning.tune import TunedWorkload, TuningReport

TOGETHER = 16  # kernels of one compilation
ROUNDS, RUNS = 5, 10  # how often a kernel is timed, over so many launches
ALIKE = 1e-2  # relative difference of two kernels' answers: they sum in different orders


@dataclass(frozen=True)
class Timed:
    """A candidate against the untuned kernel, in microseconds; or why it has no times."""

    us: float | None
    base_us: float | None
    error: str | None = None


@dataclass
class Search:
    """The layers of one workload."""

    workload: str
    layers: list[str]
    problem: Problem
    maps: list[tuple[tuple[int, ...], str]]  # shapes and elements of the input, of the residual, and of the result
    choices: list[Any]
    tried: int = 0
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class CudaSpace:
    target: CudaTarget
    options: Options

    def tune(self, mod: Any, budget_s: float, database: str) -> TuningReport:
        """Measures until the budget is spent; raises when there is no GPU to measure on."""
        started, driver = time.monotonic(), Driver()
        searches, where = self.searches(mod), setting(self.target.machine, driver.name)
        ended = "the budget is spent"
        while time.monotonic() - started < budget_s:
            open_ones = [search for search in searches if search.tried < len(search.choices)]
            if not open_ones:
                ended = "every choice was measured"
                break
            search = min(open_ones, key=lambda each: each.tried)
            report(f"tuning {search.layers[0]}", search.tried, len(search.choices))
            tried = search.choices[search.tried : search.tried + TOGETHER]
            search.tried += len(tried)
            for choice, timed in zip(tried, self._measure(driver, search, tried), strict=True):
                record = Record(
                    search.workload, where, choice.to_dict(), timed.us, timed.base_us, False, timed.error
                )  # fmt: skip
                search.records.append(record)
                Database(database).add(record)
        failures = Counter(record.error for search in searches for record in search.records if record.error)
        return TuningReport(
            tuple(map(_outcome, searches)), database, driver.name, time.monotonic() - started,
            sum(search.tried for search in searches), ended, dict(failures),
        )  # fmt: skip

    def searches(self, mod: Any) -> list[Search]:
        """Every workload of an imported model, its choices in the order of the estimate."""
        passes = self.target.layout_passes(replace(self.options, tuning=None))
        laid_out = run(mod, [*graph_passes(), *(p for p in passes if not isinstance(p, PackTiles))], Log())
        found: dict[str, Search] = {}
        for name, call in calls(laid_out):
            layer = conv_layer(name, call)
            if layer is None or (layer.depthwise and not layer.transposed):
                continue
            problem = Problem(layer, self.target.machine, self.options)
            key = workload(problem)
            if key not in found:
                maps = [(shape_of(m), dtype_of(m)) for m in (call.args[0], *call.args[3:], call)]
                found[key] = Search(key, [], problem, maps, [c.choice for c in problem.ranked()])
            found[key].layers.append(name)
        return list(found.values())

    def _measure(self, driver: Driver, search: Search, choices: Sequence[Any]) -> list[Timed]:
        """Of every choice; the untuned one comes along as the one to compare with."""
        packed = [search.problem.pack(choice, ()) for choice in (search.choices[0], *choices)]
        specs = {each.spec: f"candidate_{number}" for number, each in enumerate(packed)}
        source = generate({name: packed_kernel(spec) for spec, name in specs.items()}, self.target.machine.arch.name)
        code, _ = compile_kernels(source, self.target.machine.arch.name)
        with _Bench(driver, code, search) as bench:
            launches = [source.launches[specs[each.spec]] for each in packed]
            base = bench.kernel(packed[0], launches[0])
            expected = bench.answer(base)
            return [
                bench.compare(base, expected, bench.kernel(each, launch))
                for each, launch in zip(packed[1:], launches[1:], strict=True)
            ]


def create(target: CudaTarget, options: Options) -> CudaSpace:
    return CudaSpace(target, options)


class _Bench:
    """Kernels of one compilation on the GPU, and maps for them."""

    def __init__(self, driver: Driver, code: bytes, search: Search) -> None:
        self.driver, self.stream, self.module = driver, driver.stream(), driver.load(code)
        self.pointers: list[int] = []
        *read, (shape, self.element) = search.maps
        self.inputs = [self._upload(elements(random_map(s, n), e)) for n, (s, e) in enumerate(read)]
        self.result = elements(np.zeros(shape, np.float32), self.element)
        self.target = self._upload(self.result)

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: Any) -> None:
        self.driver.synchronise(self.stream)
        for pointer in self.pointers:
            self.driver.free(pointer)
        self.driver.unload(self.module)

    def _upload(self, array: NDArray[Any]) -> int:
        array = np.ascontiguousarray(array)
        self.pointers.append(self.driver.allocate(array.nbytes))
        self.driver.upload(self.pointers[-1], array.ctypes.data, array.nbytes, self.stream)
        self.driver.synchronise(self.stream)  # before the array goes
        return self.pointers[-1]

    def kernel(self, packed: Packed, launch: Any) -> tuple[Function, Any]:
        function = self.driver.function(self.module, launch.kernel, launch.grid, launch.threads, launch.shared)
        constants = [self._upload(constant) for constant in packed.constants]
        operands = [self.inputs[0], *constants, *self.inputs[1:], self.target]
        return function, arguments([operands[number] for number in launch.operands])

    def answer(self, kernel: tuple[Function, Any]) -> NDArray[np.float64]:
        self.driver.fill(self.target, 0xFF, self.result.nbytes, self.stream)
        self.driver.launch(kernel[0], kernel[1][0], self.stream)
        self.driver.download(self.result.ctypes.data, self.target, self.result.nbytes, self.stream)
        self.driver.synchronise(self.stream)
        return numbers(self.result, self.element).astype(np.float64)

    def compare(self, base: Any, expected: NDArray[np.float64], kernel: Any) -> Timed:
        found = self.answer(kernel)
        if not np.linalg.norm(found - expected) <= ALIKE * max(float(np.linalg.norm(expected)), 1e-30):
            return Timed(None, None, "a wrong answer")
        times = [(self._microseconds(base), self._microseconds(kernel)) for _ in range(ROUNDS)]
        return Timed(median(mine for _, mine in times), median(untuned for untuned, _ in times))

    def _microseconds(self, kernel: tuple[Function, Any]) -> float:
        start, end = self.driver.event(), self.driver.event()
        self.driver.record(start, self.stream)
        for _ in range(RUNS):
            self.driver.launch(kernel[0], kernel[1][0], self.stream)
        self.driver.record(end, self.stream)
        self.driver.synchronise(self.stream)
        return self.driver.microseconds(start, end) / RUNS


def numbers(values: NDArray[Any], element: str) -> NDArray[Any]:
    """What the elements of a map stand for: the inverse of `fragments.elements`."""
    return (values.astype(np.uint32) << 16).view(np.float32) if element == "bfloat16" else values


def _outcome(search: Search) -> TunedWorkload:
    chosen = best(search.records)
    found = next((record for record in search.records if record.choice == chosen), None)
    failed = sum(record.us is None for record in search.records)
    base_us = median(r.base_us for r in search.records if r.base_us) if len(search.records) > failed else None
    return TunedWorkload(
        search.workload, tuple(search.layers), len(search.choices), search.tried, failed, base_us,
        1 / found.ratio if found else 1.0, chosen or search.choices[0].to_dict(),
    )  # fmt: skip
