"""A schedule for the loop nests that TVM makes of other operators: one kernel, one thread per element of the result.

What the result is made of is computed where it is needed: elementwise steps are inlined, others repeated per thread.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from lhcc.errors import TargetError
from lhcc.ir.tir import is_lowered

THREADS = 128


def schedule(function: Any) -> Any:
    """The function with its threads bound; refused when its steps cannot be one kernel."""
    if is_lowered(function):
        return function
    try:
        return _schedule(function)
    except (ScheduleError, tvm.error.InternalError, ValueError) as error:
        name = (function.attrs or {}).get("global_symbol", "an operator")
        raise TargetError(
            f"target 'cuda' has no kernel for '{name}': {str(error).splitlines()[0]}",
            "compile the model with target cpu",
        ) from error


def _schedule(function: Any) -> Any:
    s = Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    *steps, last = s.get_child_blocks(s.get_sblock("root"))
    kinds = [int(axis.iter_type) for axis in s.get(last).iter_vars]
    spatial = [loop for loop, kind in zip(s.get_loops(last), kinds, strict=True) if kind == 0]
    if kinds != sorted(kinds):
        raise ValueError("its loops are not in the usual order")
    size = prod(int(s.get(loop).extent) for loop in spatial)
    if not spatial:
        spatial = [s.add_unit_loop(last)]
    grid, thread = s.split(s.fuse(*spatial), [None, THREADS])
    s.bind(grid, "blockIdx.x")
    s.bind(thread, "threadIdx.x")
    for step in reversed(steps):
        try:
            s.compute_inline(step)
        except ScheduleError:
            s.set_scope(step, 0, "local")
            s.compute_at(step, thread)
    launch = [-(-size // THREADS), 1, THREADS, 0, 0]
    return s.mod["main"].with_attr("lhcc.launch", launch)
