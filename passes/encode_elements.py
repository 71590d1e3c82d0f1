"""Encodes convolutions whose zeros follow no block as patterns of kernels or single elements, where that is faster.

    y = lhcc.conv2d(x, W, b)      ->  y = lhcc.wide_conv2d(lhcc.widen(x), non-zeros, b, table)     both maps planar

To such a layer every order of its channels is as good, so it takes in what reorders them before or after it:

    y = lhcc.reorder(lhcc.conv2d(lhcc.reorder(x, p), W, b), q)  ->  the same with W[q][:, p^-1] and b[q]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, constant, op_name, values_of
from lhcc.ir.layer import ConvLayer, logical_layer
from lhcc.ir.log import Log


@dataclass(frozen=True)
class Widened:
    """A layer in the elements encoding: shape of the widened input, and the rest as in `Packed`."""

    wide: tuple[int, ...]
    spec: str
    constants: tuple[Any, ...]
    encoding: str
    density: float
    macs: int
    macs_kept: int
    schedule: str
    why: tuple[str, ...] = ()


Encode = Callable[[ConvLayer], Widened | str]  # or the reason why not


@dataclass(frozen=True)
class EncodeElements:
    encode: Encode
    name = "encode_elements"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        return _Encoder(Rewriter(mod, log, self.name), self.encode).run()


class _Encoder:
    def __init__(self, rewriter: Rewriter, encode: Encode) -> None:
        self.rewriter = rewriter
        self.encode = encode
        self.encoded: dict[Any, tuple[ConvLayer, Any]] = {}  # by what was emitted: the layer and its input

    def run(self) -> tvm.IRModule:
        return self.rewriter.run(self._visit)

    def _visit(self, name: str, call: Any) -> Any:
        if op_name(call) == "lhcc.conv2d":
            return self._layer(name, call)
        return self._reordered(name, call) if op_name(call) == "lhcc.reorder" else None

    def _layer(self, name: str, call: Any) -> Any:
        layer, x = logical_layer(name, call), call.args[0]
        found = self.encode(layer)
        if isinstance(found, str):
            return self.rewriter.decline(name, found) if found else None
        for reason in found.why:
            self.rewriter.note(name, reason)
        before = self.rewriter.value(x)
        if op_name(before) == "lhcc.reorder" and layer.groups == 1:
            weight = values_of(call.args[1])[:, np.argsort(values_of(before.args[1]))]
            other = replace(layer, weight=weight)
            again = self.encode(other)
            if isinstance(again, Widened):
                layer, x, found = other, before.args[0], again
        return self._emit(layer, x, found, call.args[3:])

    def _reordered(self, name: str, call: Any) -> Any:
        if call.args[0] not in self.encoded or not self.rewriter.used_once(call.args[0]):
            return None
        (layer, x), order = self.encoded[call.args[0]], values_of(call.args[1])
        if layer.residual or layer.groups > 1:
            return None
        assert layer.weight is not None and layer.bias is not None
        other = replace(layer, weight=layer.weight[order], bias=layer.bias[order])
        found = self.encode(other)
        return self._emit(other, x, found, ()) if isinstance(found, Widened) else None

    def _emit(self, layer: ConvLayer, x: Any, found: Widened, residual: Any) -> Any:
        wide = self.rewriter.emit(dialect.call("widen", [x], found.wide, spec=found.spec), layer.name)
        call = dialect.call(
            "wide_conv2d",
            [wide, *map(constant, found.constants), *residual],
            layer.result,
            op="conv2d",
            encoding=found.encoding,
            density=found.density,
            macs=found.macs,
            macs_kept=found.macs_kept,
            schedule=found.schedule,
            spec=found.spec,
        )
        var = self.rewriter.emit(call, layer.name)
        self.encoded[var] = layer, x
        return var
