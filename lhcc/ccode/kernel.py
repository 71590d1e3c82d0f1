"""One kernel as a C function.

Statements are printed from the last to the first: a variable whose uses were all printed, and are none, is left out,
and a pointer is constant if nothing was stored through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from lhcc.ccode.expressions import Expressions
from lhcc.ccode.helpers import Helpers
from lhcc.ccode.tir_nodes import pointed, type_of
from lhcc.ccode.types import Type, parse
from lhcc.errors import TargetError
from lhcc.ir.tir import statements
from lhcc.runtime.memory import align

Stmt = Any
STACK = 1024  # bytes: what is larger lives in the workspace
INDENT = "    "


@dataclass(frozen=True)
class Kernel:
    """A printed function, and what it needs."""

    name: str
    text: str
    types: tuple[str, ...]  # of its parameters, as in "const float *"
    workspace: int  # bytes that it is lent for a call
    helpers: Helpers


@dataclass
class _Scope:
    """Where the next allocation of the workspace goes, and how far any went."""

    pointer: str = "workspace"
    next: int = 0
    most: int = 0


def print_kernel(name: str, function: Any) -> Kernel:
    """`function` must have the form that `lowering.loops` gives."""
    return _Printer(function).kernel(name)


class _Printer:
    def __init__(self, function: Any) -> None:
        self.function = function
        self.helpers = Helpers()
        self.expressions = Expressions(self.helpers)
        self.written: set[int] = set()
        self.scope = _Scope()
        self.placed: dict[int, int] = {}  # offsets of buffers in the workspace

    def kernel(self, name: str) -> Kernel:
        function = self.function
        for parameter in function.params:
            self.expressions.name(parameter)
        body = self.block(function.body)
        types, declared = [], []
        for parameter in function.params:
            kind = _element(parameter)
            constant = "" if parameter.__chandle__() in self.written else "const "
            types.append(f"{constant}{kind.c} *")
            declared.append(f"{types[-1]}RESTRICT {self.expressions.name(parameter)}")
            if parameter.__chandle__() not in self.expressions.used:
                body.insert(0, f"(void){self.expressions.name(parameter)};")
        if self.scope.most:
            declared.append("unsigned char *workspace")
        lines = "".join(f"{INDENT}{line}\n" for line in body)
        text = f"KERNEL {name}({', '.join(declared)})\n{{\n{lines}}}\n"
        return Kernel(name, text, tuple(types), self.scope.most, self.helpers)

    # ---- statements: lists of lines, without the indentation of what is around them
    def block(self, statement: Stmt) -> list[str]:
        """The statements of one pair of braces; what they allocate is free again behind it."""
        start = self.scope.next
        lines: list[list[str]] = []
        items = statements(statement)
        for item in items:
            if type(item).__name__ == "AllocBuffer":
                self._place(item.buffer)
        for item in reversed(items):
            printed = getattr(self, f"_print_{type(item).__name__}", None)
            if printed is None:
                raise TargetError(f"{type(item).__name__} in a kernel cannot be written as C")
            own = printed(item)
            lines.append([*self.expressions.temporaries, *own])
            self.expressions.temporaries.clear()
        self.scope.next = start
        return [line for group in reversed(lines) for line in group]

    def _print_Bind(self, statement: Stmt) -> list[str]:
        variable = statement.var
        if variable.__chandle__() not in self.expressions.used:
            return []
        value = self.expressions.print(statement.value)
        if "handle" in str(variable.ty):
            return [f"const {pointed(variable).c} *const {self.expressions.name(variable)} = {value};"]
        kind = self.helpers.vector(type_of(variable))
        return [f"const {kind} {self.expressions.name(variable)} = {value};"]

    def _print_DeclBuffer(self, statement: Stmt) -> list[str]:
        view, source = statement.buffer, _root(statement.data)
        if view.__chandle__() not in self.expressions.used:
            return []
        if view.__chandle__() in self.written:
            self.written.add(source.__chandle__())
            constant = ""
        else:
            constant = "const "
        c = _element(view).c
        same = "handle" in str(source.ty) or _element(source) == _element(view)
        value = self.expressions.use(source)
        cast = "" if same else f"({constant}{c} *)"
        return [f"{constant}{c} *const {self.expressions.name(view)} = {cast}{value};"]

    def _print_AllocBuffer(self, statement: Stmt) -> list[str]:
        buffer = statement.buffer
        if buffer.__chandle__() not in self.expressions.used:
            return []
        kind, name = _element(buffer), self.expressions.name(buffer)
        if buffer.__chandle__() in self.expressions.registers:
            start = "" if kind.lanes > 1 else " = 0"  # compilers cannot see that a first iteration sets it
            return [f"{self.helpers.vector(kind)} {name}{start};"]
        if buffer.__chandle__() in self.placed:
            offset = self.placed[buffer.__chandle__()]
            return [f"{kind.c} *const {name} = ({kind.c} *)(void *)({self.scope.pointer} + {offset});"]
        return [f"{kind.c} {name}[{prod(map(int, buffer.shape))}] ALIGNED;"]

    def _print_BufferStore(self, statement: Stmt) -> list[str]:
        buffer, index = statement.buffer, statement.indices[-1]
        self.written.add(buffer.__chandle__())
        value = self.expressions.print(statement.value)
        if buffer.__chandle__() in self.expressions.registers:
            return [f"{self.expressions.use(buffer)} = {value};"]
        kind = type_of(statement.value)
        if kind.lanes > 1:
            return [f"{self.helpers.call('store', kind)}({self.expressions.address(buffer, index)}, {value});"]
        place = f"{self.expressions.use(buffer)}[{self.expressions.text(index)}]"
        narrow = _element(buffer) != kind or kind.size < 4
        return [f"{place} = " + (f"({_element(buffer).c})({value});" if narrow else f"{value};")]

    def _print_Evaluate(self, statement: Stmt) -> list[str]:
        if type(statement.value).__name__ in ("IntImm", "Var"):
            return []
        return [f"{self.expressions.print(statement.value)};"]

    def _print_AttrStmt(self, statement: Stmt) -> list[str]:
        return self.block(statement.body)

    def _print_IfThenElse(self, statement: Stmt) -> list[str]:
        otherwise = [] if statement.else_case is None else self.block(statement.else_case)
        then = self.block(statement.then_case)
        condition = self.expressions.print(statement.condition)
        lines = [f"if ({condition}) {{", *_indented(then)]
        if otherwise and otherwise[0].startswith("if (") and type(statement.else_case).__name__ == "IfThenElse":
            return [*lines, f"}} else {otherwise[0]}", *otherwise[1:]]
        return [*lines, *(["} else {", *_indented(otherwise)] if otherwise else []), "}"]

    def _print_While(self, statement: Stmt) -> list[str]:
        body = self.block(statement.body)
        return [f"while ({self.expressions.print(statement.condition)}) {{", *_indented(body), "}"]

    def _print_For(self, statement: Stmt) -> list[str]:
        variable, first, extent = statement.loop_var, statement.min, statement.extent
        if statement.step is not None and int(statement.step) != 1:
            raise TargetError("a loop with a step in a kernel cannot be written as C")
        parallel = int(statement.kind) == 1
        outer = self.scope
        if parallel:
            self.scope = _Scope(self.expressions.fresh("part_workspace"))
        body = self.block(statement.body)
        index, kind = self.expressions.use(variable), type_of(variable).c
        if parallel:
            inner, self.scope = self.scope, outer
            if inner.most:
                body.insert(0, self._share(inner, extent, f"{index} - {self.expressions.text(first, 13)}"))
        begin = self.expressions.text(first)
        if type(extent).__name__ == "IntImm" and type(first).__name__ == "IntImm":
            head = f"for ({kind} {index} = {begin}; {index} < {first.value + extent.value}; ++{index}) {{"
        elif parallel:
            raise TargetError("a parallel loop of unknown length in a kernel cannot be written as C")
        else:
            end = self.expressions.fresh(f"{index}_end")
            head = f"for ({kind} {index} = {begin}, {end} = {self._end(first, extent)}; {index} < {end}; ++{index}) {{"
        lines = [head, *_indented(body), "}"]
        return ["#ifdef _OPENMP", "#pragma omp parallel for", "#endif", *lines] if parallel else lines

    def _end(self, first: Any, extent: Any) -> str:
        if type(extent).__name__ == "Sub" and extent.b.same_as(first):
            return self.expressions.text(extent.a)
        if type(first).__name__ == "IntImm" and first.value == 0:
            return self.expressions.text(extent)
        return f"{self.expressions.text(first, 12)} + {self.expressions.text(extent, 12)}"

    # ---- the workspace
    def _place(self, buffer: Any) -> None:
        """Decides where an allocation lives, before what uses it is printed."""
        kind, count = _element(buffer), prod(map(int, buffer.shape))
        if kind.lanes > 1 and count > 1:
            raise TargetError("an array of vectors in a kernel cannot be written as C")
        if count == 1:
            self.expressions.registers.add(buffer.__chandle__())
        elif count * kind.size > STACK:
            self.placed[buffer.__chandle__()] = self.scope.next
            self.scope.next += align(count * kind.size)
            self.scope.most = max(self.scope.most, self.scope.next)

    def _share(self, inner: _Scope, extent: Any, number: str) -> str:
        """Every iteration of a parallel loop has a part of the workspace for itself."""
        start = self.scope.next
        self.scope.most = max(self.scope.most, start + inner.most * int(extent))
        return f"unsigned char *const {inner.pointer} = {self.scope.pointer} + {start} + ({number}) * {inner.most};"


def _indented(lines: list[str]) -> list[str]:
    return [line if line.startswith("#") else INDENT + line for line in lines]


def _element(buffer: Any) -> Type:
    return parse(buffer.dtype)


def _root(data: Any) -> Any:
    """The buffer or pointer whose memory a declaration shows again."""
    return data.args[0] if type(data).__name__ == "Call" else data
