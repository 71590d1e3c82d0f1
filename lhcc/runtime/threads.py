"""The TVM runtime's thread pool, set to what the executable about to run was asked to use.

Each thread that calls models has a pool of its own.  A pool never grows, so it is made with a worker per core; how many
of them work is set per executable.  Left alone, TVM pins the calling thread to the first core, and with it all that the
program does later, other runtimes included: that is switched off.
"""

from __future__ import annotations

import os
import threading

from lhcc.runtime.library import global_function

FASTEST_CORES = 1  # TVM's affinity mode; without pinning it only decides how many workers are in use

_pool = threading.local()


def use(count: int) -> None:
    """Sets the calling thread's pool to `count` workers.  Costs a comparison when it is already so."""
    if getattr(_pool, "count", 0) == count:
        return
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    kept = os.environ.get("TVM_NUM_THREADS")
    os.environ["TVM_NUM_THREADS"] = str(max(count, os.cpu_count() or 1))
    try:
        global_function("runtime.config_threadpool")(FASTEST_CORES, count)
    finally:
        if kept is None:
            del os.environ["TVM_NUM_THREADS"]
        else:
            os.environ["TVM_NUM_THREADS"] = kept
    _pool.count = count
