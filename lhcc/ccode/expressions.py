"""TIR expressions as C.

Scalars become operators; vectors become calls of helper functions, and a vector that an expression uses twice becomes a
variable, because TIR expressions are graphs and C text is a tree.
"""

from __future__ import annotations

from lhcc.ccode.helpers import BINARY, COMPARE, Helpers
from lhcc.ccode.identifiers import free_identifier
from lhcc.ccode.tir_nodes import Expr, count_uses, is_vector, mask_of, pointed, type_of
from lhcc.ccode.types import Type, literal
from lhcc.errors import TargetError

# class -> operator of C, its precedence, the least precedence that an operand has without parentheses; the compilers
# warn where people misread precedence, so bits, comparisons and shifts take plain operands only
INFIX = {
    "Mul": ("*", 13, 13), "Div": ("/", 13, 13), "Mod": ("%", 13, 13), "Add": ("+", 12, 12), "Sub": ("-", 12, 12),
    "RShift": (">>", 11, 14), "BitwiseAnd": ("&", 8, 14), "BitwiseXor": ("^", 7, 14), "BitwiseOr": ("|", 6, 14),
    "LT": ("<", 10, 12), "LE": ("<=", 10, 12), "GT": (">", 10, 12), "GE": (">=", 10, 12),
    "EQ": ("==", 9, 12), "NE": ("!=", 9, 12), "And": ("&&", 5, 10), "Or": ("||", 4, 10),
}  # fmt: skip
HELPERS = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Mod": "mod", "Min": "min", "Max": "max",
    "BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor", "LShift": "shl", "RShift": "shr",
    "LT": "lt", "LE": "le", "GT": "gt", "GE": "ge", "EQ": "eq", "NE": "ne", "And": "and", "Or": "or",
    "FloorDiv": "floordiv", "FloorMod": "floormod",
}  # fmt: skip
INTRINSICS = {
    "avx512.vpdpbusd": "dot4", ".pmadd": "madd", "aarch64.neon.usdot": "dot4", "aarch64.neon.sdot": "sdot4",
}  # fmt: skip
PRIMARY, CHOICE = 15, 3


class Expressions:
    """Prints the expressions of one function; knows its variables, and which of them were used."""

    def __init__(self, helpers: Helpers) -> None:
        self.helpers = helpers
        self.names: dict[int, str] = {}
        self.taken: set[str] = set()
        self.used: set[int] = set()
        self.registers: set[int] = set()  # buffers of one element, which are plain variables
        self.temporaries: list[str] = []
        self._known: dict[int, str] = {}
        self._shared: set[int] = set()

    # ---- names
    def name(self, variable: Expr) -> str:
        key = variable.__chandle__()
        if key not in self.names:
            self.names[key] = self.fresh(str(variable.name))
        return self.names[key]

    def fresh(self, wish: str) -> str:
        return free_identifier(wish, self.taken)

    def use(self, variable: Expr) -> str:
        self.used.add(variable.__chandle__())
        return self.name(variable)

    # ---- whole expressions
    def print(self, expr: Expr) -> str:
        """The text; vectors that it uses more than once are first computed into `temporaries`."""
        counts: dict[int, int] = {}
        count_uses(expr, counts)
        self._shared = {key for key, count in counts.items() if count > 1}
        self._known = {}
        return self.text(expr)

    def text(self, expr: Expr, least: int = 0) -> str:
        """The text, in parentheses if it binds less tightly than `least`."""
        key = expr.__chandle__()
        if key in self._known:
            return self._known[key]
        text, binding = self._text(expr)
        if key in self._shared and is_vector(expr):
            name = self.fresh("v")
            self.temporaries.append(f"const {self.helpers.vector(type_of(expr))} {name} = {text};")
            self._known[key] = name
            return name
        return f"({text})" if binding < least else text

    def _text(self, expr: Expr) -> tuple[str, int]:
        kind = type(expr).__name__
        if kind in HELPERS and (is_vector(expr) or kind not in INFIX):
            return self._helper(kind, expr)
        if kind in INFIX:
            sign, binding, least = INFIX[kind]
            right = least + 1 if kind in ("Sub", "Div", "Mod") else least
            return f"{self.text(expr.a, least)} {sign} {self.text(expr.b, right)}", binding
        printer = getattr(self, f"_print_{kind}", None)
        if printer is None:
            raise TargetError(f"{kind} in a kernel cannot be written as C")
        text, binding = printer(expr)
        return str(text), int(binding)

    def _helper(self, kind: str, expr: Expr) -> tuple[str, int]:
        operation, of = HELPERS[kind], type_of(expr.a)
        if operation == "add":
            for total, product in ((expr.a, expr.b), (expr.b, expr.a)):
                if type(product).__name__ == "Mul" and product.__chandle__() not in self._shared and of.is_float:
                    return self._call("muladd", of, total, product.a, product.b)
        if of.lanes == 1 and operation in BINARY | COMPARE:
            raise TargetError(f"{kind} of booleans in a kernel cannot be written as C")
        return self._call(operation, of, expr.a, expr.b)

    def _call(self, operation: str, of: Type, *operands: Expr) -> tuple[str, int]:
        return f"{self.helpers.call(operation, of)}({', '.join(self.text(x) for x in operands)})", PRIMARY

    # ---- leaves
    def _print_IntImm(self, expr: Expr) -> tuple[str, int]:
        return literal(expr.value, type_of(expr)), PRIMARY if expr.value >= 0 else 14

    def _print_FloatImm(self, expr: Expr) -> tuple[str, int]:
        return literal(expr.value, type_of(expr)), PRIMARY if expr.value >= 0 else 14

    def _print_Var(self, expr: Expr) -> tuple[str, int]:
        return self.use(expr), PRIMARY

    # ---- memory
    def _print_TensorLoad(self, expr: Expr) -> tuple[str, int]:
        kind, index = type_of(expr), expr.indices[-1]
        if expr.source.__chandle__() in self.registers:
            return self.use(expr.source), PRIMARY
        if kind.lanes > 1:
            return f"{self.helpers.call('load', kind)}({self.address(expr.source, index)})", PRIMARY
        return f"{self.use(expr.source)}[{self.text(index)}]", PRIMARY

    def address(self, buffer: Expr, index: Expr) -> str:
        """Where a vector begins."""
        if type(index).__name__ == "Ramp":
            if type(index.stride).__name__ != "IntImm" or index.stride.value != 1:
                raise TargetError("a kernel reads a vector with gaps, which cannot be written as C")
            index = index.base
        if type(index).__name__ == "IntImm" and index.value == 0:
            return self.use(buffer)
        return f"{self.use(buffer)} + {self.text(index, 12)}"

    # ---- vectors
    def _print_Broadcast(self, expr: Expr) -> tuple[str, int]:
        return self._call("splat", type_of(expr), expr.value)

    def _print_Shuffle(self, expr: Expr) -> tuple[str, int]:
        vectors, indices, of = list(expr.vectors), list(expr.indices), type_of(expr.vectors[0])
        if len(vectors) == len(indices) == 1:
            return f"{self.helpers.call('lane', of)}({self.text(vectors[0])}, {self.text(indices[0])})", PRIMARY
        if len(vectors) != 2 or not type_of(vectors[1]) == type_of(expr) == of:
            raise TargetError("a kernel shuffles vectors in a way that cannot be written as C")
        return self._call("_".join(["shuffle", *(str(index.value) for index in indices)]), of, *vectors)

    # ---- choices and conversions
    def _print_Not(self, expr: Expr) -> tuple[str, int]:
        return f"!{self.text(expr.a, 14)}", 14

    def _print_Select(self, expr: Expr) -> tuple[str, int]:
        if not is_vector(expr):
            return self._choice(expr.condition, expr.true_value, expr.false_value)
        of = type_of(expr)
        if mask_of(expr.condition) != of.mask:
            raise TargetError("a kernel selects between vectors of another width than it compares")
        return self._call("select", of, expr.condition, expr.true_value, expr.false_value)

    def _choice(self, condition: Expr, yes: Expr, no: Expr) -> tuple[str, int]:
        return f"{self.text(condition, PRIMARY)} ? {self.text(yes, 12)} : {self.text(no, 12)}", CHOICE

    def _print_Let(self, expr: Expr) -> tuple[str, int]:
        value = self.text(expr.value)
        self.temporaries.append(f"const {type_of(expr.var).c} {self.name(expr.var)} = {value};")
        return self._text(expr.body)

    def _print_Cast(self, expr: Expr) -> tuple[str, int]:
        to, of = type_of(expr), type_of(expr.value)
        if to.lanes > 1:
            return f"{self.helpers.call('from', to, of)}({self.text(expr.value)})", PRIMARY
        if to.element == "bool":
            return f"{self.text(expr.value, 12)} != 0", 9
        return f"({to.c}){self.text(expr.value, 14)}", 14

    # ---- calls
    def _print_Call(self, expr: Expr) -> tuple[str, int]:
        name, arguments = str(expr.op.name).removeprefix("tirx.").removeprefix("prim."), list(expr.args)
        if name == "if_then_else":
            return self._choice(*arguments)
        if name == "reinterpret":
            return self._reinterpret(expr, arguments[0])
        if name == "address_of":
            return f"&{self.use(arguments[0].source)}[{self.text(arguments[0].indices[-1])}]", 14
        if name == "buffer_data":
            return self.use(arguments[0]), PRIMARY
        if name in ("call_pure_extern", "call_extern"):
            return f"{arguments[0].value}({', '.join(self.text(x) for x in arguments[1:])})", PRIMARY
        if name in ("call_llvm_intrin", "call_llvm_pure_intrin"):
            return self._intrinsic(expr, arguments)
        if name == "floor":
            if is_vector(expr):
                return self._call("floor", type_of(expr), arguments[0])
            return f"{'floor' if type_of(expr).size == 8 else 'floorf'}({self.text(arguments[0])})", PRIMARY
        raise TargetError(f"{name} in a kernel cannot be written as C")

    def _reinterpret(self, expr: Expr, value: Expr) -> tuple[str, int]:
        pointer = "handle" in str(value.ty)
        if "handle" in str(expr.ty):
            return f"(const {pointed(expr).c} *)(uintptr_t)({self.text(value)})", 14
        to = type_of(expr)
        if pointer:
            return f"({to.c})(uintptr_t)({self.text(value)})", 14
        of = type_of(value)
        return (
            self._call("bits", to, value) if to == of else (
                f"{self.helpers.call('bits', to, of)}({self.text(value)})", PRIMARY)
        )  # fmt: skip

    def _intrinsic(self, expr: Expr, arguments: list[Expr]) -> tuple[str, int]:
        from tvm.target.codegen import llvm_get_intrinsic_name

        name = str(llvm_get_intrinsic_name(int(arguments[0].value)))
        if name == "llvm.prefetch":
            place = arguments[1].args[0]
            # the address may lie behind the last weight, where C allows no pointer
            return f"PREFETCH({self.use(place.source)}, {self.text(place.indices[-1])})", PRIMARY
        operation = next((INTRINSICS[mark] for mark in INTRINSICS if mark in name), "")
        if operation:
            helper = self.helpers.call(operation, type_of(expr), type_of(arguments[-1]))
            return f"{helper}({', '.join(self.text(x) for x in arguments[1:])})", PRIMARY
        raise TargetError(f"{name} in a kernel cannot be written as C")
