"""What an expression of TIR is: its type, its parts, how often it uses each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lhcc.ccode.types import Type, parse

Expr = Any


def type_of(expr: Expr) -> Type:
    return parse(expr.ty.dtype if hasattr(expr.ty, "dtype") else expr.ty)


def pointed(pointer: Expr) -> Type:
    """What a pointer points to."""
    found = re.search(r'handle\("(\w+)"', str(pointer.ty))
    assert found, pointer.ty
    return parse(found.group(1))


def mask_of(condition: Expr) -> Type:
    """The mask that a condition on vectors gives."""
    if type(condition).__name__ in ("And", "Or"):
        return mask_of(condition.a)
    return type_of(condition.a).mask


def is_vector(expr: Expr) -> bool:
    return hasattr(expr.ty, "dtype") and "x" in str(expr.ty.dtype)


def count_uses(expr: Expr, counts: dict[int, int]) -> None:
    """How many times an expression uses each of its vectors, leaves left out."""
    if is_vector(expr) and type(expr).__name__ not in ("Var", "TensorLoad", "Broadcast"):
        key = expr.__chandle__()
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > 1:
            return
    for child in children(expr):
        count_uses(child, counts)


def children(expr: Expr) -> Iterator[Expr]:
    kind = type(expr).__name__
    if kind == "TensorLoad":
        yield from expr.indices
    elif kind == "Call":
        yield from (x for x in expr.args if hasattr(x, "ty") and type(x).__name__ != "StringImm")
    elif kind == "Shuffle":
        yield from expr.vectors
    else:
        for field in ("a", "b", "value", "base", "condition", "true_value", "false_value", "body"):
            child = getattr(expr, field, None)
            if hasattr(child, "ty"):
                yield child
