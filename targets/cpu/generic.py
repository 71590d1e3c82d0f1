"""A schedule for the loop nests that TVM makes of other operators: outer loops in threads, inner ones in vectors."""

from __future__ import annotations

from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from lhcc.ir.tir import is_lowered


def schedule(function: Any, lanes: int, threads: int) -> Any:
    """The scheduled function; one whose loops do not fit the pattern is returned as it was."""
    if is_lowered(function):
        return function
    scheduled = Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    try:
        for block in scheduled.get_child_blocks(scheduled.get_sblock("root")):
            _schedule_block(scheduled, block, lanes, threads)
    except (ScheduleError, tvm.error.InternalError):
        return function
    return scheduled.mod["main"]


def _schedule_block(s: Schedule, block: Any, lanes: int, threads: int) -> None:
    loops = s.get_loops(block)
    kinds = [int(axis.iter_type) for axis in s.get(block).iter_vars]
    spatial = len(kinds) - len([kind for kind in kinds if kind != 0])
    if len(loops) != len(kinds) or not spatial or any(kind != 0 for kind in kinds[:spatial]):
        return
    extents = [s.get(loop).extent for loop in loops]
    if not all(isinstance(extent, tvm.tirx.IntImm) for extent in extents):
        return
    if spatial == len(loops) and int(extents[-1]) % lanes == 0:
        outer, inner = s.split(loops[-1], [None, lanes])
        s.vectorize(inner)
        loops = [*loops[:-1], outer]
    if threads > 1:
        s.parallel(s.fuse(*loops[:spatial]))
