"""What the frontends check alike: unsupported operators (gathered into one error), static shapes, NaN weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from tvm import relax

from lhcc.errors import LhccWarning, ModelError, UnsupportedOperator

MOST = 2**31 - 1  # numbers of a map

# The element types that a model may have; half.py widens two of them.
HALVES = {"float16", "bfloat16"}
INTEGERS = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
DTYPES = {*INTEGERS, "float32", "float64", *HALVES}


class InputValueNeeded(UnsupportedOperator):
    """The shape of something depends on the values of some inputs; with those values fixed it could be compiled."""

    def __init__(self, message: str, inputs: list[str]) -> None:
        super().__init__(message, f"make {', '.join(repr(name) for name in inputs)} constant in the exported graph")
        self.inputs = inputs


class Unsupported:
    """Gathers the operators that cannot be converted; one error lists every one with its nodes."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self.found)

    def note(self, operator: str, node: str, reason: str = "") -> Any:
        """Always returns None, to stand for the value that there is not."""
        self.found.setdefault((operator, reason), []).append(node)

    def note_if_unknown(self, operator: str, node: str, convertible: bool) -> None:
        """For a node behind an unsupported one: its inputs are unknown, so only its kind can be judged."""
        if not convertible:
            self.note(operator, node)

    def raise_if_any(self, values_needed: Iterable[str] = ()) -> None:
        """`values_needed`: inputs whose values, fixed at compile time, would lift some of the objections."""
        if not self.found:
            return
        kinds = []
        for (operator, reason), nodes in self.found.items():
            because = f": {reason}" if reason else ""
            kinds.append(f"{operator} (in {', '.join(repr(n) for n in nodes)}{because})")
        count = len({operator for operator, _ in self.found})
        message = f"{count} operator{'s are' if count > 1 else ' is'} not supported: {'; '.join(kinds)}"
        if values_needed:
            raise InputValueNeeded(message, sorted(values_needed))
        they, others = ("them", "supported operators") if count > 1 else ("it", "a supported operator")
        raise UnsupportedOperator(message, f"remove {they} from the exported graph, or replace {they} with {others}")


def check_extents(mod: Any) -> None:
    """Refuses maps of more numbers than the tables of kernels can count."""
    main = mod["main"]
    variables = [*main.params, *(binding.var for block in main.body.blocks for binding in block.bindings)]
    for var in variables:
        if isinstance(var.ty, relax.TensorType):
            count = math.prod(int(n) for n in var.ty.shape.values)
            if count > MOST:
                raise ModelError(
                    f"'{var.name}' is a map of {count:,} numbers, and {MOST:,} are the most that can be compiled",
                    "give smaller images, or fewer at once",
                )


def check_static(value: Any) -> None:
    """Raises ValueError when a shape is only known at run time."""
    types = value.ty.fields if isinstance(value.ty, relax.TupleType) else [value.ty]
    for kind in types:
        if isinstance(kind, relax.TupleType):
            continue
        shape = getattr(kind, "shape", None)
        if shape is None or any(not hasattr(n, "value") for n in getattr(shape, "values", [None])):
            raise ValueError("the shape of its result depends on the values of its inputs")


def check_dtype(value: Any) -> None:
    """Raises ValueError for an element type that a compiled function cannot hold."""
    dtype = str(getattr(value.ty, "dtype", "float32"))
    if dtype not in DTYPES:
        raise ValueError(f"its result is of type {dtype}, which cannot be compiled")


def warn_about_nan(tensor: str, found: bool) -> None:
    if found:
        text = f"weight '{tensor}' contains NaN: so will the outputs that depend on it"
        warnings.warn(text, LhccWarning, stacklevel=2)
