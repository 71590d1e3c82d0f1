"""Integer layers as literal shifts and additions: every addition of a layer's adder graphs is one line of its code.

A processor multiplies as fast as it shifts, so this is for study and for cores without a multiplier.  Sixteen outputs
at a time share what they have in common (`lhcc.encodings.adders`); inputs that no weight reads are not even loaded.
The lanes of a vector are pixels of one row, so the input is first laid out as planes, one per channel, with its border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings.adders import AdderGraph, solve
from lhcc.encodings.dyadic import digit_count
from lhcc.encodings.tiles import ungroup
from lhcc.errors import TargetError
from lhcc.integer import Conv, Dense, TensorType
from lhcc.integer.core import Pair, Sides
from lhcc.ir.int_steps import apply, fits
from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, shared, tensor, var
from lhcc.ir.vector import const, typed
from lhcc.targets.cpu.int_plan import weights_of
from lhcc.targets.cpu.int_storage import BLOCK, Map

LANES = 16
READ = 256  # inputs that share their additions: for many more, finding what they share takes minutes
MOST = 400_000  # additions of a layer; a compiler takes minutes for more of them


@dataclass(frozen=True)
class Part:
    """What some inputs, as (channel, row, column of the kernel), add to a block of outputs."""

    block: int
    first: bool  # of its block
    inputs: tuple[tuple[int, int, int], ...]
    graph: AdderGraph


@dataclass(frozen=True)
class Additions:
    """A layer as additions."""

    parts: tuple[Part, ...]
    bias: NDArray[np.int32]
    kernel: Pair
    stride: Pair
    padding: Sides
    dilation: Pair
    before_sharing: int

    @classmethod
    def of(cls, step: Conv | Dense, x: TensorType) -> Additions:
        weight = weights_of(step)
        if isinstance(step, Conv):
            weight = np.asarray(ungroup(weight, step.groups))  # type: ignore[arg-type]
        before = _plain(weight)
        if before > MOST:
            raise TargetError(
                f"layer '{step.name}' takes {before:,} additions, and as code no more than {MOST:,} make sense",
                "compile it without arith shift",
            )
        parts = []
        for first in range(0, len(weight), BLOCK):
            block = weight[first : first + BLOCK]
            every = np.argwhere(block.any(axis=0))
            for start in range(0, max(1, len(every)), READ):
                read = every[start : start + READ]
                graph = solve(block[:, read[:, 0], read[:, 1], read[:, 2]].T, seconds=0, peers=False)
                _check(step.name, graph, x, read[:, 0])
                inputs = tuple((int(c), int(i), int(j)) for c, i, j in read)
                parts.append(Part(first // BLOCK, start == 0, inputs, graph))
        whole = (1, 1), (0, 0, 0, 0), (1, 1)
        stride, padding, dilation = (step.stride, step.padding, step.dilation) if isinstance(step, Conv) else whole
        kernel = int(weight.shape[2]), int(weight.shape[3])
        return cls(tuple(parts), step.bias.astype(np.int32), kernel, stride, padding, dilation, before)

    @property
    def count(self) -> int:
        joined = sum(out.node >= 0 for part in self.parts if not part.first for out in part.graph.outputs)
        return joined + sum(part.graph.adders for part in self.parts)

    def __str__(self) -> str:
        depth = max((part.graph.depth for part in self.parts), default=0)
        return f"{self.count:,} additions as code, {self.before_sharing:,} before sharing, {depth} deep"


def _plain(weight: NDArray[np.int64]) -> int:
    """Additions when nothing is shared."""
    per_output = digit_count(weight).reshape(len(weight), -1).sum(axis=1)
    return int(np.maximum(per_output - 1, 0).sum())


def _check(name: str, graph: AdderGraph, x: TensorType, channels: NDArray[np.int64]) -> None:
    """A border may stand for any input, so every interval holds 0; what is shared may be larger than any output."""
    low, high = graph.ranges(np.minimum(x.low[channels], 0), np.maximum(x.high[channels], 0))
    if graph.operations and not fits(low.min(), high.max()):
        raise TargetError(f"layer '{name}' shares sums that need more than 32 bits", "compile it without arith shift")


def planes(place: Map, padding: Sides, threads: int) -> tuple[tuple[int, ...], Any]:
    """The shape of a map as planes with their border, and the kernel that makes them."""
    top, left, bottom, right = padding
    shape = (place.images, place.channels, place.height + top + bottom, place.width + left + right)
    source, target = tensor("source", list(place.shape), "int32"), tensor("target", list(shape), "int32")
    (x, see_x), (y, see_y) = place.see(source, "x"), flat(target, "y", "int32")
    unit, row, column = var("unit"), var("row"), var("column")
    image, channel = T.floordiv(unit, integer(place.channels)), T.floormod(unit, integer(place.channels))
    plane = image * integer(place.blocks) + T.floordiv(channel, integer(place.block))
    pixel = (plane * integer(place.height) + row - integer(top)) * integer(place.width) + column - integer(left)
    inside = T.all(
        row >= integer(top), row < integer(top + place.height),
        column >= integer(left), column < integer(left + place.width),
    )  # fmt: skip
    to = (unit * integer(shape[2]) + row) * integer(shape[3]) + column
    value = T.Cast("int32", get(x, pixel * integer(place.block) + T.floormod(channel, integer(place.block))))
    copy = T.IfThenElse(inside, put(y, value, to), put(y, integer(0), to))
    body = [loop(row, shape[2], [loop(column, shape[3], [copy])])]
    work = shared(unit, place.images * place.channels, threads, body)
    return shape, function([source, target], [see_x, see_y, work])


def additions(
    layer: Additions, shape: tuple[int, ...], target: Map, other: Map | None, steps: tuple[str, ...],
    other_steps: tuple[str, ...], threads: int,
) -> Any:  # fmt: skip
    """(planes, bias, table[, other map]) -> map."""
    source, into = tensor("source", list(shape), "int32"), tensor("target", list(target.shape), "int32")
    bias, table = tensor("bias", [var("bias_size")], "int32"), tensor("table", [var("table_size")], "int32")
    second = tensor("other", list((other or target).shape), "int32")
    (x, see_x), (y, see_y), (o, see_o) = (
        flat(source, "x", "int32"), target.see(into, "y"), (other or target).see(second, "o"),
    )  # fmt: skip
    lanes = 1 << min(LANES, target.width).bit_length() - 1
    chunks = -(-target.width // lanes)
    sums = T.decl_buffer((integer(lanes * BLOCK),), "int32", "sums", data_alignment=64)
    unit, start, each = var("unit"), var("start"), var("each")
    image, row = T.floordiv(unit, integer(chunks * target.height)), var("row")
    base = var("base")
    code: list[Stmt] = [
        T.AllocBuffer(sums),
        T.Bind(row, T.floormod(T.floordiv(unit, integer(chunks)), integer(target.height))),
        # the last pixels of a row are computed twice where they fill no vector
        T.Bind(start, T.Min(T.floormod(unit, integer(chunks)) * integer(lanes), integer(target.width - lanes))),
        T.Bind(
            base,
            (image * integer(shape[1] * shape[2]) + row * integer(layer.stride[0])) * integer(shape[3])
            + start * integer(layer.stride[1]),
        ),
    ]
    padded = integer(target.blocks * BLOCK)
    for block in range(target.blocks):
        for part in (part for part in layer.parts if part.block == block):
            code += _part(part, x, base, shape, layer, lanes, sums)
        at = ((image * integer(target.blocks) + integer(block)) * integer(target.height) + row) * integer(target.width)
        channel = integer(block * BLOCK)
        added = None
        if other is not None:
            added = apply(other.load(o, at + start + each), other_steps, BLOCK, table, channel, padded, None)
        value = get(sums, each * integer(BLOCK), BLOCK) + get(bias, channel, BLOCK)
        result = apply(value, steps, BLOCK, table, channel, padded, added)
        code.append(loop(each, lanes, [target.save(y, at + start + each, result)]))
    arguments = [source, bias, table, *([second] if other is not None else []), into]
    views = [see_x, see_y, *([see_o] if other is not None else [])]
    return function(arguments, [*views, shared(unit, target.images * target.height * chunks, threads, code)])


def _part(
    part: Part, x: Expr, base: Expr, shape: tuple[int, ...], layer: Additions, lanes: int, sums: Expr
) -> list[Stmt]:
    """Adds to the sums of a block of outputs at some pixels of a row, an output's pixels BLOCK apart."""
    code: list[Stmt] = []
    kind, nodes = typed("int32", lanes), list[Expr]()

    def bind(value: Expr) -> None:
        nodes.append(var(f"n{part.block}_{len(nodes)}", kind))
        code.append(T.Bind(nodes[-1], value))

    for channel, i, j in part.inputs:
        offset = (channel * shape[2] + i * layer.dilation[0]) * shape[3] + j * layer.dilation[1]
        at = base + integer(offset)
        bind(T.BufferLoad(x, [at if lanes == 1 else T.Ramp(at, layer.stride[1], lanes)]))
    for adder in part.graph.operations:
        left = _shift(nodes[adder.left], adder.left_shift, lanes)
        right = _shift(nodes[adder.right], adder.right_shift, lanes)
        bind(left - right if adder.subtract else left + right)
    outputs = part.graph.outputs
    for lane in range(BLOCK):
        to = integer(lane) if lanes == 1 else T.Ramp(integer(lane), BLOCK, lanes)
        value = const(0, lanes, "int32") if part.first else T.BufferLoad(sums, [to])
        if lane < len(outputs) and outputs[lane].node >= 0:
            node = _shift(nodes[outputs[lane].node], outputs[lane].shift, lanes)
            value = value - node if outputs[lane].negative else value + node
        code.append(T.BufferStore(sums, value, [to]))
    return code


def _shift(value: Expr, amount: int, lanes: int) -> Expr:
    """value * 2^amount, which is a whole number even where the amount is negative."""
    if amount < 0:
        return value >> const(-amount, lanes, "int32")
    return value << const(amount, lanes, "int32") if amount else value
