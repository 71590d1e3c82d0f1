"""Neighbouring kernel calls made by one function, instead of by an instruction of the virtual machine each.

    conv2d_0(x, w0, t0); conv2d_1(t0, w1, t1)  ->  calls_0(x, w0, t0, w1, t1)

A call costs 10 ns then, not a quarter of a microsecond.  Threads are woken once for all of them and meet between two
kernels, which takes them a third of the time; for that a kernel becomes its `part`, what one of its threads does:

    conv2d_0(...): parallel for thread: body   ->  conv2d_0_part(..., thread): body
                                                   conv2d_0(...): parallel for thread: conv2d_0_part(..., thread)

Kernels that TVM wrote, and those that threads share in part only, are called one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import function, integer, is_lowered, loop, sequence, statements, var
from lhcc.runtime.steps import Ref, Step

Kernel = Any
Stmt = Any

# How TVM 0.27 hands arguments to a function of the form that its kernels have: an array of these fields ...
TYPE, PADDING, VALUE = 13, 14, 15
# ... of which each says what it is.
NOTHING, INTEGER, POINTER = 0, 1, 4
ARGUMENT_BYTES = 16
SYMBOL = "__tvm_ffi_{}"
LAUNCH, MEET = "pragma_parallel_launch_point", "pragma_parallel_barrier_when_finish"


@dataclass(frozen=True)
class Together:
    """The calls that are left to make, and the functions that they and those functions need."""

    steps: tuple[Step, ...]
    kernels: dict[str, Kernel]


def together(steps: Sequence[Step], kernels: Mapping[str, Kernel], threads: int) -> Together:
    """`kernels` are functions of the model by name; steps can call others too."""
    made = dict(kernels)
    extents: dict[str, int] = {}  # how many threads share a kernel, of those that can be called together
    for name, kernel in kernels.items():
        work = _work(kernel)
        if work is None:
            continue
        extents[name] = int(work.extent) if _is_parallel(work) else 1
        if threads > 1:
            made[name], made[f"{name}_part"] = _divide(name, kernel, extents[name])
    found: list[Step] = []
    for ours, group in groupby(steps, lambda step: step.kernel in extents):
        stretch = list(group)
        if not ours or len(stretch) == 1:
            found += stretch
            continue
        name, args = f"calls_{len(found)}", tuple(dict.fromkeys(arg for step in stretch for arg in step.args))
        made[name] = _caller(stretch, args, extents)
        found.append(Step(name, args, stretch[0].name))
    return Together(tuple(found), made)


def _work(kernel: Kernel) -> Stmt | None:
    """The last statement of a kernel of ours, if only views stand before it where threads share it; else none."""
    if not is_lowered(kernel):
        return None
    *before, work = statements(kernel.body)
    if _is_parallel(work):
        return work if all(isinstance(statement, T.Bind | T.DeclBuffer) for statement in before) else None
    return None if any(map(_is_parallel, before)) else work


def _is_parallel(statement: Stmt) -> bool:
    return isinstance(statement, T.For) and statement.kind == T.stmt.ForKind.PARALLEL


def _divide(name: str, kernel: Kernel, extent: int) -> tuple[Kernel, Kernel]:
    """What calls the kernel's part in each of the `extent` threads that share it, and that part."""
    *before, work = statements(kernel.body)
    thread, body = (work.loop_var, work.body) if _is_parallel(work) else (var("thread"), work)
    part = function([*kernel.params, thread], [*before, body]).with_attrs(kernel.attrs)
    handles, index = [var(f"a{i}", "handle") for i in range(len(kernel.params))], var("thread")
    whole = function(handles, [loop(index, extent, [_call(f"{name}_part", handles, index)], parallel=True)])
    return whole, part


def _caller(steps: Sequence[Step], args: Sequence[Ref], extents: Mapping[str, int]) -> Kernel:
    """The function of `args` that makes the calls of `steps`."""
    handles = {arg: var(f"a{number}", "handle") for number, arg in enumerate(args)}

    def call(step: Step, thread: Any = None) -> Stmt:
        name = step.kernel if thread is None else f"{step.kernel}_part"
        return _call(name, [handles[arg] for arg in step.args], thread)

    if all(extents[step.kernel] == 1 for step in steps):
        return function(list(handles.values()), [call(step) for step in steps])
    code = []
    for extent, group in groupby(steps, lambda step: extents[step.kernel]):
        alike = list(group)
        # what one thread does alone, it goes on with; after shared work all have to meet
        for between in [alike] if extent == 1 else [[step] for step in alike]:
            index = var("thread")
            code.append(_pragma(MEET, loop(index, extent, [call(step, index) for step in between], parallel=True)))
    return function(list(handles.values()), [_pragma(LAUNCH, sequence(code))])


def _call(kernel: str, handles: Sequence[Any], number: Any = None) -> Stmt:
    """TVM's own `call_cpacked` declares a function anew with each call, under another name."""
    values = [(POINTER, handle) for handle in handles]
    if number is not None:
        values.append((INTEGER, T.Cast("int64", number)))
    count = len(values)
    values.append((NOTHING, T.IntImm("int64", 0)))  # for the answer
    array = var("arguments", "handle")
    code = [T.Bind(array, T.tvm_stack_alloca("tvm_ffi_any", len(values)))]
    for place, (kind, value) in enumerate(values):
        for field, content in ((TYPE, integer(kind)), (PADDING, integer(0)), (VALUE, value)):
            code.append(T.Evaluate(T.tvm_struct_set(array, place, field, content)))
    address = T.reinterpret("uint64", array) + T.IntImm("uint64", count * ARGUMENT_BYTES)
    nobody, answer = T.reinterpret("handle", T.IntImm("uint64", 0)), T.reinterpret("handle", address)
    code.append(T.Evaluate(T.call_extern("int32", SYMBOL.format(kernel), nobody, array, integer(count), answer)))
    return sequence(code)


def _pragma(key: str, body: Stmt) -> Stmt:
    return T.AttrStmt(integer(0), key, integer(1), body)
