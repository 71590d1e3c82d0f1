"""Integer kernels over whole maps: from the user's numbers to integers and back, and steps that no sum took in."""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, shared, tensor, var
from lhcc.targets.cpu.int_conv import QUAD, pack_bytes, unpack
from lhcc.targets.cpu.int_steps import apply

BLOCK = 16


@dataclass(frozen=True)
class Map:
    """An integer map (images, channels, height, width): packed bytes, or 32-bit words; channels in blocks."""

    images: int
    channels: int
    height: int
    width: int
    packed: bool

    @property
    def blocks(self) -> int:
        return -(-self.channels // BLOCK)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def words(self) -> int:
        """32-bit words of one block at one pixel."""
        return QUAD if self.packed else BLOCK

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images, self.blocks, self.height, self.width, self.words


def load(buffer: Expr, place: Map, position: Expr) -> Expr:
    """The sixteen channels of a block at one pixel; `position` counts blocks of channels at pixels."""
    at = position * integer(place.words)
    return unpack(get(buffer, at, QUAD), BLOCK) if place.packed else get(buffer, at, BLOCK)


def save(buffer: Expr, place: Map, position: Expr, value: Expr) -> Stmt:
    at = position * integer(place.words)
    return put(buffer, pack_bytes(value, BLOCK), at, QUAD) if place.packed else put(buffer, value, at, BLOCK)


def quantise(shape: tuple[int, ...], place: Map, scale: float, low: int, high: int, real: bool, threads: int) -> Any:
    """floor(x / scale + 1/2) in float64, clipped; channels that do not exist become zero.  `real`: as float32 bits."""
    source, target = tensor("source", list(shape)), tensor("target", list(place.shape), "int32")
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y", "int32")
    row = T.decl_buffer((integer(BLOCK),), "int32", "row", data_alignment=64)
    unit, lane, pixel = var("unit"), var("lane"), var("pixel")
    image = T.floordiv(unit, integer(place.blocks))
    channel = T.floormod(unit, integer(place.blocks)) * integer(BLOCK) + lane
    at = (image * integer(place.channels) + channel) * integer(place.pixels) + pixel
    exact = frexp(scale)[0] == 0.5  # then the reciprocal is exact too, and a product is faster than a quotient
    wide = T.Cast("float64", get(x, at))
    scaled = wide * T.FloatImm("float64", 1 / scale) if exact else wide / T.FloatImm("float64", scale)
    nearest = T.floor(scaled + T.FloatImm("float64", 0.5))
    clipped = T.Max(T.Min(nearest, T.FloatImm("float64", high)), T.FloatImm("float64", low))
    one = put(row, T.Cast("int32", clipped), lane)
    lanes = BLOCK
    if place.blocks == 1:
        lanes = place.channels
    elif place.channels % BLOCK:
        one = T.IfThenElse(channel < integer(place.channels), one, put(row, integer(0), lane))
    values = get(row, integer(0), BLOCK)
    if real:
        values = T.reinterpret(f"int32x{BLOCK}", T.Cast(f"float32x{BLOCK}", values))
    code = [loop(lane, lanes, [one]), save(y, place, unit * integer(place.pixels) + pixel, values)]
    blank = [T.AllocBuffer(row), put(row, T.Broadcast(integer(0), BLOCK), integer(0), BLOCK)]
    body = shared(unit, place.images * place.blocks, threads, [*blank, loop(pixel, place.pixels, code)])
    return function([source, target], [see_x, see_y, body])


def dequantise(place: Map, shape: tuple[int, ...], threads: int) -> Any:
    """(map, scale per channel in float64) -> float32, planar: what the integers stand for."""
    source, target = tensor("source", list(place.shape), "int32"), tensor("target", list(shape))
    scale = tensor("scale", [integer(place.channels)], "float64")
    (x, see_x), (y, see_y) = flat(source, "x", "int32"), flat(target, "y")
    row = T.decl_buffer((integer(BLOCK),), "int32", "row", data_alignment=64)
    unit, lane, pixel = var("unit"), var("lane"), var("pixel")
    image = T.floordiv(unit, integer(place.blocks))
    channel = T.floormod(unit, integer(place.blocks)) * integer(BLOCK) + lane
    at = (image * integer(place.channels) + channel) * integer(place.pixels) + pixel
    real = T.Cast("float32", T.Cast("float64", get(row, lane)) * get(scale, channel))
    one = T.IfThenElse(channel < integer(place.channels), put(y, real, at), None)
    code = [
        T.AllocBuffer(row),
        put(row, load(x, place, unit * integer(place.pixels) + pixel), integer(0), BLOCK),
        loop(lane, BLOCK, [one]),
    ]
    body = shared(unit, place.images * place.blocks, threads, [loop(pixel, place.pixels, code)])
    return function([source, scale, target], [see_x, see_y, body])


def steps(source: Map, other: Map | None, target: Map, names: tuple[str, ...], threads: int) -> Any:
    """(map, table[, other map]) -> map: clips, requantisations and an addition, element by element."""
    first, second = (
        tensor("source", list(source.shape), "int32"),
        tensor("other", list((other or source).shape), "int32"),
    )
    into, table = tensor("target", list(target.shape), "int32"), tensor("table", [var("table_size")], "int32")
    (x, see_x), (y, see_y), (o, see_o) = flat(first, "x", "int32"), flat(into, "y", "int32"), flat(second, "o", "int32")
    unit, pixel = var("unit"), var("pixel")
    position = unit * integer(source.pixels) + pixel
    channel = T.floormod(unit, integer(source.blocks)) * integer(BLOCK)
    added = load(o, other, position) if other is not None else None
    padded = integer(source.blocks * BLOCK)
    result = apply(load(x, source, position), names, BLOCK, table, channel, padded, added)
    body = [loop(pixel, source.pixels, [save(y, target, position, result)])]
    arguments = [first, table, *([second] if other is not None else []), into]
    views = [see_x, see_y, *([see_o] if other is not None else [])]
    return function(arguments, [*views, shared(unit, source.images * source.blocks, threads, body)])


def piecewise(source: Map, target: Map, segments: int, threads: int) -> Any:
    """(map, breakpoints then slopes then offsets) -> map: the segment is found by counting breakpoints passed."""
    first, into = tensor("source", list(source.shape), "int32"), tensor("target", list(target.shape), "int32")
    table = tensor("table", [integer(3 * segments - 1)], "int32")
    (x, see_x), (y, see_y) = flat(first, "x", "int32"), flat(into, "y", "int32")
    unit, pixel = var("unit"), var("pixel")
    position = unit * integer(source.pixels) + pixel
    value = load(x, source, position)

    def spread(number: int) -> Expr:
        return T.Broadcast(get(table, integer(number)), BLOCK)

    result = spread(segments - 1) * value + spread(2 * segments - 1)
    for k in range(segments - 1):
        beyond = value >= spread(k)
        result = T.Select(beyond, spread(segments + k) * value + spread(2 * segments + k), result)
    body = [loop(pixel, source.pixels, [save(y, target, position, result)])]
    work = shared(unit, source.images * source.blocks, threads, body)
    return function([first, table, into], [see_x, see_y, work])


def gather(sources: list[Map], target: Map, flatten: bool, threads: int) -> Any:
    """Maps side by side by channels, or one map as a vector, row by row, pixel by pixel, channel by channel."""
    tensors = [tensor(f"source{n}", list(source.shape), "int32") for n, source in enumerate(sources)]
    into = tensor("target", list(target.shape), "int32")
    pairs = zip(tensors, sources, strict=True)
    views = [flat(t, f"x{n}", "int8" if s.packed else "int32") for n, (t, s) in enumerate(pairs)]
    y, see_y = flat(into, "y", "int8" if target.packed else "int32")
    image, channel, pixel = var("image"), var("channel"), var("pixel")

    def element(place: Map, channel: Expr, pixel: Expr) -> Expr:
        block, lane = T.floordiv(channel, integer(BLOCK)), T.floormod(channel, integer(BLOCK))
        return ((image * integer(place.blocks) + block) * integer(place.pixels) + pixel) * integer(BLOCK) + lane

    code: list[Stmt] = []
    first = 0
    for source, (x, _) in zip(sources, views, strict=True):
        if flatten:
            to = element(target, pixel * integer(source.channels) + channel, integer(0))
        else:
            to = element(target, channel + integer(first), pixel)
        copy = put(y, get(x, element(source, channel, pixel)), to)
        code.append(loop(pixel, source.pixels, [loop(channel, source.channels, [copy])]))
        first += source.channels
    body = shared(image, target.images, threads, code)
    return function([*tensors, into], [*[see for _, see in views], see_y, body])
