"""The measured end of `benchmarks.measure`: loads one runtime on one model and answers on stdin and stdout.

`python -m benchmarks.worker RUNTIME MODEL.onnx THREADS [OPTION=VALUE ...]`
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_VALUES = 1 << 16


def main() -> None:
    _die_with_parent()
    runtime, model, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    options = dict(argument.split("=", 1) for argument in sys.argv[4:])
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        from benchmarks.runtimes import RUNTIMES

        loaded = RUNTIMES[runtime].load(model, threads, options)
        for _ in range(2):
            loaded.run()
        output = [float(value) for value in loaded.output().ravel()[:MOST_VALUES]]
    except BaseException as problem:  # whatever it is: it is reported, and costs this peer only
        traceback.print_exc()
        return say(error=f"{type(problem).__name__}: {str(problem).strip()[:300]}")
    say(ready=1, version=loaded.version)
    gc.disable()
    for line in sys.stdin:
        command, *arguments = line.split() or ["quit"]
        if command == "run":
            before, begin = _thread_times(), time.perf_counter()
            times = _timed(loaded.run, float(arguments[0]))
            say(t=times, waiting=_waiting(before, _thread_times(), time.perf_counter() - begin))
        elif command == "out":
            say(out=output)
        else:
            break
    answers.flush()
    os._exit(0)  # some runtimes crash in their thread pools' destructors


def _timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Warms up for a quarter of the time (caches are cold after a freeze), then times each call."""
    clock = time.perf_counter
    end = clock() + seconds / 4
    run()
    while clock() < end:
        run()
    times: list[float] = []
    end = clock() + seconds
    while not times or clock() < end:
        begin = clock()
        run()
        times.append(clock() - begin)
    gc.collect()
    return times


def _thread_times() -> dict[str, tuple[float, float]]:
    """Seconds on a CPU and seconds ready without one, by the kernel's account, for every thread (Linux)."""
    found = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError):
            on_cpu, ready, _ = file.read_text().split()
            found[file.parent.name] = int(on_cpu) / 1e9, int(ready) / 1e9
    return found


def _waiting(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]], wall_s: float) -> float:
    """The largest share of the time that a thread which did some of the work stood ready without a CPU."""
    largest = 0.0
    for thread, (on_cpu, ready) in after.items():
        earlier = before.get(thread, (0.0, 0.0))
        if on_cpu - earlier[0] > 0.1 * wall_s:
            largest = max(largest, (ready - earlier[1]) / wall_s)
    return largest


def _die_with_parent() -> None:
    """A frozen worker would outlive a killed benchmark: the kernel ends it instead (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
