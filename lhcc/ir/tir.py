"""The few TIR constructors that the kernel generators share."""

from __future__ import annotations

from typing import Any

from tvm import ir
from tvm import tirx as T

Expr = Any
Stmt = Any

LOWERED = "lhcc.lowered"  # the attribute of a kernel that one of our generators wrote
EFFORT = "lhcc.effort"  # the attribute of a kernel that tells LLVM's level of optimisation, where it is not 3


def integer(value: int) -> Expr:
    return T.IntImm("int32", value)


def var(name: str, dtype: str = "int32") -> Expr:
    return T.Var(name, dtype)


def tensor(name: str, shape: list[Any], dtype: str = "float32") -> Expr:
    return T.decl_buffer(shape, dtype, name, data_alignment=64)


def flat(buffer: Expr, name: str, dtype: str = "float32") -> tuple[Expr, Stmt]:
    """A one-dimensional view of a whole tensor, and the statement that declares it; its extent is never looked at."""
    view = T.decl_buffer((integer(1 << 30),), dtype, name, data=T.buffer_data(buffer), data_alignment=64)
    return view, T.DeclBuffer(view, data=T.buffer_data(buffer))


class Renamed:
    """What stands for each of `count` numbers: `renamed[number]` is read from a table, an operand of the kernel, or is
    the number itself where there is no table."""

    def __init__(self, count: int, by_table: bool) -> None:
        self.tables = [tensor("names", [count], "int32")] if by_table else []
        seen = [flat(table, "named", "int32") for table in self.tables]
        self.views = [see for _, see in seen]
        self._seen = [view for view, _ in seen]

    def __getitem__(self, number: Expr) -> Expr:
        return get(self._seen[0], number) if self._seen else number


def opaque(buffer: Expr, position: Expr, zero: Expr, name: str, dtype: str = "float32") -> tuple[Expr, list[Stmt]]:
    """A view that starts at `position`, through a pointer of which LLVM knows nothing (`zero` is 0, but is read from
    memory): accesses then have a plain address and a constant offset.  With a base and an index a multiply-add of
    x86 that reads memory takes two issue slots instead of one, 5 to 15 % of the time of the innermost loops."""
    kind = ir.PointerType(ir.PrimType(dtype))
    address = T.reinterpret("uint64", T.address_of(T.BufferLoad(buffer, [position])))
    pointer = T.Var(f"{name}_pointer", kind)
    view = T.decl_buffer((integer(1 << 30),), dtype, name, data=pointer, data_alignment=4)
    hidden = T.bitwise_xor(address, T.Cast("uint64", zero))
    return view, [T.Bind(pointer, T.reinterpret(kind, hidden)), T.DeclBuffer(view, data=pointer)]


def prefetch(buffer: Expr, position: Expr, write: bool = False) -> Stmt:
    """Asks for a line to be brought into the first-level cache."""
    place = T.address_of(T.BufferLoad(buffer, [position]))
    hints = integer(int(write)), integer(3), integer(1)
    return T.Evaluate(T.call_llvm_intrin("void", "llvm.prefetch", place, *hints))


def register(name: str, dtype: str) -> Expr:
    """A buffer of one vector: LLVM promotes it to a register, which it does not do for a buffer of scalars."""
    return T.decl_buffer((1,), dtype, name, scope="global")


def get(buffer: Expr, position: Expr | None = None, lanes: int = 1) -> Expr:
    position = integer(0) if position is None else position
    return T.BufferLoad(buffer, [position if lanes == 1 else T.Ramp(position, 1, lanes)])


def put(buffer: Expr, value: Expr, position: Expr | None = None, lanes: int = 1) -> Stmt:
    position = integer(0) if position is None else position
    return T.BufferStore(buffer, value, [position if lanes == 1 else T.Ramp(position, 1, lanes)])


def sequence(statements: list[Stmt]) -> Stmt:
    return statements[0] if len(statements) == 1 else T.SeqStmt(statements)


def statements(body: Stmt) -> list[Stmt]:
    """Nested sequences as one."""
    if isinstance(body, T.SeqStmt):
        return [item for part in body.seq for item in statements(part)]
    return [body]


def loop(index: Expr, count: Expr | int, body: list[Stmt], parallel: bool = False) -> Stmt:
    extent = integer(count) if isinstance(count, int) else count
    kind = T.stmt.ForKind.PARALLEL if parallel else T.stmt.ForKind.SERIAL
    return T.For(index, integer(0), extent, kind, sequence(body))


def shared(index: Expr, count: int, threads: int, body: list[Stmt]) -> Stmt:
    """`count` iterations split over the threads; small work is not worth waking them."""
    if threads == 1 or count < 2:
        return loop(index, count, body)
    parts = min(threads, count)
    part, inner = var("part"), var("inner")
    each = -(-count // parts)
    stop = T.Min(integer(count), (part + 1) * integer(each))
    bind = T.Bind(index, part * integer(each) + inner)
    return loop(part, parts, [loop(inner, stop - part * integer(each), [bind, *body])], parallel=True)


def function(parameters: list[Expr], body: list[Stmt]) -> Expr:
    """A kernel that needs no scheduling any more."""
    return T.PrimFunc(parameters, sequence(body)).with_attr({"tirx.noalias": True, LOWERED: True})


def is_lowered(function: Any) -> bool:
    """Whether one of our generators wrote a kernel."""
    return LOWERED in (function.attrs or {})
