"""TIR constructors of the GPU's kernels: thread indices, calls of device functions, launch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import LOWERED, integer, sequence, var

Expr = Any
Stmt = Any
WAIT = "wait_for_others"  # the device function after which a kernel may touch what other kernels read or write


def call(name: str, *arguments: Any) -> Stmt:
    """Calls a function of device.cuh."""
    return T.Evaluate(T.call_extern("void", name, *map(_expr, arguments)))


def value(dtype: str, name: str, *arguments: Any) -> Expr:
    return T.call_extern(dtype, name, *map(_expr, arguments))


def _expr(argument: Any) -> Expr:
    return integer(argument) if isinstance(argument, int) else argument


def address(buffer: Expr, position: Expr | int = 0) -> Expr:
    return T.address_of(T.BufferLoad(buffer, [_expr(position)]))


def local(name: str, count: int, dtype: str = "float32") -> Expr:
    """Registers: every index must be a constant after unrolling."""
    return T.decl_buffer((count,), dtype, name, scope="local")


def divided(index: Expr, *extents: int) -> list[Expr]:
    """A flat index as one index per axis; the outermost may exceed what is there."""
    axes = []
    for extent in reversed(extents):
        axes.append(T.floormod(index, integer(extent)))
        index = T.floordiv(index, integer(extent))
    return [index, *reversed(axes)]


def when(condition: Expr, body: Sequence[Stmt]) -> Stmt:
    return T.IfThenElse(condition, sequence(list(body)), None)


def unrolled(index: Expr, count: int, statement: Stmt) -> Stmt:
    return T.For(index, integer(0), integer(count), T.stmt.ForKind.UNROLLED, statement)


def both(*conditions: Expr) -> Expr:
    first, *rest = conditions
    for condition in rest:
        first = T.And(first, condition)
    return first


class Threads:
    """Thread indices, and the kernel that binds them."""

    def __init__(self) -> None:
        self.thread, self.x, self.y = var("threadIdx.x"), var("blockIdx.x"), var("blockIdx.y")

    def kernel(
        self,
        parameters: list[Expr],
        body: list[Stmt],
        grid: tuple[int, int],
        threads: int,
        shared: int = 0,
        held: int = 0,
    ) -> Any:
        """`held`: thread blocks that a multiprocessor has to hold at a time, which limits registers; 0: as may be."""
        code = sequence(body)
        extents = (
            (self.thread, "threadIdx.x", threads),
            (self.y, "blockIdx.y", grid[1]),
            (self.x, "blockIdx.x", grid[0]),
        )
        for index, tag, extent in extents:
            axis = T.IterVar((0, extent), index, T.IterVar.ThreadIndex, tag)
            code = T.AttrStmt(axis, "thread_extent", integer(extent), code)
        launch = [*grid, threads, shared, held]
        return T.PrimFunc(parameters, code).with_attr({"tirx.noalias": True, LOWERED: True, "lhcc.launch": launch})
