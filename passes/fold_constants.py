"""Evaluates, in numpy, what depends on constants only.

s = relax.sqrt(const) ; t = relax.reshape(const, (1, 8, 1, 1))      ->  constants
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir.graph import Rewriter, array_of, constant, dtype_of, is_tensor, op_name, plain, shape_of
from lhcc.ir.log import Log

UNARY: dict[str, Callable[[Any], Any]] = {
    "relax.sqrt": np.sqrt,
    "relax.rsqrt": lambda x: 1 / np.sqrt(x),
    "relax.negative": np.negative,
    "relax.exp": np.exp,
    "relax.abs": np.abs,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.maximum": np.maximum,
    "relax.minimum": np.minimum,
}
RESHAPING = {"relax.reshape", "relax.flatten", "relax.expand_dims", "relax.squeeze"}


@dataclass(frozen=True)
class FoldConstants:
    limit: int = 1 << 28  # elements: a larger result costs more as a constant than to compute
    name = "fold_constants"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            if not op_name(value) or not is_tensor(value) or int(np.prod(shape_of(value))) > self.limit:
                return None
            result = _evaluate(value)
            return None if result is None else constant(result.astype(dtype_of(value), copy=False))

        return rewriter.run(visit)


def _evaluate(call: Any) -> Any:
    operator = op_name(call)
    if operator == "relax.concat":
        return _concat(call)
    tensors = [arg for arg in call.args if is_tensor(arg)]
    arrays = [array_of(arg) for arg in tensors]
    if not arrays or any(array is None for array in arrays):
        return None
    if operator in RESHAPING:
        return arrays[0].reshape(shape_of(call))  # type: ignore[union-attr]
    if operator == "relax.permute_dims":
        axes = plain(call.attrs.axes)
        return np.transpose(arrays[0], axes)  # type: ignore[arg-type]
    if operator == "relax.broadcast_to":
        return np.broadcast_to(arrays[0], shape_of(call))  # type: ignore[arg-type]
    if operator == "relax.astype":
        return arrays[0]
    if operator in UNARY:
        return UNARY[operator](arrays[0])
    if operator in BINARY and str(arrays[0].dtype) == str(arrays[1].dtype):  # type: ignore[union-attr]
        if operator == "relax.divide" and not np.issubdtype(arrays[0].dtype, np.floating):  # type: ignore[union-attr]
            return None
        return BINARY[operator](*arrays)
    return None


def _concat(call: Any) -> Any:
    if not isinstance(call.args[0], relax.Tuple):
        return None
    arrays = [array_of(field) for field in call.args[0].fields]
    if any(array is None for array in arrays):
        return None
    return np.concatenate(arrays, axis=plain(call.attrs.axis) or 0)  # type: ignore[arg-type]
