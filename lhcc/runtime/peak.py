"""What this machine can do at best: multiply-adds per second, and bytes per second from each level of its memory.

Both are measured by small kernels compiled like any other, once per processor, and remembered in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from lhcc.runtime import threads as thread_pool
from lhcc.runtime.files import cache_folder
from lhcc.runtime.library import ffi, import_tvm, tvm_version
from lhcc.runtime.loader import load_kernels
from lhcc.runtime.machine import host_arch, host_flags, processor_name

REVISION = 3  # of the measurement: a change makes remembered figures void
ROUNDS = 50_000
SIZES = tuple(
    2**power for power in (15, 17, 19, 21, 23, 26)
)  # bytes read over and over: from first-level cache to DRAM


@dataclass(frozen=True)
class Peak:
    """The machine's limits with a number of threads."""

    gflops: float
    bandwidths: tuple[tuple[int, float], ...]  # (bytes that are read over and over, GB/s), growing

    def bandwidth(self, size: int) -> float:
        """GB/s at which `size` bytes can be read again and again."""
        index = bisect_left([known for known, _ in self.bandwidths], size)
        return self.bandwidths[min(index, len(self.bandwidths) - 1)][1]


def peak(threads: int) -> Peak | None:
    """This machine's peak; None when it was never measured and there is no compiler to measure it with."""
    path = cache_folder() / f"peak-{_key(threads)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.read_text())
        return Peak(known["gflops"], tuple((size, speed) for size, speed in known["bandwidths"]))
    if not _has_compiler():
        return None
    measured = measure(threads)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(measured), "processor": processor_name(), "threads": threads}))
    return measured


def measure(threads: int) -> Peak:
    """Measures; takes a second or two."""
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_system_cpu

    from lhcc.runtime.codegen import compile_kernels
    from lhcc.runtime.peak_kernels import fma_kernel, sum_kernel

    lanes = _widths()
    variants = [(width, chains) for width in lanes for chains in (8, 12)]
    kernels: dict[str, Any] = {
        f"fma_{width}_{chains}": fma_kernel(width, chains, threads, ROUNDS) for width, chains in variants
    }
    kernels["sum"] = sum_kernel(lanes[-1], threads, SIZES[-1])
    target = Target({"kind": "llvm", "mcpu": llvm_get_system_cpu()})
    module = load_kernels(compile_kernels(kernels, target))
    thread_pool.use(threads)
    gflops = 0.0
    for width, chains in variants:
        args = [_tensor((width,), 0.5), _tensor((width,), 0.5), _tensor((threads, chains, width))]
        seconds = _best(partial(module[f"fma_{width}_{chains}"], *args), 200)
        gflops = max(gflops, 2 * ROUNDS * width * chains * threads / seconds / 1e9)
    return Peak(gflops, tuple((size, _bandwidth(module["sum"], size, lanes[-1], threads)) for size in SIZES))


def _bandwidth(kernel: Any, size: int, lanes: int, threads: int) -> float:
    from lhcc.runtime.peak_kernels import row_length

    data, out = _tensor((threads, row_length(SIZES[-1], threads, lanes))), _tensor((threads, 8, lanes))
    steps = max(1, size // 4 // threads // (8 * lanes))
    rounds = max(1, SIZES[-1] // 4 // size)
    seconds = _best(partial(kernel, data, out, steps, rounds), 15)
    return rounds * steps * 8 * lanes * 4 * threads / seconds / 1e9


def _widths() -> Sequence[int]:
    if host_arch() == "x86_64":
        return (8, 16) if "avx512f" in host_flags() else (8,)
    return (4,)


def _tensor(shape: tuple[int, ...], value: float = 0.0) -> Any:
    from lhcc.runtime.memory import allocate

    array = allocate(4 * int(np.prod(shape))).view("float32").reshape(shape)
    array[...] = value
    return ffi().from_dlpack(array)


def _best(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _key(threads: int) -> str:
    text = f"{REVISION} {processor_name()} {sorted(host_flags())} {threads} {tvm_version()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _has_compiler() -> bool:
    try:
        return hasattr(import_tvm(), "relax")
    except ImportError:
        return False
