"""Where the time of a model goes on a GPU, by the GPU's own events: between any two kernels, and around whole runs.

Events between kernels keep them apart, so the layers sum up to more than a run of the graph takes, where they overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lhcc.runtime.cuda_driver import BUS_BITS, CLOCK_KHZ, MEMORY_KHZ, PROCESSORS, Driver, arguments
from lhcc.runtime.peak import Peak
from lhcc.runtime.profile import Profile, summarise

if TYPE_CHECKING:
    from lhcc.runtime.cuda import CudaExecutable, Loaded

WARMUP, REPEATS = 5, 50
# products and sums of one multiprocessor in a cycle, by the manuals: capability -> fp16 on tensor cores, tf32, fp32
RATES = {
    75: (1024, 0, 128), 80: (2048, 1024, 128), 86: (1024, 256, 256), 87: (2048, 512, 256), 89: (1024, 256, 256),
    90: (4096, 2048, 256),
}  # fmt: skip


def profile(executable: CudaExecutable, inputs: Sequence[Any] = (), repeats: int | None = None) -> Profile:
    """Profiles a run on `inputs`, or on random ones."""
    inputs = tuple(inputs) or executable.random_inputs()
    executable(*inputs)
    count = repeats or REPEATS
    with executable.lock:
        loaded = executable.loaded()
        loaded.driver.enter()
        events = [loaded.driver.event() for _ in range(len(loaded.calls) + 1)]
        for _ in range(WARMUP):
            _by_layer(loaded, events)
            _whole(loaded, events)
        samples = [_by_layer(loaded, events) for _ in range(count)]
        wholes = [_whole(loaded, events) for _ in range(count)]
        device = loaded.driver.name, peak(loaded.driver, executable.program.machine.features[0])
    return summarise(executable, wholes, wholes, samples, device=device)


def _by_layer(loaded: Loaded, events: Sequence[int]) -> tuple[float, ...]:
    """Microseconds of every kernel, in their places in a run."""
    driver, stream = loaded.driver, loaded.stream
    prepared = [
        (function, arguments(pointers)) for function, pointers in loaded.launches(loaded.inputs, loaded.outputs)
    ]
    driver.record(events[0], stream)
    for (function, (places, _)), event in zip(prepared, events[1:], strict=True):
        driver.launch(function, places, stream)
        driver.record(event, stream)
    driver.synchronise(stream)
    return tuple(driver.microseconds(a, b) for a, b in zip(events, events[1:], strict=False))


def _whole(loaded: Loaded, events: Sequence[int]) -> tuple[float, ...]:
    """Microseconds of a run as users start it: one graph."""
    driver, stream = loaded.driver, loaded.stream
    driver.record(events[0], stream)
    loaded.run(tuple(loaded.inputs), tuple(loaded.outputs), stream)
    driver.record(events[-1], stream)
    driver.synchronise(stream)
    return (driver.microseconds(events[0], events[-1]),)


def peak(driver: Driver, precision: str) -> Peak | None:
    """What the card's data sheet promises: nothing is measured here.  None for a card that is not known."""
    rates = RATES.get(driver.capability)
    if rates is None:
        return None
    half, tf32, fma = rates
    rate = {"int8": 2 * half, "fp16": half, "bf16": half, "tf32": tf32}.get(precision, tf32 / 3 if tf32 else fma)
    gflops = rate * driver.attribute(PROCESSORS) * driver.attribute(CLOCK_KHZ) / 1e6
    bandwidth = 2 * driver.attribute(MEMORY_KHZ) * driver.attribute(BUS_BITS) / 8 / 1e6
    return Peak(gflops, ((1 << 62, bandwidth),)) if gflops and bandwidth else None
