"""The helper functions that printed code calls, defined for just what it uses.

Vectors have two definitions: with the vector extensions of GCC and Clang, or as structures of lanes for any other C99
compiler (and wherever the user defines LHCC_PORTABLE).  Printed kernels are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lhcc.ccode.products import PRODUCTS, products
from lhcc.ccode.types import Type

BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "and": "&", "or": "|", "xor": "^", "shr": ">>"}
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


@dataclass
class Helpers:
    """What was asked for, in an order in which everything is defined before its use."""

    types: dict[Type, None] = field(default_factory=dict)
    functions: dict[tuple[str, Type, Type | None], None] = field(default_factory=dict)

    def vector(self, kind: Type) -> str:
        if kind.lanes > 1:
            self.types.setdefault(kind)
        return kind.c

    def call(self, operation: str, kind: Type, other: Type | None = None) -> str:
        """The name of a helper on values of `kind`; `other` is what a conversion starts from."""
        self.vector(kind)
        if other is not None:
            self.vector(other)
        if kind.lanes > 1 and (operation in COMPARE or operation in ("min", "max", "select", "floor")):
            self.vector(kind.mask)
        if kind.lanes > 1 and operation == "shl":
            self.vector(kind.unsigned)
        if operation == "floor" and kind.element == "float32":
            self.call("max", kind)
        self.functions.setdefault((operation, kind, other))
        return f"{kind.short}_{operation}" + (f"_{other.short}" if other is not None else "")

    def merge(self, other: Helpers) -> None:
        self.types.update(other.types)
        self.functions.update(other.functions)

    def text(self) -> str:
        scalars = [key for key in self.functions if key[1].lanes == 1 and (key[2] is None or key[2].lanes == 1)]
        vectors = [key for key in self.functions if key not in scalars]
        parts = ["".join(map(_scalar, scalars))]
        if self.types:
            parts.append(
                "#if defined(__GNUC__) && !defined(LHCC_PORTABLE)\n"
                '#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed to inlined functions only */\n'
                + "".join(map(_gnu_type, self.types))
                + "".join(_function(*key, gnu=True) for key in vectors)
                + "#else\n"
                + "".join(map(_portable_type, self.types))
                + "".join(_function(*key, gnu=False) for key in vectors)
                + "#endif\n"
            )
        return "\n".join(filter(None, parts))


def _scalar(key: tuple[str, Type, Type | None]) -> str:
    operation, kind, other = key
    c = kind.c
    if operation == "bits":
        assert other is not None
        head = f"INLINE {c} {kind.short}_bits_{other.short}({other.c} a)"
        return f"{head} {{ {c} r; memcpy(&r, &a, sizeof r); return r; }}\n"
    body = {
        "min": "return a < b ? a : b;",
        "max": "return a > b ? a : b;",
        "shl": f"return ({c})(({kind.unsigned.c})a << b);",
        "floordiv": f"const {c} q = ({c})(a / b); return ({c})(q - (a % b != 0 && (a < 0) != (b < 0)));",
        "floormod": f"const {c} r = ({c})(a % b); return ({c})(r != 0 && (r < 0) != (b < 0) ? r + b : r);",
    }[operation]
    return f"INLINE {c} {kind.short}_{operation}({c} a, {c} b) {{ {body} }}\n"


def _gnu_type(kind: Type) -> str:
    size, element = kind.size * kind.lanes, kind.scalar.c
    return (
        f"typedef {element} {kind.c} __attribute__((vector_size({size})));\n"
        f"typedef {element} {kind.c}_memory __attribute__((vector_size({size}), aligned({kind.size}), may_alias));\n"
    )


def _portable_type(kind: Type) -> str:
    return f"typedef struct {{ {kind.scalar.c} lane[{kind.lanes}]; }} {kind.c};\n"


def _function(operation: str, kind: Type, other: Type | None, gnu: bool) -> str:
    v, e = kind.c, kind.scalar.c
    name = f"{kind.short}_{operation}" + (f"_{other.short}" if other is not None else "")
    mask = kind.mask.c
    lanes = f"for (int i = 0; i < {kind.lanes}; ++i)"

    def define(result: str, parameters: str, with_vectors: str, per_lane: str) -> str:
        """A function whose body is one expression of whole vectors, or one of lane i."""
        if gnu:
            return f"INLINE {result} {name}({parameters}) {{ return {with_vectors}; }}\n"
        return f"INLINE {result} {name}({parameters}) {{ {result} r; {lanes} r.lane[i] = {per_lane}; return r; }}\n"

    two, three = f"{v} a, {v} b", f"{v} a, {v} b, {v} c"
    if operation in BINARY:
        sign = BINARY[operation]
        per_lane = f"a.lane[i] {sign} b.lane[i]"
        return define(v, two, f"a {sign} b", per_lane if kind.size >= 4 else f"({e})({per_lane})")
    if operation in COMPARE:
        sign = COMPARE[operation]
        return define(mask, two, f"({mask})(a {sign} b)", f"-(a.lane[i] {sign} b.lane[i])")
    if operation in ("min", "max"):
        sign = "<" if operation == "min" else ">"
        blend = f"({v})((({mask})a & ({mask})(a {sign} b)) | (({mask})b & ~({mask})(a {sign} b)))"
        return define(v, two, blend, f"a.lane[i] {sign} b.lane[i] ? a.lane[i] : b.lane[i]")
    if operation == "select":
        blend = f"({v})((({mask})a & m) | (({mask})b & ~m))"
        return define(v, f"{mask} m, {two}", blend, "m.lane[i] ? a.lane[i] : b.lane[i]")
    if operation == "muladd":
        return define(v, three, "a + b * c", "a.lane[i] + b.lane[i] * c.lane[i]")
    if operation == "shl":
        u = kind.unsigned
        return define(v, two, f"({v})(({u.c})a << ({u.c})b)", f"({e})(({u.scalar.c})a.lane[i] << b.lane[i])")
    if operation == "splat":
        return define(v, f"{e} a", f"({v}){{{', '.join(['a'] * kind.lanes)}}}", "a")
    if operation == "load":
        return define(v, f"const {e} *a", f"*(const {v}_memory *)(const void *)a", "a[i]")
    if operation == "store":
        body = f"*({v}_memory *)(void *)a = b;" if gnu else f"{lanes} a[i] = b.lane[i];"
        return f"INLINE void {name}({e} *a, {v} b) {{ {body} }}\n"
    if operation == "lane":
        return f"INLINE {e} {name}({v} a, int i) {{ return a{'' if gnu else '.lane'}[i]; }}\n"
    if operation.startswith("shuffle"):
        lane = "" if gnu else ".lane"
        places = [divmod(int(place), kind.lanes) for place in operation.split("_")[1:]]
        elements = ", ".join(f"{'ab'[which]}{lane}[{place}]" for which, place in places)
        body = f"({v}){{{elements}}}" if gnu else f"({v}){{{{{elements}}}}}"
        return f"INLINE {v} {name}({two}) {{ return {body}; }}\n"
    if operation == "from":
        assert other is not None
        return define(v, f"{other.c} a", f"__builtin_convertvector(a, {v})", f"({e})a.lane[i]")
    if operation == "bits":
        assert other is not None
        body = f"return ({v})a;" if gnu else f"{v} r; memcpy(&r, &a, sizeof r); return r;"
        return f"INLINE {v} {name}({other.c} a) {{ {body} }}\n"
    if operation == "floor":
        return _floor(kind, gnu)
    assert other is not None and operation in PRODUCTS, operation
    return products(operation, kind, other, gnu)


def _floor(kind: Type, gnu: bool) -> str:
    v, i, single = kind.c, kind.mask.c, kind.element == "float32"
    if not gnu or not single:
        place, function = "[i]" if gnu else ".lane[i]", "floorf" if single else "floor"
        loop = f"for (int i = 0; i < {kind.lanes}; ++i) r{place} = {function}(a{place});"
        return f"INLINE {v} {v}_floor({v} a) {{ {v} r; {loop} return r; }}\n"
    return (  # numbers of 2^23 and beyond are whole already
        f"INLINE {v} {v}_floor({v} a) {{\n"
        f"    const {i} small = ({i})({v}_max(a, -a) < 8388608.0f);\n"
        f"    const {v} near = ({v})(({i})a & small);\n"
        f"    const {v} cut = __builtin_convertvector(__builtin_convertvector(near, {i}), {v});\n"
        f"    const {v} below = cut + __builtin_convertvector(({i})(cut > near), {v});\n"
        f"    return ({v})((({i})below & small) | (({i})a & ~small));\n}}\n"
    )
