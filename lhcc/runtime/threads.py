"""The TVM runtime's thread pool, set to what the executable about to run was asked to use.

Each thread that calls models has a pool of its own.  A pool never grows, so it is made with a worker per core; how many
of them work is set per executable.  Left alone, TVM pins the calling thread to the first core, and with it all that the
program does later, other runtimes included: that is switched off.  Without pins, Linux may keep the caller and a worker
on one core for seconds while another idles, since both yield whenever they wait and so look like little work: now and
then it is checked that they are apart, and a worker that is in the way is moved once.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from time import monotonic

from lhcc.runtime.library import global_function

FASTEST_CORES = 1  # TVM's affinity mode; without pinning it only decides how many workers are in use
CHECK_S = 0.02  # how often the places of the threads are looked at
TASKS = "/proc/self/task"


class _Pool(threading.local):
    count = 0
    workers: tuple[int, ...] = ()  # Linux's numbers of the threads, in the order in which the pool uses them
    checked = 0.0


_pool = _Pool()


def use(count: int) -> None:
    """Sets the calling thread's pool to `count` workers.  Costs two comparisons when it is already so."""
    if _pool.count != count:
        _configure(count)
    if count > 1 and monotonic() - _pool.checked > CHECK_S:
        _spread(_pool.workers[: count - 1])
        _pool.checked = monotonic()


def _configure(count: int) -> None:
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    # looked at when a pool is made, and again whenever work is shared out: without it, half of the cores count
    os.environ["TVM_NUM_THREADS"] = str(max(count, os.cpu_count() or 1))
    before = _tasks()
    global_function("runtime.config_threadpool")(FASTEST_CORES, count)
    _pool.workers = _pool.workers or tuple(sorted(_tasks() - before))
    _pool.count = count


def _tasks() -> set[int]:
    """All threads of this process; none where the system does not tell."""
    with suppress(OSError):
        return set(map(int, os.listdir(TASKS)))
    return set()


def _spread(workers: tuple[int, ...]) -> None:
    """Moves running workers off cores that the caller or another worker is on, if cores are free; leaves no pin."""
    with suppress(OSError, AttributeError, ValueError):  # a thread has ended; another system
        taken = {_place(threading.get_native_id())[1]}
        for worker in workers:
            state, core = _place(worker)
            allowed = os.sched_getaffinity(worker)
            if state == "R" and core in taken and allowed - taken:
                os.sched_setaffinity(worker, allowed - taken)
                os.sched_setaffinity(worker, allowed)
                core = _place(worker)[1]
            taken.add(core)


def _place(task: int) -> tuple[str, int]:
    """Whether a thread runs ("R") or sleeps, and the core that it is on."""
    with open(f"{TASKS}/{task}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return fields[0], int(fields[36])
