"""Operators without a kernel generator of ours: schedules drawn from MetaSchedule's space, measured like other choices.

A choice is the trace of a schedule; the empty trace stands for the schedule of `generic.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from lhcc.ir.graph import plain
from lhcc.ir.log import Log
from lhcc.ir.tir import is_lowered
from lhcc.passes.lower_generic import LowerGeneric
from lhcc.pipeline import graph_passes, run
from lhcc.targets.base import Options
from lhcc.targets.cpu.generic import schedule
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.workload import setting
from lhcc.tuning.database import Database
from lhcc.tuning.space import Kernel, Task, random_map
from lhcc.tuning.worker import Problem

DRAWN, SEED = 12, 1  # schedules per operator; of what is random about them
REPLAYS = 4
DEFAULT = {"trace": ""}


@dataclass(frozen=True)
class TunedSchedule:
    """The schedule that the database knows for a function; `schedule` of generic.py without one."""

    machine: Machine
    options: Options

    def __call__(self, function: Any) -> Any:
        usual = partial(schedule, lanes=self.machine.lanes, threads=self.options.threads)
        if self.options.tuning is None or is_lowered(function):
            return usual(function)
        known = Database(self.options.tuning).find(workload(function), setting(self.machine, self.options))
        trace = (known.choice or {}).get("trace", "")
        return _replayed(function, trace) if trace and _replays(function, trace) else usual(function)


def tasks(mod: tvm.IRModule, target: Any, machine: Machine, options: Options) -> list[Task]:
    """One task per operator that TVM lowers and whose operands are floats."""
    options = replace(options, tuning=None)
    found: list[Any] = []

    def collect(function: Any) -> Any:
        if not is_lowered(function) and _is_plain(function):
            found.append(function)
        return function

    lowering = [
        replace(item, schedule=collect) for item in target.lowering_passes(options) if isinstance(item, LowerGeneric)
    ]
    run(mod, [*graph_passes(), *target.layout_passes(options), *lowering], Log())
    usual = partial(schedule, lanes=machine.lanes, threads=options.threads)
    functions = {workload(function): function for function in found}
    return [_task(key, function, usual, machine, options) for key, function in functions.items()]


def workload(function: Any) -> str:
    text = function.with_attr("global_symbol", "main").script(show_meta=True)
    shapes = " ".join("x".join(map(str, shape)) for shape in _shapes(function))
    return f"generic {shapes} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _replayed(function: Any, trace: str) -> Any:
    state = Schedule(_module(function), seed=SEED)  # some decisions are not in the trace: they are drawn again, alike
    Trace.apply_json_to_schedule(json.loads(trace), state)
    return state.mod["main"]


def _is_plain(function: Any) -> bool:
    """Floats of known shapes in, one such map out."""
    types: list[Any] = [getattr(parameter, "ty", None) for parameter in function.params]
    known = all(hasattr(t, "shape") and str(t.dtype) == "float32" for t in types)
    return known and len(types) >= 2 and all(hasattr(n, "value") for t in types for n in t.shape)


def _shapes(function: Any) -> list[tuple[int, ...]]:
    return [tuple(int(n) for n in parameter.ty.shape) for parameter in function.params if hasattr(parameter, "ty")]


def _module(function: Any) -> tvm.IRModule:
    return tvm.IRModule({"main": function.with_attr("global_symbol", "main")})


def _task(key: str, function: Any, usual: Callable[[Any], Any], machine: Machine, options: Options) -> Task:
    choices = [DEFAULT, *({"trace": trace} for trace in _draw(function, machine, options.threads))]

    def kernel(choice: Mapping[str, Any]) -> Kernel:
        trace = choice["trace"]
        return Kernel(f"{key} {trace}", lambda: _replayed(function, trace) if trace else usual(function), ())

    def problem() -> Problem:
        *sources, target = _shapes(function)
        inputs = tuple(random_map(shape, seed) for seed, shape in enumerate(sources))
        return Problem(inputs, _result(function, inputs, target), options.threads, 0)

    return Task(key, (key,), choices, [1.0] * len(choices), problem, kernel)


def _draw(function: Any, machine: Machine, threads: int) -> list[str]:
    """Traces of random schedules; none for what MetaSchedule cannot schedule."""
    from tvm.s_tir import meta_schedule as ms

    target = machine.tvm_target(**{"num-cores": threads})
    try:
        context = ms.TuneContext(
            _module(function), target=target, space_generator="post-order-apply", search_strategy="replay-trace",
            task_name="main", rand_state=SEED, num_threads=1,
        )  # fmt: skip
        context.pre_tuning(DRAWN, DRAWN, context.generate_design_space(), None, None)
        drawn = context.generate_measure_candidates() or []
        context.post_tuning()
    except Exception:  # whatever MetaSchedule raises: the operator keeps its schedule
        return []
    traces = dict.fromkeys(json.dumps(plain(candidate.sch.trace.as_json())) for candidate in drawn)
    return [trace for trace in traces if _replays(function, trace)]


def _replays(function: Any, trace: str) -> bool:
    """Whether a trace gives the same code again and again; not all that MetaSchedule writes does."""
    try:
        return len({str(_replayed(function, trace)) for _ in range(REPLAYS)}) == 1
    except Exception:  # errors of several unrelated classes
        return False


def _result(function: Any, inputs: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """What the unscheduled function computes."""
    with tvm.transform.PassContext(opt_level=0):
        module = tvm.tirx.build(_module(function), tvm.target.Target("llvm"), pipeline="s_tir")
    out = tvm.runtime.empty(shape, "float32")
    module["main"](*map(tvm.runtime.tensor, inputs), out)
    return np.array(out.numpy())
