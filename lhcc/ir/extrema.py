"""Maxima and minima, lowered by us: TVM's start from the largest finite number, which is wrong where all is infinite.

max(-inf, -inf) = -inf, not -3.4e38;  argmax(-inf, -inf) = 0, not -1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

Rule = Callable[[Any, Any], Any]
INDEX = "int64"


def _rule(name: str, greatest: bool, position: bool) -> Rule:
    """How an operator of Relax becomes a loop nest: the extremum over some axes, or the position of the first one."""

    def legalize(builder: Any, call: Any) -> Any:
        rank, axis, keep = len(call.args[0].ty.shape), call.attrs.axis, bool(call.attrs.keepdims)
        chosen = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
        axes = sorted({int(a) % rank for a in chosen})

        def compute(x: Any) -> Any:
            over = {a: te.reduce_axis((0, x.shape[a]), name=f"k{a}") for a in axes}
            shown = [a for a in range(rank) if keep or a not in over]
            shape = [1 if a in over else x.shape[a] for a in shown]

            def element(*index: Any) -> Any:
                at = {**dict(zip(shown, index, strict=True)), **over}
                value = x(*(at[a] for a in range(rank)))
                if not position:
                    return _value(greatest)(value, axis=list(over.values()))
                place: Any = 0
                for a, k in over.items():
                    place = place * x.shape[a] + k
                return _position(greatest)((tirx.Cast(INDEX, place), value), axis=list(over.values()))

            if not position:
                return te.compute(shape, element, name=name)
            places, _ = te.compute(shape, element, name=f"{name}_pairs")
            return te.compute(shape, lambda *index: places(*index), name=name)

        return builder.call_te(compute, call.args[0], primfunc_name_hint=name)

    return legalize


def _value(greatest: bool) -> Any:
    pick = tirx.max if greatest else tirx.min
    return te.comm_reducer(lambda left, right: pick(left, right), lambda dtype: _limit(greatest, dtype))


def _position(greatest: bool) -> Any:
    def pick(left: Any, right: Any) -> tuple[Any, Any]:
        ahead = left[1] > right[1] if greatest else left[1] < right[1]
        first = tirx.any(ahead, tirx.all(left[1] == right[1], left[0] < right[0]))
        return tirx.Select(first, left[0], right[0]), tirx.Select(first, left[1], right[1])

    return te.comm_reducer(pick, lambda index, dtype: (tirx.max_value(index), _limit(greatest, dtype)))


def _limit(greatest: bool, dtype: str) -> Any:
    """What loses against everything else of its type."""
    if str(dtype).startswith("float"):
        return tirx.const(float("-inf") if greatest else float("inf"), dtype)
    return tirx.min_value(dtype) if greatest else tirx.max_value(dtype)


RULES: dict[str, Rule] = {
    f"relax.{'arg' if position else ''}{name}": _rule(f"{'arg' if position else ''}{name}", greatest, position)
    for name, greatest in (("max", True), ("min", False))
    for position in (False, True)
}
