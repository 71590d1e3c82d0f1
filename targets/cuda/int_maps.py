"""Integer kernels over whole maps: from the user's numbers to integers and back, and steps that no sum took in.

A thread works on 8 neighbouring channels of a pixel, as in `maps.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, get, integer, put, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.ending import after
from lhcc.targets.cuda.maps import PIECES, WIDTH, Items, Pair
from lhcc.targets.cuda.spec import Integers
from lhcc.targets.cuda.tir import address, both, call, divided, local, unrolled, when

Expr = Any
Kernel = Any


@dataclass(frozen=True)
class Map:
    """An integer map (images, channels, height, width): bytes where they hold the interval, or words."""

    images: int
    channels: int
    height: int
    width: int
    element: str  # uint8, int8, int32

    @property
    def blocks(self) -> int:
        return -(-self.channels // BLOCK)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return self.images, self.blocks, self.height, self.width, BLOCK


class _Lanes:
    """A kernel whose threads hold the 8 channels `channel` .. of a map at one pixel."""

    def __init__(self, place: Map) -> None:
        self.place = place
        self.items = Items(prod(place.shape) // WIDTH)
        plane, self.row, self.column, piece = divided(self.items.item, place.height, place.width, PIECES)
        self.image, block = divided(plane, place.blocks)
        self.channel = block * BLOCK + piece * WIDTH
        self.values, self.lane = local("values", WIDTH, "int32"), var("lane")

    def each(self, *body: Any) -> Any:
        return unrolled(self.lane, WIDTH, T.SeqStmt(list(body)) if len(body) > 1 else body[0])

    def load(self, view: Expr) -> Any:
        return call(f"load_channels<{WIDTH}>", address(self.values), address(view, self.items.item * WIDTH))

    def store(self, view: Expr) -> Any:
        return call(f"store_channels<{WIDTH}>", address(view, self.items.item * WIDTH), address(self.values))


def enter(
    shape: tuple[int, ...], place: Map, number: Callable[[Expr], Expr], element: str, kernel: Pair = (1, 1),
    strides: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1),
) -> Kernel:  # fmt: skip
    """The user's planar map as integers, `number` of each element; with a kernel, unfolded: what a convolution reads
    becomes channels of its outputs.  Outside the image, and in channels that do not exist, are zeros."""
    channels, height, width = (*shape[1:], 1, 1)[:3]
    source, target = tensor("source", list(shape), element), tensor("target", list(place.shape), place.element)
    (x, see_x), (y, see_y) = flat(source, "x", element), flat(target, "y", place.element)
    lanes, at_y, at_x = _Lanes(place), var("at_y"), var("at_x")
    channel, tap_row, tap_column = divided(lanes.channel + lanes.lane, *kernel)
    inside = both(
        channel < integer(channels), at_y >= integer(0), at_y < integer(height), at_x >= integer(0),
        at_x < integer(width),
    )  # fmt: skip
    read = get(x, ((lanes.image * channels + channel) * height + at_y) * width + at_x)
    body = [
        T.AllocBuffer(lanes.values),
        lanes.each(
            T.Bind(at_y, lanes.row * strides[0] - padding[0] + tap_row * dilation[0]),
            T.Bind(at_x, lanes.column * strides[1] - padding[1] + tap_column * dilation[1]),
            put(lanes.values, integer(0), lanes.lane),
            when(inside, [put(lanes.values, number(read), lanes.lane)]),
        ),
        lanes.store(y),
    ]
    return lanes.items.build([source, target], [see_x, see_y], body)


def quantised(scale: float, low: int, high: int) -> Callable[[Expr], Expr]:
    """floor(x / scale + 1/2) in float64, clipped."""

    def number(value: Expr) -> Expr:
        real = T.floor(T.Cast("float64", value) / const(scale, 1, "float64") + const(0.5, 1, "float64"))
        return T.Cast("int32", T.Max(T.Min(real, const(high, 1, "float64")), const(low, 1, "float64")))

    return number


def clipped(low: int, high: int) -> Callable[[Expr], Expr]:
    return lambda value: T.Max(T.Min(T.Cast("int32", value), integer(high)), integer(low))


def leave(place: Map, shape: tuple[int, ...], element: str, real: bool) -> Kernel:
    """A map as planar integers; or, with (map, scale per channel in float64), as the numbers that they stand for."""
    source, target = tensor("source", list(place.shape), place.element), tensor("target", list(shape), element)
    scale = tensor("scale", [integer(place.channels)], "float64")
    (x, see_x), (y, see_y) = flat(source, "x", place.element), flat(target, "y", element)
    lanes, channel = _Lanes(place), var("channel")
    number = get(lanes.values, lanes.lane)
    result = T.Cast("float64", number) * get(scale, channel) if real else number
    to = ((lanes.image * place.channels + channel) * place.height + lanes.row) * place.width + lanes.column
    body = [
        T.AllocBuffer(lanes.values),
        lanes.load(x),
        lanes.each(
            T.Bind(channel, lanes.channel + lanes.lane),
            when(channel < integer(place.channels), [put(y, T.Cast(element, result), to)]),
        ),
    ]
    return lanes.items.build([source, *([scale] if real else []), target], [see_x, see_y], body)


def steps(source: Map, target: Map, integers: Integers) -> Kernel:
    """(map, table[, other map]) -> map: clips, requantisations and an addition, element by element."""
    first = tensor("source", list(source.shape), source.element)
    into = tensor("target", list(target.shape), target.element)
    other = tensor("other", list(source.shape), integers.added or source.element)
    table = tensor("table", [var("table_size")], "int32")
    (x, see_x), (y, see_y) = flat(first, "x", source.element), flat(into, "y", target.element)
    o, see_o = flat(other, "o", integers.added or source.element)
    lanes, added = _Lanes(source), local("added", WIDTH, "int32")
    plus = get(added, lanes.lane) if integers.added else None
    channel = lanes.channel + lanes.lane
    result = after(integers, get(lanes.values, lanes.lane), plus, table, channel, source.blocks * BLOCK)
    body = [T.AllocBuffer(lanes.values), lanes.load(x)]
    if integers.added:
        place = address(o, lanes.items.item * WIDTH)
        body += [T.AllocBuffer(added), call(f"load_channels<{WIDTH}>", address(added), place)]
    body += [lanes.each(put(lanes.values, result, lanes.lane)), lanes.store(y)]
    operands = [first, table, *([other] if integers.added else []), into]
    return lanes.items.build(operands, [see_x, see_y, *([see_o] if integers.added else [])], body)


def piecewise(source: Map, target: Map, segments: int) -> Kernel:
    """(map, breakpoints then slopes then offsets) -> map: the segment is found by counting breakpoints passed."""
    first, into = (tensor(n, list(m.shape), m.element) for n, m in (("source", source), ("target", target)))
    table = tensor("table", [integer(3 * segments - 1)], "int32")
    (x, see_x), (y, see_y) = flat(first, "x", source.element), flat(into, "y", target.element)
    lanes, number, segment, passed = _Lanes(source), var("number"), local("segment", 1, "int32"), var("passed")
    count = put(segment, get(segment) + T.Cast("int32", number >= get(table, passed)))
    body = [
        T.AllocBuffer(lanes.values),
        T.AllocBuffer(segment),
        lanes.load(x),
        lanes.each(
            T.Bind(number, get(lanes.values, lanes.lane)),
            put(segment, integer(0)),
            T.For(passed, integer(0), integer(segments - 1), T.stmt.ForKind.SERIAL, count),
            put(
                lanes.values,
                get(table, get(segment) + (segments - 1)) * number + get(table, get(segment) + (2 * segments - 1)),
                lanes.lane,
            ),
        ),
        lanes.store(y),
    ]
    return lanes.items.build([first, table, into], [see_x, see_y], body)


def gather(sources: list[Map], target: Map, flatten: bool) -> Kernel:
    """Maps side by side by channels, or one map as a vector, row by row, pixel by pixel, channel by channel."""
    tensors = [tensor(f"source{n}", list(source.shape), source.element) for n, source in enumerate(sources)]
    views = [flat(t, f"x{n}", s.element) for n, (t, s) in enumerate(zip(tensors, sources, strict=True))]
    into = tensor("target", list(target.shape), target.element)
    y, see_y = flat(into, "y", target.element)
    lanes, own = _Lanes(target), var("own")
    copies, first = [], 0
    for source, (x, _) in zip(sources, views, strict=True):
        pixels = source.height * source.width
        pixel, channel = lanes.row * source.width + lanes.column, own - first
        last = first + source.channels
        if flatten:
            pixel, channel = divided(own, source.channels)
            last = pixels * source.channels
        block, place = divided(channel, BLOCK)
        at = ((lanes.image * source.blocks + block) * pixels + pixel) * BLOCK + place
        read = put(lanes.values, T.Cast("int32", get(x, at)), lanes.lane)
        copies.append(when(both(own >= integer(first), own < integer(last)), [read]))
        first = last
    begin = [T.Bind(own, lanes.channel + lanes.lane), put(lanes.values, integer(0), lanes.lane)]
    body = [T.AllocBuffer(lanes.values), lanes.each(*begin, *copies), lanes.store(y)]
    return lanes.items.build([*tensors, into], [*[see for _, see in views], see_y], body)
