"""The TVM runtime's thread pool: one per process, set to what the executable about to run was asked to use."""

from __future__ import annotations

from lhcc.runtime.library import global_function

BIG_CORES = 1  # TVM's affinity mode: fastest cores first, never pinned to a fixed list

_configured = 0


def use(count: int) -> None:
    """Sets the pool to `count` threads.  Costs a comparison when it is already so."""
    global _configured
    if _configured != count:
        global_function("runtime.config_threadpool")(BIG_CORES, count)
        _configured = count
