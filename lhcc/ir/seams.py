"""Puts seams where a network meets its user, so that its channels may stand in another order inside than outside.

    y = lhcc.conv2d(x, W, b)      ->  y = lhcc.conv2d(lhcc.reorder(x, [0, 1, ...]), W, b)
    return y                          return lhcc.reorder(y, [0, 1, ...])

A map of several pixels is brought into another layout at these places anyway, and that takes any order along.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, constant, dtype_of, is_tensor, shape_of
from lhcc.ir.log import Log


def with_seams(mod: tvm.IRModule) -> tvm.IRModule:
    rewriter = Rewriter(mod, Log(), "seams")
    inside: dict[Any, Any] = {}
    outside: dict[Any, Any] = {}

    def seam(value: Any) -> Any:
        unchanged = np.arange(shape_of(value)[1], dtype=np.int32)
        call = dialect.call("reorder", [value, constant(unchanged)], shape_of(value))
        return rewriter.emit(call, rewriter.name(value))

    def leave(value: Any) -> Any:
        if isinstance(value, relax.Tuple):
            return relax.Tuple([leave(field) for field in value.fields])
        if value not in outside:
            outside[value] = seam(value) if isinstance(value, relax.Var) and _is_laid_out(value) else value
        return outside[value]

    for param in filter(_is_laid_out, rewriter.params):
        inside[param] = seam(param)
        outside[inside[param]] = param  # what is returned as it came
    rewriter.remap.update(inside)
    return rewriter.run(lambda name, value: None, finish=leave)


def _is_laid_out(value: Any) -> bool:
    """Whether it is an image of more than one pixel: of one pixel, all layouts are the same bytes."""
    if not is_tensor(value) or dtype_of(value) != "float32" or len(shape_of(value)) != 4:
        return False
    return shape_of(value)[2:] != (1, 1)
