"""Which channels of which feature maps are one and the same, so that passes can drop or reorder them everywhere.

Channels that meet element by element (activation, pooling, residual, gate) form a *class*; a layer reads classes and
makes classes.  A class is *fixed* when something outside our reach looks at its position: an input or output of the
network, an operator that mixes channels in its own way.  At an *open seam* (`lhcc.reorder` of a caller that may choose
what it does) one order of the channels ends and another begins: the classes before and behind it are different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.ir.graph import array_of, attributes, is_tensor, op_name, plain, shape_of, values_of

Ids = NDArray[np.int64]
Array = NDArray[Any]

SAME_CHANNELS = {
    "lhcc.activation", "lhcc.pool2d", "lhcc.global_average",
    "relax.exp", "relax.sqrt", "relax.abs", "relax.negative", "relax.sigmoid", "relax.tanh", "relax.nn.relu",
}  # fmt: skip
ELEMENTWISE = {
    "relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.minimum",
}  # fmt: skip
RESHAPING = {"relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims"}


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product whose channels can be told apart; a depthwise one makes the classes it reads."""

    name: str
    var: Any
    call: Any
    weight: Array
    bias: Array

    @property
    def source(self) -> Any:
        return self.call.args[0]

    @property
    def depthwise(self) -> bool:
        return is_depthwise(self.call)

    @property
    def pixels(self) -> int:
        """Outputs per channel."""
        images, _, *image = shape_of(self.call)
        return images * prod(image)


def reads(weight: Array) -> NDArray[np.bool_]:
    """(outputs, inputs): whether a weight reads the input for the output, at any tap."""
    return np.asarray(weight.astype(bool).any(axis=tuple(range(2, weight.ndim))))


def tap_sums(weight: Array) -> Array:
    """(outputs, inputs): what the weights add up to over the taps, in double precision."""
    return np.asarray(weight.sum(axis=tuple(range(2, weight.ndim)), dtype=np.float64))


def is_depthwise(call: Any) -> bool:
    groups = attributes(call).get("groups", 1)
    return groups > 1 and groups == shape_of(call.args[0])[1] and shape_of(call.args[1])[:2] == (groups, 1)


class Channels:
    """The classes of a module in the dialect: `ids[value][channel]`; `fixed[class]` says why a class must stay."""

    def __init__(self, mod: tvm.IRModule, open_seams: bool = False) -> None:
        self.open_seams = open_seams
        self.parents: list[int] = []
        self.ids: dict[Any, Ids] = {}
        self.fixed: dict[int, str] = {}
        self.layers: list[Layer] = []
        self.seams: list[tuple[Any, Any]] = []  # open ones: the map behind it and the map before
        main = mod["main"]
        for param in main.params:
            if _has_channels(param):
                self.ids[param] = self._fresh(param, "an input of the network")
        for block in main.body.blocks:
            for binding in block.bindings:
                self._binding(binding.var, binding.value)
        self._fix(main.body.body, "an output of the network")
        roots = np.array([self._root(number) for number in range(len(self.parents))], np.int64)
        self.ids = {var: roots[ids] for var, ids in self.ids.items()}
        self.fixed = {int(roots[number]): reason for number, reason in reversed(self.fixed.items())}

    @property
    def count(self) -> int:
        return len(self.parents)

    # ---- classes
    def _root(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def _fresh(self, value: Any, fixed: str = "") -> Ids:
        ids = np.arange(len(self.parents), len(self.parents) + shape_of(value)[1])
        self.parents += ids.tolist()
        if fixed:
            self.fixed.update(dict.fromkeys(ids.tolist(), fixed))
        return ids

    def _unite(self, left: Ids, right: Ids) -> None:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            first, second = sorted((self._root(a), self._root(b)))
            self.parents[second] = first

    def _fix(self, expr: Any, reason: str) -> None:
        for part in expr.fields if isinstance(expr, relax.Tuple) else [expr]:
            if isinstance(part, relax.Tuple):
                self._fix(part, reason)
            elif part in self.ids:
                for number in self.ids[part].tolist():
                    self.fixed.setdefault(number, reason)

    # ---- operators
    def _binding(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.Var):
            if value in self.ids:
                self.ids[var] = self.ids[value]
            return
        ids = self._call(var, value) if isinstance(value, relax.Call) and _has_channels(value) else None
        if ids is None:
            operator = op_name(value)
            reason = f"'{var.name}' ({operator or 'tuple'}) needs every channel in its place"
            if operator:
                for arg in value.args:
                    self._fix(arg, reason)
            elif isinstance(value, (relax.Tuple, relax.TupleGetItem)):
                self._fix(value, reason)
            if _has_channels(value):
                ids = self._fresh(value, reason)
        if ids is not None:
            self.ids[var] = ids

    def _call(self, var: Any, call: Any) -> Ids | None:
        """The classes of the result; None if the operator is not one that we can see through."""
        operator = op_name(call)
        if operator in ("lhcc.conv2d", "lhcc.dense"):
            return self._layer(var, call)
        source = self.ids.get(call.args[0]) if call.args else None
        if operator in ELEMENTWISE:
            return self._elementwise(call)
        if operator == "relax.concat":
            return self._concat(call)
        if source is None:
            return None
        if operator == "lhcc.reorder" and self.open_seams:
            self.seams.append((var, call.args[0]))
            return self._fresh(call)
        if operator in SAME_CHANNELS or _spatial(operator, call):
            return source
        return self._reshaped(call, source) if operator in RESHAPING else None

    def _layer(self, var: Any, call: Any) -> Ids | None:
        x, weight, bias, *residual = call.args
        groups = attributes(call).get("groups", 1)
        if groups > 1 and not is_depthwise(call):
            return None
        layer = Layer(str(var.name), var, call, values_of(weight), values_of(bias))
        makes = self.ids[x] if layer.depthwise else self._fresh(call)
        for added in residual:
            if added not in self.ids:
                return None
            self._unite(makes, self.ids[added])
        self.layers.append(layer)
        return makes

    def _elementwise(self, call: Any) -> Ids | None:
        shape = shape_of(call)
        variables = [arg for arg in call.args if array_of(arg) is None]
        if len(shape) < 2 or not variables:
            return None
        if any(len(shape_of(arg)) != len(shape) or shape_of(arg)[1] != shape[1] for arg in variables):
            return None
        ids = self.ids[variables[0]]
        for other in variables[1:]:
            self._unite(ids, self.ids[other])
        return ids

    def _concat(self, call: Any) -> Ids | None:
        fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else []
        if not fields or plain(call.attrs.axis) not in (1, 1 - len(shape_of(call))):
            return None
        if any(field not in self.ids for field in fields):
            return None
        return np.concatenate([self.ids[field] for field in fields])

    def _reshaped(self, call: Any, source: Ids) -> Ids | None:
        before, after = shape_of(call.args[0]), shape_of(call)
        if len(before) < 2 or len(after) < 2 or before[0] != after[0]:
            return None
        if before[1] == after[1]:
            return source
        flat = len(after) == 2 or prod(after[2:]) == 1
        return np.repeat(source, prod(before[2:])) if flat else None

    # ---- what passes use
    def segments(self) -> list[Ids]:
        """The classes that are not fixed, in lists: those of a list stand in the same maps, in the same order."""
        places: list[list[int]] = [[] for _ in range(self.count)]
        for number, ids in enumerate(self.ids.values()):
            for class_ in ids.tolist():
                places[class_].append(number)
        lists: dict[tuple[int, ...], list[int]] = {}
        for class_, maps in enumerate(places):
            if maps and class_ not in self.fixed:
                lists.setdefault(tuple(maps), []).append(class_)
        return [np.array(classes) for classes in lists.values()]

    def touching(self, segment: Ids) -> list[Layer]:
        """The layers that read or make a class of the segment."""
        first = int(segment[0])
        return [layer for layer in self.layers if first in self.ids[layer.var] or first in self.ids[layer.source]]

    def taken(self, var: Any, place: Ids, alive: NDArray[np.bool_] | None = None) -> Ids:
        """Positions of a map's channels in their new order, when class `place[c]` goes where class `c` stood and only
        the classes that are `alive` stay.  A class that occurs several times keeps the order of its occurrences."""
        ids = self.ids[var]
        order = np.argsort(ids, kind="stable")
        ranked = ids[order]
        rank = np.empty_like(ids)
        rank[order] = np.arange(len(ids)) - np.searchsorted(ranked, ranked)
        source = order[np.searchsorted(ranked, place[ids]) + rank]
        return np.asarray(source if alive is None else source[alive[ids]])


def _has_channels(value: Any) -> bool:
    return is_tensor(value) and len(shape_of(value)) > 1


def _spatial(operator: str, call: Any) -> bool:
    """Whether the operator works on the image only: resizing, a border."""
    if operator == "relax.nn.pad":
        return not any(plain(call.attrs.pad_width)[:4])
    return operator == "relax.image.resize2d" and call.attrs.layout == "NCHW"
