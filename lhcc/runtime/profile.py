"""Where the time of a model goes: every kernel call timed in its place in the sequence, beside the time of the whole.

The calls are made in order and timed one by one, so that each layer meets the caches as its predecessors leave them.
Whole runs, without any clock inside and with neighbouring kernels called together, take turns with them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from lhcc.ir.log import LayerRecord
from lhcc.runtime.machine import processor_name
from lhcc.runtime.peak import Peak, peak
from lhcc.runtime.sampling import Sample, in_turn, median_interval, timed

if TYPE_CHECKING:
    from lhcc.runtime.executable import Executable

Call = tuple[Any, tuple[Any, ...]]  # a kernel and its arguments


@dataclass(frozen=True)
class LayerTime:
    """One layer: what it costs on paper, what it took, and how near that is to what the machine can do."""

    name: str
    op: str
    encoding: str
    density: float
    macs: int
    macs_kept: int  # that are carried out, in whole tiles and vectors: of a narrow layer more than macs
    adds: int
    bytes_moved: int
    time_us: float
    low_us: float  # 95 % confidence interval of the median
    high_us: float
    share: float  # of the sum of all layers
    gflops: float  # multiplications and additions that are carried out
    peak_percent: float | None  # of the machine's multiply-adds per second
    bandwidth_percent: float | None  # of the speed of the level of memory that holds what the layer moves
    bound: str  # what the roofline says limits it: compute or memory
    kernel: str
    schedule: str = ""
    cycles: int | None = None


@dataclass(frozen=True)
class Profile:
    """`layers` in the order of execution.  `str()` is a table; the other forms are for other tools."""

    layers: tuple[LayerTime, ...]
    total_us: float  # end to end, measured without anything inside
    total_low_us: float
    total_high_us: float
    call_us: float  # of the whole, what is not spent inside the virtual machine: checking inputs, wrapping outputs
    overhead_percent: float  # by how much timing every layer makes a run longer
    repeats: int
    disturbed: int  # further repeats that other processes interrupted
    threads: int
    target: str
    processor: str
    peak: Peak | None
    samples: tuple[Sample, ...] = ()  # of every layer in every replay

    @property
    def sum_us(self) -> float:
        return sum(layer.time_us for layer in self.layers)

    def __str__(self) -> str:
        from lhcc.report.text import table

        return table(self)

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        from lhcc.report.data import to_dict

        return to_dict(self)

    def csv(self) -> str:
        from lhcc.report.data import to_csv

        return to_csv(self)

    def html(self, pictures: Mapping[str, str] | None = None) -> str:
        """One file for a browser; `pictures` of kernel shapes come from `lhcc.inspect(model).svg()`."""
        from lhcc.report.html import to_html

        return to_html(self, pictures)

    def trace(self) -> str:
        """Trace Event JSON, which Perfetto opens."""
        from lhcc.report.trace import to_trace

        return to_trace(self)


def profile(executable: Executable, inputs: Sequence[Any] = (), repeats: int | None = None) -> Profile:
    """Profiles a run on `inputs`, or on random ones; without `repeats`, as many as fit into a second."""
    inputs = tuple(inputs) or executable.random_inputs()
    executable(*inputs)
    calls = executable.calls(*inputs)

    def inside() -> Sample:
        with executable.lock:
            return timed(executable.invoke)()

    def by_layer() -> Sample:
        with executable.lock:
            return replay(calls)

    samplers = in_turn([timed(lambda: executable(*inputs)), inside, by_layer], repeats)
    wholes, insides, layers = (sampler.best() for sampler in samplers)
    return summarise(executable, wholes, insides, layers, samplers[0].disturbed)


def summarise(
    executable: Executable,
    wholes: Sequence[Sample],
    insides: Sequence[Sample],
    samples: Sequence[Sample],
    disturbed: int = 0,
    device: tuple[str, Peak | None] | None = None,
    layers: Sequence[LayerRecord] | None = None,
) -> Profile:
    """Medians, confidence intervals and the roofline from the raw times, in microseconds.

    `device` ran the model, where that is not this processor; `layers` were timed, where those are not all.
    """
    whole = [time for (time,) in wholes]
    processor, limit = device or (processor_name(), peak(executable.threads))
    per_layer = list(zip(*samples, strict=True))
    total = sum(statistics.median(times) for times in per_layer)
    timed_layers = executable.layers if layers is None else layers
    low, high = median_interval(whole)
    inside = statistics.median(time for (time,) in insides)
    return Profile(
        layers=tuple(
            _layer_time(layer, times, total, limit) for layer, times in zip(timed_layers, per_layer, strict=True)
        ),
        total_us=statistics.median(whole),
        total_low_us=low,
        total_high_us=high,
        call_us=max(0.0, statistics.median(whole) - inside),
        overhead_percent=100 * (statistics.median(map(sum, samples)) / inside - 1),
        repeats=len(whole),
        disturbed=disturbed,
        threads=executable.threads,
        target=executable.program.target,
        processor=processor,
        peak=limit,
        samples=tuple(samples),
    )


def replay(calls: Sequence[Call], clock: Callable[[], int] = perf_counter_ns) -> Sample:
    """Microseconds of every call.  One reading of the clock ends a layer and begins the next: nothing is lost."""
    readings = [clock()]
    for function, args in calls:
        function(*args)
        readings.append(clock())
    return tuple((end - start) / 1e3 for start, end in zip(readings, readings[1:], strict=False))


def _layer_time(layer: LayerRecord, times: Sequence[float], total: float, limit: Peak | None) -> LayerTime:
    time_us = statistics.median(times)
    low, high = median_interval(times)
    flops = 2 * layer.macs_kept + layer.adds
    bandwidth = limit.bandwidth(layer.bytes_moved) if limit else 0.0
    bound = "unknown"
    if limit:
        bound = "compute" if flops / limit.gflops > layer.bytes_moved / bandwidth else "memory"
    return LayerTime(
        name=layer.name,
        op=layer.op,
        encoding=layer.encoding,
        density=layer.density,
        macs=layer.macs,
        macs_kept=layer.macs_kept,
        adds=layer.adds,
        bytes_moved=layer.bytes_moved,
        time_us=time_us,
        low_us=low,
        high_us=high,
        share=time_us / total if total else 0.0,
        gflops=flops / time_us / 1e3,
        peak_percent=100 * flops / time_us / 1e3 / limit.gflops if limit else None,
        bandwidth_percent=100 * layer.bytes_moved / time_us / 1e3 / bandwidth if limit else None,
        bound=bound,
        kernel=layer.kernel,
        schedule=layer.schedule,
    )
