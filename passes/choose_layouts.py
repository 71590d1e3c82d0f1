"""Decides for every feature map how it lies in memory, so that a network converts its input once and its output once.

*Blocked* is (N, C/b, H, W, b) with the channels padded to whole blocks, the form in which kernels read and write whole
vectors; *planar* is the user's (N, C, H, W).  Convolutions and pooling produce blocked maps; operators that treat
all elements alike stay in the form of their operands; the rest reads planar.  A convolution of few input channels
reads its planar input directly.

    y = lhcc.conv2d(x, W, b)        ->  y = lhcc.conv2d(x, W, b, source="planar", block=16)     (N, C/16, H, W, 16)
    z = relax.nn.softmax(y)         ->  z = relax.nn.softmax(lhcc.from_blocked(y))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import (
    Rewriter,
    array_of,
    attributes,
    constant,
    dtype_of,
    is_tensor,
    op_name,
    plain,
    shape_of,
    values_of,
)
from lhcc.ir.log import Log

FEW_CHANNELS = 4  # up to so many, reading planar input in place beats converting it
SAME_FORM = {"relax.add", "relax.subtract", "relax.multiply", "relax.maximum", "relax.minimum", "lhcc.activation"}


def few_channels(channels: int, attrs: Mapping[str, Any]) -> bool:
    return channels <= FEW_CHANNELS


@dataclass(frozen=True)
class ChooseLayouts:
    block: int = 16
    element: str = "float32"  # of blocked maps; planar ones stay as the user's
    reads_planar: Callable[[int, Mapping[str, Any]], bool] = few_channels  # a convolution of so many channels
    elementwise: bool = False  # the target has kernels for functions of two blocked maps
    name = "choose_layouts"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        return _Layouts(Rewriter(mod, log, self.name), self).run()


class _Layouts:
    def __init__(self, rewriter: Rewriter, options: ChooseLayouts) -> None:
        self.rewriter = rewriter
        self.options = options
        self.block = options.block
        self.logical: dict[Any, tuple[int, ...]] = {}  # of every blocked variable
        self.other_form: dict[Any, Any] = {}  # planar to blocked and back, converted once
        self.rules = {
            "lhcc.conv2d": self._conv,
            "lhcc.pool2d": self._pool,
            "lhcc.global_average": self._pool,
            "lhcc.unfold": self._unfold,
            "lhcc.reorder": self._reorder,
            "relax.concat": self._concat,
            **dict.fromkeys(SAME_FORM, self._same_form),
        }

    def run(self) -> tvm.IRModule:
        return self.rewriter.run(self._visit, finish=self._finish, typed=False)

    def _finish(self, output: Any) -> Any:
        if isinstance(output, relax.Tuple):
            return relax.Tuple([self._planar(field) for field in output.fields])
        return self._planar(output)

    def _visit(self, name: str, call: Any) -> Any:
        rule = self.rules.get(op_name(call))
        result = rule(name, call) if rule and is_tensor(self.rewriter.original) else None
        return self._all_planar(call) if result is None else result

    # ---- the two forms of a value
    def blocked_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        images, channels, height, width = shape
        return (images, -(-channels // self.block), height, width, self.block)

    def _is_blocked(self, expr: Any) -> bool:
        return expr in self.logical

    def _shape(self, expr: Any) -> tuple[int, ...]:
        return self.logical[expr] if self._is_blocked(expr) else shape_of(expr)

    def _same_element(self) -> bool:
        return self.options.element == "float32"

    def _call(self, operator: str, operands: list[Any], shape: tuple[int, ...], /, **attrs: Any) -> Any:
        """A call that makes a blocked map."""
        return dialect.call(operator, operands, self.blocked_shape(shape), dtype=self.options.element, **attrs)

    def _emit_blocked(self, call: Any, name: str, logical: tuple[int, ...]) -> Any:
        var = self.rewriter.emit(call, name)
        self.logical[var] = logical
        return var

    def _blocked(self, expr: Any) -> Any:
        if self._is_blocked(expr):
            return expr
        if expr not in self.other_form:
            shape = shape_of(expr)
            if self._same_element() and shape[2:] == (1, 1) and shape[1] % self.block == 0:
                call = relax.op.reshape(expr, self.blocked_shape(shape))
            else:
                call = self._call("to_blocked", [expr], shape)
            self.other_form[expr] = self._emit_blocked(call, self.rewriter.name(expr), shape)
        return self.other_form[expr]

    def _planar(self, expr: Any) -> Any:
        if not self._is_blocked(expr):
            return expr
        if expr not in self.other_form:
            shape = self.logical[expr]
            if self._same_element() and shape[2:] == (1, 1) and shape[1] % self.block == 0:
                call = relax.op.reshape(expr, shape)
            else:
                call = dialect.call("from_blocked", [expr], shape)
            self.other_form[expr] = self.rewriter.emit(call, self.rewriter.name(expr))
        return self.other_form[expr]

    def _all_planar(self, expr: Any) -> Any:
        if isinstance(expr, relax.Call):
            return relax.Call(expr.op, [self._all_planar(arg) for arg in expr.args], expr.attrs, expr.ty_args)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._all_planar(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self._all_planar(expr.tuple_value), expr.index)
        return self._planar(expr) if isinstance(expr, relax.Var) else expr

    # ---- rules
    def _conv(self, name: str, call: Any) -> Any:
        attrs = attributes(call)
        logical = attrs.pop("shape")
        x, weight, bias, *residual = call.args
        depthwise = attrs["groups"] == self._shape(x)[1] and shape_of(weight)[:2] == (attrs["groups"], 1)
        planar = not self._is_blocked(x) and not depthwise and self.options.reads_planar(self._shape(x)[1], attrs)
        operands = [x if planar else self._blocked(x), weight, bias, *map(self._blocked, residual)]
        attrs.update(source="planar" if planar else "blocked", block=self.block, image=self._shape(x), logical=logical)
        return self._emit_blocked(self._call("conv2d", operands, logical, **attrs), name, logical)

    def _pool(self, name: str, call: Any) -> Any:
        attrs = attributes(call)
        logical = attrs.pop("shape")
        attrs.update(block=self.block, image=self._shape(call.args[0]), logical=logical)
        operator = op_name(call).removeprefix("lhcc.")
        pooled = self._call(operator, [self._blocked(call.args[0])], logical, **attrs)
        return self._emit_blocked(pooled, name, logical)

    def _unfold(self, name: str, call: Any) -> Any:
        attrs = attributes(call)
        logical = attrs.pop("shape")
        attrs.update(block=self.block)
        return self._emit_blocked(self._call("unfold", [self._planar(call.args[0])], logical, **attrs), name, logical)

    def _reorder(self, name: str, call: Any) -> Any:
        """A change of layout takes the order along."""
        (x, order), shape = call.args, shape_of(self.rewriter.original)
        if not self._is_blocked(x):
            return self._emit_blocked(self._call("to_blocked", [x, order], shape), name, shape)
        places = np.argsort(values_of(order)).astype(np.int32)
        return dialect.call("from_blocked", [x, constant(places)], shape)

    def _concat(self, name: str, call: Any) -> Any:
        fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        axis = plain(call.attrs.axis)
        if axis not in (1, -3) or not any(map(self._is_blocked, fields)):
            return None
        shapes = [self._shape(field) for field in fields]
        if len(shapes[0]) != 4 or any(shape[1] % self.block for shape in shapes[:-1]):
            return self.rewriter.decline(name, f"its operands do not end at whole blocks of {self.block} channels")
        logical = (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])
        joined = relax.op.concat([self._blocked(field) for field in fields], axis=1)
        return self._emit_blocked(joined, name, logical)

    def _same_form(self, name: str, call: Any) -> Any:
        original = self.rewriter.original
        logical = shape_of(original)
        if len(logical) != 4 or dtype_of(original) != "float32" or not any(map(self._is_blocked, call.args)):
            return None
        operands = [self._aligned(arg, logical) for arg in call.args]
        if any(operand is None for operand in operands):
            return None
        if op_name(call) == "lhcc.activation":
            activation = attributes(call)["activation"]
            new = self._call("activation", operands, logical, activation=activation)
        elif self.options.elementwise:
            function, dtypes = op_name(call).removeprefix("relax."), tuple(map(dtype_of, operands))
            new = self._call("elementwise", operands, logical, function=function, dtypes=dtypes)
        else:
            new = relax.Call(call.op, operands, call.attrs)
        return self._emit_blocked(new, name, logical)

    def _aligned(self, operand: Any, logical: tuple[int, ...]) -> Any:
        """`operand` in a form that broadcasts against a blocked map of shape `logical`; None if there is none."""
        values = array_of(operand)
        if values is not None:
            return self._constant(values, logical)
        shape = self._shape(operand)
        if len(shape) != 4 or shape[1] != logical[1]:
            return None
        return self._blocked(operand)

    def _constant(self, values: NDArray[Any], logical: tuple[int, ...]) -> Any:
        if values.size == 1:
            return constant(values.reshape(()))
        if values.ndim > 4:
            return None
        aligned: tuple[int, ...] = (1,) * (4 - values.ndim) + values.shape
        images, channels, height, width = aligned
        values = values.reshape(aligned)
        if channels == 1:
            return constant(values[:, :, :, :, None])
        padded = np.pad(values, ((0, 0), (0, -channels % self.block), (0, 0), (0, 0)))
        split = padded.reshape(images, -1, self.block, height, width)
        return constant(np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2)))
